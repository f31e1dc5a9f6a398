"""Hugging Face's T5: `config.json` and safetensors, read as a backbone, and written from one.

T5 1.0 and 1.1, LM-adapted T5, Flan-T5, mT5 and umT5 (transformers/models/t5/modeling_t5.py). Their
kernels lie [out,in] where T5X's lie [in,out]; names are paired in `names`. `pytorch_model.bin` is
read through torch with weights_only=True alone, so that no pickle is run.
"""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from prompt_tuning_jax import folders, strict_json
from prompt_tuning_jax.errors import UserError, reason
from prompt_tuning_jax.interop import tensor_files
from prompt_tuning_jax.interop.leaf import Checkpoint, Leaf
from prompt_tuning_jax.t5 import BLOCKS, LARGEST, T5Config
from prompt_tuning_jax.vocabulary import Vocabulary

HUB_NAME = re.compile(r"t5-\w+|[\w.-]+/[\w.-]+")  # T5 1.0's names have no owner
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
EMBEDDING, HEAD = "token_embedder/embedding", "decoder/logits_dense/kernel"
HEAD_THERE = "lm_head.weight"
# T5X's name of a block -> transformers' names of it and of its kernels
ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
MODULES = {
    "attention": ("SelfAttention", ATTENTION),
    "self_attention": ("SelfAttention", ATTENTION),
    "encoder_decoder_attention": ("EncDecAttention", ATTENTION),
    "mlp": ("DenseReluDense", {name: name for name in ("wi", "wi_0", "wi_1", "wo")}),
}
ACTIVATIONS = {
    "relu": ("relu",),
    "gated-gelu": ("gelu", "linear"),
    "gated-silu": ("silu", "linear"),
}
# in old files beside shared.weight, whose values they have
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# in old files of T5 1.0; no version of transformers reads it
UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


def names(config: T5Config) -> Iterator[tuple[str, str]]:
    """(transformers' name, T5X's name) of every parameter of θ, layers one by one."""
    yield "shared.weight", EMBEDDING
    if not config.logits_via_embedding:
        yield HEAD_THERE, HEAD
    gates = len(config.mlp_activations)
    absent = {"wi_0", "wi_1"} if gates == 1 else {"wi"}
    for stack, layers in (
        ("encoder", config.num_encoder_layers),
        ("decoder", config.num_decoder_layers),
    ):
        yield f"{stack}.final_layer_norm.weight", f"{stack}/{stack}_norm/scale"
        for layer in range(layers):
            block, own = f"{stack}.block.{layer}.layer", f"{stack}/layers_{layer}"
            if config.relpos_per_layer or layer == 0:
                table = f"{own if config.relpos_per_layer else stack}/relpos_bias/rel_embedding"
                yield f"{block}.0.SelfAttention.relative_attention_bias.weight", table
            for i, (_, norm, part) in enumerate(BLOCKS[stack]):
                yield f"{block}.{i}.layer_norm.weight", f"{own}/{norm}/scale"
                module, kernels = MODULES[part]
                for ours, theirs in kernels.items():
                    if ours not in absent:
                        yield f"{block}.{i}.{module}.{theirs}.weight", f"{own}/{part}/{ours}/kernel"


def local(path: str) -> pathlib.Path | None:
    """The folder of a local path or of a name on the hub, which is downloaded once; None for what
    is neither. UserError where the hub is needed and cannot be had."""
    folder = pathlib.Path(path)
    if folder.exists():
        return folder if (folder / "config.json").is_file() else None
    if not HUB_NAME.fullmatch(path):
        return None
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            f"{path}: no such folder; for the model of this name on Hugging Face's hub, "
            "pip install huggingface_hub"
        ) from None
    small = ["config.json", "tokenizer_config.json", "spiece.model", "*.index.json"]
    try:
        fetch = functools.partial(huggingface_hub.snapshot_download, path)
        found = pathlib.Path(fetch(allow_patterns=[*small, "model*.safetensors"]))
        if not any(found.glob("model*.safetensors")):
            found = pathlib.Path(fetch(allow_patterns=[*small, "pytorch_model*.bin"]))
    except Exception as error:  # the hub's, the network's and the cache's errors have no base
        text = f"{path}: no such folder, nor a model of the hub ({reason(error)})"
        raise UserError(text) from None
    if not (found / "config.json").is_file():
        raise UserError(f"{path}: the hub's model has no config.json")
    return found


