"""Backbones: a folder with θ, its sizes and its vocabulary, and the fingerprint of its values.

    backbone.json         {"name", "config", "vocabulary": {"file", "extra_ids"}, "fingerprint"}
    params.safetensors    θ by path, the layers of a stack on axis 0
    sentencepiece.model   the vocabulary

`builtin://NAME` is a folder that the package carries.
"""

from __future__ import annotations

import dataclasses
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
    if not (where / "backbone.json").is_file():
        raise UserError(f"{path}: no backbone.json in it, so it is not a backbone of ours")
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
    """A backbone, every leaf read straight to its shards and accounted for.

    config: what the run asks for; its architecture must be the folder's. Raises UserError for
    another architecture, and for missing, extra or misshapen leaves, which it names.
    """
    facts = describe(path)
    there, asked = t5.T5Config(**facts["config"]).architecture(), config.architecture()
    wrong = [f"{k} = {there[k]} there, {asked[k]} asked" for k in asked if there[k] != asked[k]]
    if wrong:
        raise UserError(f"{path}: another architecture: {'; '.join(wrong)}")
    file = folder(path) / "params.safetensors"
    want = traverse_util.flatten_dict(t5.abstract_params(config), sep="/")
    places = traverse_util.flatten_dict(shardings, sep="/")
    try:
        with safe_open(file, framework="np") as tensors:
            names = list(tensors.keys())
            _account(file, want, {k: tuple(tensors.get_slice(k).get_shape()) for k in names})
            flat = {
                name: jax.make_array_from_callback(
                    leaf.shape, places[name], lambda index, s=tensors.get_slice(name): s[index]
                )
                for name, leaf in want.items()
            }
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None
    theta = traverse_util.unflatten_dict(flat, sep="/")
    found = fingerprint(theta)
    if found != facts["fingerprint"]:
        raise UserError(f"{file}: its values are not those that backbone.json was written for")
    return Backbone(path, config, theta, found)


def _account(file, want: dict[str, Any], there: dict[str, tuple[int, ...]]) -> None:
    missing, extra = sorted(set(want) - set(there)), sorted(set(there) - set(want))
    bad = [f"{k} {there[k]}" for k in want if k in there and there[k] != want[k].shape]
    for kind, names in (("missing", missing), ("extra", extra), ("misshapen", bad)):
        if names:
            raise UserError(f"{file}: {len(names)} {kind} parameters: {', '.join(names)}")


def write(path: str, name: str, config: t5.T5Config, theta: Any, vocabulary: Vocabulary) -> None:
    """θ as a backbone folder, float32; an existing one is replaced once the new one is whole."""
    target = pathlib.Path(path)
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
