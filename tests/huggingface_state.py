"""transformers' T5 weights <-> our θ as numpy arrays, paired apart from interop/; for tests."""

from collections.abc import Iterator

import numpy as np
from flax import traverse_util

from prompt_tuning_jax.t5 import T5Config

EMBEDDING = "token_embedder/embedding"
# a block's sublayers in transformers' order: (our norm, our module, transformers' module)
BLOCKS = {
    "encoder": [
        ("pre_attention_layer_norm", "attention", "SelfAttention"),
        ("pre_mlp_layer_norm", "mlp", "DenseReluDense"),
    ],
    "decoder": [
        ("pre_self_attention_layer_norm", "self_attention", "SelfAttention"),
        ("pre_cross_attention_layer_norm", "encoder_decoder_attention", "EncDecAttention"),
        ("pre_mlp_layer_norm", "mlp", "DenseReluDense"),
    ],
}
ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}


def names(config: T5Config) -> Iterator[tuple[str, str, int | None]]:
    """Every parameter: transformers' name, our path, and its layer in a stacked leaf or None."""
    yield "shared.weight", EMBEDDING, None
    if not config.logits_via_embedding:
        yield "lm_head.weight", "decoder/logits_dense/kernel", None
    gates = len(config.mlp_activations)
    mlp = {name: name for name in [*(["wi"] if gates == 1 else ["wi_0", "wi_1"]), "wo"]}
    depths = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
    for stack, blocks in BLOCKS.items():
        yield f"{stack}.final_layer_norm.weight", f"{stack}/{stack}_norm/scale", None
        table = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield table, f"{stack}/relpos_bias/rel_embedding", None
        for layer in range(depths[stack]):
            for i, (norm, ours, theirs) in enumerate(blocks):
                there, here = f"{stack}.block.{layer}.layer.{i}", f"{stack}/layers"
                yield f"{there}.layer_norm.weight", f"{here}/{norm}/scale", layer
                for a, b in (mlp if ours == "mlp" else ATTENTION).items():
                    yield f"{there}.{theirs}.{b}.weight", f"{here}/{ours}/{a}/kernel", layer


def to_theta(state: dict[str, np.ndarray], config: T5Config) -> dict:
    """A state dict -> θ: matrices transposed (but the embedding), a stack's layers on axis 0."""
    leaves: dict[str, np.ndarray] = {}
    layers: dict[str, list[np.ndarray]] = {}
    for name, path, layer in names(config):
        array = state[name] if path == EMBEDDING else state[name].T
        if layer is None:
            leaves[path] = array
        else:
            layers.setdefault(path, []).append(array)
    return traverse_util.unflatten_dict(
        leaves | {path: np.stack(arrays) for path, arrays in layers.items()}, sep="/"
    )


def to_state(theta: dict, config: T5Config) -> dict[str, np.ndarray]:
    """θ -> a state dict, the inverse of `to_theta`."""
    leaves = traverse_util.flatten_dict(theta, sep="/")
    state = {}
    for name, path, layer in names(config):
        array = np.asarray(leaves[path] if layer is None else leaves[path][layer])
        state[name] = array if path == EMBEDDING else array.T
    return state
