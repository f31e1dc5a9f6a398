"""Backbones: a folder with θ, its sizes and its vocabulary, and the fingerprint of its values.

    backbone.json         {"name", "config", "vocabulary": {"file", "extra_ids"}, "fingerprint"}
    params.safetensors    θ by path, the layers of a stack on axis 0
    sentencepiece.model   the vocabulary

`builtin://NAME` is a folder that the package carries. A checkpoint of T5X is read too
(interop/t5x.py); it has no vocabulary beside it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from prompt_tuning_jax import t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.interop import t5x
from prompt_tuning_jax.interop.leaf import Leaf
from prompt_tuning_jax.vocabulary import Vocabulary

SAMPLES = 64  # values of each parameter that go into a fingerprint
PACKAGED = pathlib.Path(__file__).parent / "builtin"


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A frozen T5 that was read. theta: its tree of arrays; path: as the user gave it."""

    path: str
    config: t5.T5Config
    theta: Any
    fingerprint: str


def folder(path: str) -> pathlib.Path:
    """Where a backbone lies on disk; UserError where it does not."""
    name = path.removeprefix("builtin://")
    if name != path:
        names = sorted(f.name for f in PACKAGED.iterdir() if f.is_dir())
        if name not in names:
            raise UserError(f"{path}: there is no such built-in backbone, but {', '.join(names)}")
        return PACKAGED / name
    where = pathlib.Path(path)
    if not where.is_dir():
        raise UserError(f"{path}: no such backbone folder (INITIAL_CHECKPOINT_PATH)")
    if not any((where / name).is_file() for name in ("backbone.json", t5x.INDEX)):
        raise UserError(f"{path}: no backbone.json of ours and no index of T5X's in it")
    return where


def describe(path: str) -> dict[str, Any]:
    """A backbone folder's backbone.json, checked."""
    file = folder(path) / "backbone.json"
    try:
        facts = json.loads(file.read_text())
        t5.T5Config(**facts["config"])
        facts["vocabulary"]["file"], facts["vocabulary"]["extra_ids"], facts["fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not a backbone's description ({error!r})") from None
    return facts


def vocabulary(path: str | None, file: str | None = None, extra_ids: int = 100) -> Vocabulary:
    """The SentencePiece model `file` with `extra_ids` sentinels, or, where that is None, the
    vocabulary that lies beside a backbone."""
    if file is not None:
        return Vocabulary(file, extra_ids)
    if path is None:
        raise UserError("VOCABULARY_FILE is needed where INITIAL_CHECKPOINT_PATH is None")
    if not (folder(path) / "backbone.json").is_file():
        raise UserError(f"{path} has no vocabulary beside it: give VOCABULARY_FILE")
    facts = describe(path)["vocabulary"]
    return Vocabulary(str(folder(path) / facts["file"]), facts["extra_ids"])


def fingerprint(theta: Any) -> str:
    """Names and fixed strided samples of θ's values, rounded to bfloat16 -> 16 hex digits.

    Taken layer by layer under T5X's own names, so that stacked, sharded and converted forms of one
    model agree.
    """
    leaves = {}
    for path, leaf in traverse_util.flatten_dict(theta, sep="/").items():
        stacked = "/layers/" in path
        shape = leaf.shape[1:] if stacked else leaf.shape
        picks = np.unravel_index(np.linspace(0, np.prod(shape) - 1, SAMPLES).astype(int), shape)
        # [L,SAMPLES] or [1,SAMPLES]
        rows = np.asarray(leaf[(slice(None), *picks)] if stacked else leaf[picks][None])
        for i, row in enumerate(rows):
            leaves[path.replace("/layers/", f"/layers_{i}/")] = (shape, row)
    digest = hashlib.sha256()
    for path, (shape, values) in sorted(leaves.items()):
        digest.update(f"{path}{tuple(map(int, shape))}".encode())
        digest.update(values.astype(np.float32).astype(ml_dtypes.bfloat16).tobytes())
    return digest.hexdigest()[:16]