def open_checkpoint(path: str) -> Checkpoint | None:
    """The checkpoint of a folder or a hub name, not yet read; None where it holds none of theirs.

    Raises UserError for a model that is no T5, for a setting that ours has not, for missing files,
    and for tensors that belong to no parameter.
    """
    folder = local(path)
    if folder is None:
        return None
    file = folder / "config.json"
    try:
        facts = dict(strict_json.loads(file.read_bytes()))
    except (TypeError, ValueError) as error:
        raise UserError(f"{file}: not a configuration ({reason(error)})") from None
    tensors = _tensors(folder)
    tensors.pop(UNUSED, None)
    for name in COPIES:
        copy = tensors.pop(name, None)
        if copy is not None and not _same(copy, tensors.setdefault("shared.weight", copy)):
            raise UserError(f"{path}: {name} is not shared.weight: T5 has one embedding")
    shared, head = tensors.get("shared.weight"), tensors.get(HEAD_THERE)
    scaled = _scaled(file, facts)
    if scaled and _same(head, shared):
        head = None
    config = _config(file, facts, tied=scaled and head is None)
    if config.num_encoder_layers + config.num_decoder_layers > len(tensors):
        raise UserError(f"{file}: more layers than the {len(tensors)} tensors beside it can hold")
    # a tied head that is not scaled is a head of its own with the embedding's values
    head = head or (None if scaled else shared)
    tensors = {name: leaf for name, leaf in tensors.items() if name != HEAD_THERE}
    if head is not None:
        tensors[HEAD_THERE] = head.scaled(config.emb_dim**-0.5) if scaled else head
    ours = dict(names(config))
    leaves = {ours.get(name, name): _turned(ours.get(name), leaf) for name, leaf in tensors.items()}
    return Checkpoint(path, leaves, config, _vocabulary(folder))


def _turned(name: str | None, leaf: Leaf) -> Leaf:
    turned = name is not None and name != EMBEDDING and len(leaf.shape) == 2
    return leaf.permuted(1, 0) if turned else leaf


def _scaled(file: pathlib.Path, facts: dict[str, Any]) -> bool:
    """Whether the decoder's states are multiplied by 1/sqrt(D) before the logits.

    T5 1.0 does, T5 1.1 and mT5 do not. transformers 5 says so itself; before, the scale went with
    the tied embedding.
    """
    if facts.get("model_type") == "mt5":
        return False
    scaled = facts.get("scale_decoder_outputs", facts.get("tie_word_embeddings", True))
    if not isinstance(scaled, bool):
        raise UserError(f"{file}: tie_word_embeddings is {scaled!r}, not true or false")
    return scaled


def _config(file: pathlib.Path, facts: dict[str, Any], tied: bool) -> T5Config:
    """config.json as ours; UserError for a model or a setting that ours has not."""
    kind = facts.get("model_type")
    if kind not in ("t5", "mt5", "umt5"):
        raise UserError(f"{file}: model_type is {kind!r}, not t5, mt5 or umt5")
    mlp = facts.get("feed_forward_proj", "relu" if kind == "t5" else "gated-gelu")
    if not isinstance(mlp, str) or mlp not in ACTIVATIONS:
        raise UserError(f"{file}: feed_forward_proj is {mlp!r}, not {', '.join(ACTIVATIONS)}")
    for name, wanted in (
        ("relative_attention_max_distance", 128),
        ("layer_norm_epsilon", 1e-6),
        ("decoder_start_token_id", 0),
        ("pad_token_id", 0),
        ("eos_token_id", 1),
    ):
        if facts.get(name) not in (None, wanted):
            raise UserError(f"{file}: {name} is {facts[name]!r}, T5's is {wanted!r}")

    def size(name: str, default: int | None = None) -> int:
        value = default if facts.get(name) is None else facts[name]
        if type(value) is not int or not 1 <= value <= LARGEST:
            raise UserError(f"{file}: {name} is {value!r:.40}, not a positive number")
        return value

    layers = size("num_layers")
    sizes = functools.partial(
        T5Config,
        vocab_size=size("vocab_size"),
        emb_dim=size("d_model"),
        num_heads=size("num_heads"),
        head_dim=size("d_kv"),
        num_encoder_layers=layers,
        num_decoder_layers=size("num_decoder_layers", layers),
        mlp_dim=size("d_ff"),
        mlp_activations=ACTIVATIONS[mlp],
        logits_via_embedding=tied,
        relpos_buckets=size("relative_attention_num_buckets", 32),
        relpos_per_layer=kind == "umt5",
    )
    try:
        return sizes()
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _vocabulary(folder: pathlib.Path) -> tuple[str, int] | None:
    """spiece.model and the number of sentinels that the tokenizer adds to it."""
    model, extra_ids = folder / "spiece.model", 100
    if not model.is_file():
        return None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = strict_json.loads((folder / "tokenizer_config.json").read_bytes()).get("extra_ids")
        extra_ids = found if type(found) is int else extra_ids
    return str(model), extra_ids


