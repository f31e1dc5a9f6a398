"""Models, inputs and prompts made from numpy seeds, so that golden values need no stored weights.

The parity tests and `make_golden.py` give the same arrays to transformers. RandomState's streams
are frozen by numpy's policy (NEP 19).
"""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from prompt_tuning_jax import t5

# T5 1.1 (also Flan's and mT5's shape) with heads * d_kv != d_model and unequal stacks, and T5 1.0
CONFIGS = {
    "t5_1_1": t5.T5Config(
        vocab_size=64,
        emb_dim=32,
        num_heads=3,
        head_dim=16,
        num_encoder_layers=3,
        num_decoder_layers=2,
        mlp_dim=48,
        dropout_rate=0.0,
    ),
    "t5_1_0": t5.T5Config(
        vocab_size=56,
        emb_dim=24,
        num_heads=4,
        head_dim=6,
        num_encoder_layers=2,
        num_decoder_layers=2,
        mlp_dim=40,
        mlp_activations=("relu",),
        logits_via_embedding=True,
        dropout_rate=0.0,
    ),
}

LENGTH = 16  # tokens to generate
GENERATED = {"seed": 1, "rows": 32}  # the batch to generate from


def normal(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A standard normal array, float32; every name has a stream of its own."""
    stream = np.random.RandomState(zlib.crc32(f"{seed}/{name}".encode()))
    return stream.standard_normal(shape).astype(np.float32)


def theta(config: t5.T5Config, seed: int = 0) -> dict:
    """θ in which no leaf is trivial: norms differ from 1, biases of distances from 0, and the end
    of sequence is likely enough that generations end at different steps."""
    leaves = {}
    for path, leaf in traverse_util.flatten_dict(t5.abstract_params(config), sep="/").items():
        array = normal(seed, path, leaf.shape)
        if path.endswith("scale"):
            array = 1 + 0.2 * array
        elif path.endswith("kernel"):
            array *= leaf.shape[-2] ** -0.5
        if path.endswith("query/kernel"):
            array *= config.head_dim**-0.5
        if path == "decoder/decoder_norm/scale":
            array *= 3
        if path == "decoder/logits_dense/kernel":
            array[:, 1] *= 2
        if path == "token_embedder/embedding" and config.logits_via_embedding:
            array *= 0.5
            array[1] *= 3
        leaves[path] = jnp.asarray(array)
    return traverse_util.unflatten_dict(leaves, sep="/")


def batch(
    config: t5.T5Config, seed: int = 0, rows: int = 6, inputs: int = 11, targets: int = 7
) -> dict[str, np.ndarray]:
    """Random tokens under seqio's names: [rows,inputs] padded at the right, at the left or inside,
    [rows,targets] of different lengths that end with the end of sequence."""
    draw = np.random.RandomState(seed)
    tokens = draw.randint(2, config.vocab_size, (rows, inputs))
    wanted = draw.randint(2, config.vocab_size, (rows, targets))
    for row in range(1, rows):
        some = draw.randint(1, inputs)
        hidden = [slice(some, None), slice(inputs - some), draw.permutation(inputs)[some:]][row % 3]
        tokens[row, hidden] = 0
        length = draw.randint(1, targets + 1)
        wanted[row, length - 1] = 1
        wanted[row, length:] = 0
    return {
        "encoder_input_tokens": tokens.astype(np.int32),
        "decoder_input_tokens": np.pad(wanted[:, :-1], ((0, 0), (1, 0))).astype(np.int32),
        "decoder_target_tokens": wanted.astype(np.int32),
        "decoder_loss_weights": (wanted > 0).astype(np.int32),
    }


def prompt(config: t5.T5Config, length: int = 5, seed: int = 0) -> np.ndarray:
    """P_e [P,D] float32."""
    return normal(seed, "prompt", (length, config.emb_dim))


def generate(model: t5.T5, theta, tuned, batch, length: int, decoder) -> np.ndarray:
    """Ids [B,length] from one of our decoders."""

    rows = len(batch["encoder_input_tokens"])

    def run(theta, tuned, batch):
        rng = jax.random.split(jax.random.key(0), rows)
        return decoder(model, theta, tuned, batch, length, rng, None)

    return np.asarray(jax.jit(run)(theta, tuned, batch))


def until_end(tokens: np.ndarray) -> list[list[int]]:
    """Generated ids [B,U] -> those of each row up to its end of sequence."""
    rows = [list(map(int, row)) for row in tokens]
    return [row[: row.index(1) + 1] if 1 in row else row for row in rows]