def read(path: str, config: t5.T5Config, shardings: Any) -> Backbone:
    """A backbone of ours or of T5X, every leaf read straight to its shards and accounted for.

    config: what the run asks for; its architecture must be the checkpoint's. Raises UserError for
    another architecture, and for missing, extra or misshapen leaves, which it names.
    """
    where = folder(path)
    if (where / t5x.INDEX).is_file():
        theta = _assemble(path, t5x.leaves(where), config, shardings)
        return Backbone(path, config, theta, fingerprint(theta))
    facts = describe(path)
    there, asked = t5.T5Config(**facts["config"]).architecture(), config.architecture()
    wrong = [f"{k} = {there[k]} there, {asked[k]} asked" for k in asked if there[k] != asked[k]]
    if wrong:
        raise UserError(f"{path}: another architecture: {'; '.join(wrong)}")
    try:
        with safe_open(where / "params.safetensors", framework="np") as tensors:
            own = {name: _own_leaf(tensors, name) for name in list(tensors.keys())}
            theta = _assemble(path, own, config, shardings)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{where / 'params.safetensors'}: cannot be read ({error})") from None
    found = fingerprint(theta)
    if found != facts["fingerprint"]:
        raise UserError(f"{path}: its values are not those that backbone.json was written for")
    return Backbone(path, config, theta, found)


def _own_leaf(tensors, name: str) -> Leaf:
    values = tensors.get_slice(name)
    return Leaf(tuple(values.get_shape()), lambda index: values[index])


def _assemble(path: str, there: dict[str, Leaf], config: t5.T5Config, shardings: Any) -> Any:
    """θ from leaves under T5X's names, layers one by one ("layers_0") or stacked ("layers")."""
    want = traverse_util.flatten_dict(t5.abstract_params(config), sep="/")
    places = traverse_util.flatten_dict(shardings, sep="/")
    sources: dict[str, list[Leaf]] = {}
    expected: dict[str, tuple[int, ...]] = {}
    for name, leaf in want.items():
        names = [name]
        if "/layers/" in name and name not in there:
            names = [name.replace("/layers/", f"/layers_{i}/") for i in range(leaf.shape[0])]
        expected |= {n: leaf.shape if n == name else leaf.shape[1:] for n in names}
        sources[name] = [there[n] for n in names if n in there]
    missing, extra = sorted(set(expected) - set(there)), sorted(set(there) - set(expected))
    misshapen = [
        f"{name} {there[name].shape}, wanted {shape}"
        for name, shape in expected.items()
        if name in there and there[name].shape != shape
    ]
    for kind, names in (("missing", missing), ("extra", extra), ("misshapen", misshapen)):
        if names:
            raise UserError(f"{path}: {len(names)} {kind} parameters: {', '.join(names)}")

    def piece(name: str, index: tuple[slice, ...]) -> np.ndarray:
        if sources[name][0].shape == want[name].shape:
            values = sources[name][0].read(index)
        else:
            values = np.stack([leaf.read(index[1:]) for leaf in sources[name][index[0]]])
        return values.astype(np.float32)

    flat = {
        name: jax.make_array_from_callback(leaf.shape, places[name], functools.partial(piece, name))
        for name, leaf in want.items()
    }
    return traverse_util.unflatten_dict(flat, sep="/")


def write(path: str, name: str, config: t5.T5Config, theta: Any, vocabulary: Vocabulary) -> None:
    """θ as a backbone folder, float32; an existing one is replaced once the new one is whole.

    UserError where `path` is there and is something else.
    """
    target = pathlib.Path(path)
    if target.exists() and not (target / "backbone.json").is_file():
        raise UserError(f"{path} is there already and is no backbone of ours: choose another place")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    flat = traverse_util.flatten_dict(theta, sep="/")
    save_file(
        {k: np.asarray(v, np.float32) for k, v in flat.items()}, temporary / "params.safetensors"
    )
    shutil.copyfile(vocabulary.model_file, temporary / "sentencepiece.model")
    facts = {
        "name": name,
        "config": config.architecture(),
        "vocabulary": {"file": "sentencepiece.model", "extra_ids": vocabulary.extra_ids},
        "fingerprint": fingerprint(theta),
    }
    (temporary / "backbone.json").write_text(json.dumps(facts, indent=2) + "\n")
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