def _same(one: Leaf | None, other: Leaf | None) -> bool:
    """Whether two tables have the same shape and the same values, compared in blocks of rows."""
    if one is None or other is None or one.shape != other.shape or len(one.shape) != 2:
        return False
    starts = range(0, one.shape[0], 8192)
    blocks = ((slice(r, min(r + 8192, one.shape[0])), slice(None)) for r in starts)
    return one is other or all(np.array_equal(one.read(b), other.read(b)) for b in blocks)


# ---- files of tensors ------------------------------------------------------------------------
def _tensors(folder: pathlib.Path) -> dict[str, Leaf]:
    """Every tensor of a folder by transformers' name, of one file or of several."""
    for weights in WEIGHTS:
        index = folder / f"{weights}.index.json"
        if (folder / weights).is_file():
            return _read_file(folder / weights)
        if index.is_file():
            try:
                placed = dict(strict_json.loads(index.read_bytes())["weight_map"])
                names = sorted(set(placed.values()))
                paths = {name: pathlib.Path(folders.inside(folder, name)) for name in names}
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{index}: not an index of tensors ({reason(error)})") from None
            files = {name: _read_file(path) for name, path in paths.items()}
            for tensor, name in placed.items():
                if tensor not in files[name]:
                    raise UserError(f"{folder / name}: no {tensor} in it, where the index has it")
            everything = {t: leaf for leaves in files.values() for t, leaf in leaves.items()}
            # a tensor that two files have is the one that the index means
            return everything | {tensor: files[name][tensor] for tensor, name in placed.items()}
    raise UserError(f"{folder}: config.json, but neither {' nor '.join(WEIGHTS)}")


def _read_file(file: pathlib.Path) -> dict[str, Leaf]:
    return _torch_file(file) if file.suffix == ".bin" else tensor_files.read(file)


def _torch_file(file: pathlib.Path) -> dict[str, Leaf]:
    try:
        import torch
    except ImportError:
        raise UserError(f"{file}: reading it needs torch; safetensors do not") from None
    try:
        # the first files of T5 are no zip archives, which alone can be mapped into memory
        mapped = zipfile.is_zipfile(file)
        tensors = torch.load(file, map_location="cpu", mmap=mapped, weights_only=True)
        plain = {n: t.detach() for n, t in tensors.items() if t.layout == torch.strided}
    except Exception as error:  # torch's, zip's and pickle's errors share no base class
        # torch's own text advises to run the pickle
        raise UserError(f"{file}: no file of plain tensors ({type(error).__name__})") from None
    odd = sorted(n for n in tensors if n not in plain or not plain[n].is_floating_point())
    if odd:
        raise UserError(f"{file}: {odd[0]} is no dense tensor of floating-point numbers")

    def piece(tensor, index):
        # numpy has no bfloat16, but float32 has all of its values
        return tensor[index].float().numpy()

    return {n: Leaf(tuple(t.shape), functools.partial(piece, t)) for n, t in plain.items()}


# ---- writing ---------------------------------------------------------------------------------
def write(
    folder: pathlib.Path, config: T5Config, leaves: dict[str, Leaf], vocabulary: Vocabulary
) -> None:
    """θ (T5X's names, layers one by one) into a new folder that transformers loads as T5.

    Files of at most 5 GB, in the dtype that the leaves are read in. UserError for a model that has
    no counterpart there.
    """
    mlp = {activations: name for name, activations in ACTIVATIONS.items()}
    if config.relpos_per_layer or config.mlp_activations not in mlp:
        raise UserError(
            f"transformers' T5 has no relpos_per_layer = {config.relpos_per_layer} with "
            f"mlp_activations = {config.mlp_activations}"
        )
    theirs = {ours: name for name, ours in names(config)}
    # in the order of the leaves: the rows of a stacked one follow one another
    tensors = ((theirs[ours], _turned(ours, leaf).whole()) for ours, leaf in leaves.items())
    placed = tensor_files.write(folder, "model", tensors, limit=5 * 10**9)
    if len(set(placed.values())) > 1:
        text = json.dumps({"metadata": {}, "weight_map": placed}, indent=2)
        (folder / "model.safetensors.index.json").write_text(text + "\n")
    facts = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "vocab_size": config.vocab_size,
        "d_model": config.emb_dim,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "num_heads": config.num_heads,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "feed_forward_proj": mlp[config.mlp_activations],
        "relative_attention_num_buckets": config.relpos_buckets,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "dropout_rate": config.dropout_rate,
        "tie_word_embeddings": config.logits_via_embedding,
        "is_encoder_decoder": True,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }
    (folder / "config.json").write_text(json.dumps(facts, indent=2) + "\n")
    (folder / "spiece.model").write_bytes(vocabulary.content)
    tokenizer = {"tokenizer_class": "T5Tokenizer", "extra_ids": vocabulary.extra_ids}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=2) + "\n")
