"""Backbones: θ, its sizes and its vocabulary, read from wherever they lie; and our own folder.

    backbone.json         {"name", "config", "vocabulary": {"file", "extra_ids"}, "fingerprint"}
    params.safetensors    θ by T5X's names, or params-00001-of-00008.safetensors and so on
    sentencepiece.model   the vocabulary

`builtin://NAME` is a folder that the package carries. T5X's checkpoints (interop/t5x.py) and
Hugging Face's folders and hub names (interop/huggingface.py) are read as they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax import traverse_util

from prompt_tuning_jax import t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.interop import huggingface, storage, t5x, t5x_names, tensor_files
from prompt_tuning_jax.interop.leaf import Checkpoint, Leaf
from prompt_tuning_jax.progress import Progress
from prompt_tuning_jax.vocabulary import Vocabulary

SAMPLES = 64  # values of each parameter that go into a fingerprint
FILE_BYTES = 2 * 10**9  # of a file of our own format, at most
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
PACKAGED = pathlib.Path(__file__).parent / "builtin"


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A frozen T5 that was read. theta: its tree of arrays; path: as the user gave it."""

    path: str
    config: t5.T5Config
    theta: Any
    fingerprint: str


# ---- finding -----------------------------------------------------------------------------------
def find(path: str) -> Checkpoint:
    """The checkpoint at `path`, of any format, not yet read.

    path: a folder of ours, `builtin://NAME`, T5X's `checkpoint_N` (local or gs://), a Hugging Face
    folder or hub name. UserError where there is none of these, or its description is broken.
    """
    path = _folder(path)
    formats = [t5x.open_checkpoint]
    if not storage.remote(path):
        formats = [_own, huggingface.open_checkpoint, *formats]
    for open_checkpoint in formats:
        found = open_checkpoint(path)
        if found is not None:
            return found
    inside = sorted(pathlib.Path(path).glob("checkpoint_*")) if os.path.isdir(path) else []
    if inside:
        raise UserError(f"{path}: no backbone in it itself; did you mean {inside[-1]}?")
    if storage.remote(path) or os.path.isdir(path):
        raise UserError(
            f"{path}: no backbone in it: no backbone.json of ours, no checkpoint or state/ of "
            "T5X's, no config.json of Hugging Face's"
        )
    raise UserError(f"{path}: no such backbone folder (INITIAL_CHECKPOINT_PATH)")


def _folder(path: str) -> str:
    """`path`, or where the built-in backbone of that name lies; UserError where there is none."""
    name = path.removeprefix("builtin://")
    if name == path:
        return path
    names = sorted(f.name for f in PACKAGED.iterdir() if f.is_dir())
    if name not in names:
        raise UserError(f"{path}: there is no such built-in backbone, but {', '.join(names)}")
    return str(PACKAGED / name)


def _own(path: str) -> Checkpoint | None:
    folder = pathlib.Path(path)
    file = folder / "backbone.json"
    if not file.is_file():
        return None
    try:
        facts = json.loads(file.read_text())
        config, words = t5.T5Config(**facts["config"]), facts["vocabulary"]
        vocabulary = str(folder / words["file"]), int(words["extra_ids"])
        mark = str(facts["fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not a backbone's description ({error!r})") from None
    files = sorted(folder.glob("params*.safetensors")) or [folder / "params.safetensors"]
    leaves = {name: leaf for part in files for name, leaf in tensor_files.read(part).items()}
    return Checkpoint(leaves, config, vocabulary, mark)


def config_of(
    path: str,
    dropout_rate: float = 0.1,
    dtype: str = "float32",
    scan_unroll: int = 1,
    remat_policy: str = "none",
) -> t5.T5Config:
    """The architecture of the backbone at `path`, as its files tell it or its shapes do, with the
    choices of T5Config that are free."""
    found = find(path)
    return dataclasses.replace(
        found.config or t5x_names.sizes(path, found.leaves),
        dropout_rate=dropout_rate,
        dtype=dtype,
        scan_unroll=scan_unroll,
        remat_policy=remat_policy,
    )


def vocabulary(path: str | None, file: str | None = None, extra_ids: int = 100) -> Vocabulary:
    """The SentencePiece model `file` with `extra_ids` sentinels, or, where that is None, the
    vocabulary that lies beside a backbone."""
    if file is not None:
        return Vocabulary(file, extra_ids)
    if path is None:
        raise UserError("VOCABULARY_FILE is needed where INITIAL_CHECKPOINT_PATH is None")
    beside = find(path).vocabulary
    if beside is None:
        raise UserError(f"{path} has no vocabulary beside it: give VOCABULARY_FILE")
    return Vocabulary(*beside)


# ---- the fingerprint ---------------------------------------------------------------------------
def fingerprint(theta: Any) -> str:
    """Names and fixed strided samples of θ's values, rounded to bfloat16 -> 16 hex digits.

    Taken layer by layer under T5X's own names, so that stacked, sharded and converted forms of one
    model agree.
    """
    samples = {}
    for path, leaf in traverse_util.flatten_dict(theta, sep="/").items():
        stacked = "/layers/" in path
        shape = leaf.shape[1:] if stacked else leaf.shape
        picks = _picks(shape)
        # [L,SAMPLES] or [1,SAMPLES]
        rows = np.asarray(leaf[(slice(None), *picks)] if stacked else leaf[picks][None])
        for i, row in enumerate(rows):
            samples[path.replace("/layers/", f"/layers_{i}/")] = (shape, row)
    return _digest(samples)


def _picks(shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return np.unravel_index(np.linspace(0, np.prod(shape) - 1, SAMPLES).astype(int), shape)


def _digest(samples: dict[str, tuple[tuple[int, ...], np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for path, (shape, values) in sorted(samples.items()):
        digest.update(f"{path}{tuple(map(int, shape))}".encode())
        digest.update(values.astype(np.float32).astype(ml_dtypes.bfloat16).tobytes())
    return digest.hexdigest()[:16]


# ---- reading -----------------------------------------------------------------------------------
def read(
    path: str,
    config: t5.T5Config,
    shardings: Any,
    dtype: str = "float32",
    exact: Callable[[str], bool] = lambda name: False,
) -> Backbone:
    """A backbone, every leaf read straight to its shards and accounted for.

    config: what the run asks for; its architecture must be the checkpoint's. dtype: what θ is held
    in, "float32" or "bfloat16"; but the leaves that `exact` says (by path) in float32. Raises
    UserError for another architecture, and for missing, extra or misshapen leaves, which it lists.
    """
    found = find(path)
    if found.config is not None:
        there, asked = found.config.architecture(), config.architecture()
        wrong = [f"{k} = {there[k]} there, {asked[k]} asked" for k in asked if there[k] != asked[k]]
        if wrong:
            raise UserError(f"{path}: another architecture: {'; '.join(wrong)}")
    if dtype not in DTYPES:
        raise UserError(f"FROZEN_DTYPE = {dtype!r}: choose from {', '.join(DTYPES)}")
    wanted = traverse_util.flatten_dict(t5.abstract_params(config), sep="/")
    places = traverse_util.flatten_dict(shardings, sep="/")
    pieces = _account(path, found.leaves, config)

    def to_devices(name: str) -> jax.Array:
        kind, leaves = DTYPES["float32" if exact(name) else dtype], pieces[name]
        whole = leaves[0].shape == wanted[name].shape
        held: dict[str, np.ndarray] = {}  # devices with the same piece share one reading

        def values(index: Any) -> np.ndarray:
            if str(index) not in held:
                if whole:
                    held[str(index)] = leaves[0].read(index).astype(kind)
                else:
                    rows = (leaf.read(index[1:]).astype(kind) for leaf in leaves[index[0]])
                    held[str(index)] = np.stack(list(rows))
            return held[str(index)]

        return jax.make_array_from_callback(wanted[name].shape, places[name], values)

    # files and networks wait for one another less when a few leaves are asked for at once
    with ThreadPoolExecutor(4) as pool, _progress("read", wanted) as progress:
        flat = {}
        for name, array in zip(wanted, pool.map(to_devices, wanted), strict=True):
            flat[name] = array
            progress.update()
    theta = traverse_util.unflatten_dict(flat, sep="/")
    mark = fingerprint(theta)
    if found.fingerprint not in (None, mark):
        raise UserError(f"{path}: its values are not those that backbone.json was written for")
    return Backbone(path, config, theta, mark)


def _account(path: str, there: dict[str, Leaf], config: t5.T5Config) -> dict[str, list[Leaf]]:
    """The leaves that each of θ's is made of: itself, or its layers one by one ("layers_0", …).

    UserError that lists every missing, extra and misshapen one.
    """
    sources: dict[str, list[str]] = {}
    expected: dict[str, tuple[int, ...]] = {}
    for name, leaf in traverse_util.flatten_dict(t5.abstract_params(config), sep="/").items():
        names = [name]
        if "/layers/" in name and name not in there:
            names = [name.replace("/layers/", f"/layers_{i}/") for i in range(leaf.shape[0])]
        expected |= {n: leaf.shape if n == name else leaf.shape[1:] for n in names}
        sources[name] = names
    misshapen = [
        f"{name} {there[name].shape}, wanted {shape}"
        for name, shape in expected.items()
        if name in there and there[name].shape != shape
    ]
    wrong = {
        "missing": sorted(set(expected) - set(there)),
        "extra": sorted(set(there) - set(expected)),
        "misshapen": misshapen,
    }
    lists = [f"{len(v)} {kind} parameters: {', '.join(v)}" for kind, v in wrong.items() if v]
    if lists:
        raise UserError(f"{path}: {'; '.join(lists)}")
    return {name: [there[n] for n in names] for name, names in sources.items()}


def _progress(title: str, leaves: Sized) -> Progress:
    return Progress(title, len(leaves), unit="parameter", patience=5)


# ---- writing -----------------------------------------------------------------------------------
def layers(path: str, there: dict[str, Leaf], config: t5.T5Config) -> dict[str, Leaf]:
    """Leaves of any layout -> T5X's names, layers one by one; UserError as for `read`."""
    found = {}
    for name, leaves in _account(path, there, config).items():
        if "/layers/" not in name:
            found[name] = leaves[0]
            continue
        if name in there:
            leaves = [leaves[0].row(i) for i in range(leaves[0].shape[0])]
        found |= {name.replace("/layers/", f"/layers_{i}/"): leaf for i, leaf in enumerate(leaves)}
    return found


def leaves_of(theta: Any) -> dict[str, Leaf]:
    """A tree of arrays in memory as leaves by path."""
    flat = traverse_util.flatten_dict(theta, sep="/")
    return {name: Leaf.of(np.asarray(array)) for name, array in flat.items()}


def write(
    path: str,
    name: str,
    config: t5.T5Config,
    leaves: dict[str, Leaf],
    vocabulary: Vocabulary,
    dtype: str = "float32",
) -> str:
    """θ as a backbone folder of ours, read leaf by leaf -> its fingerprint.

    An existing folder is replaced once the new one is whole. UserError where `path` is there and is
    something else.
    """
    samples: dict[str, tuple[tuple[int, ...], np.ndarray]] = {}
    single = layers(path, leaves, config)

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        with _progress("write", single) as progress:
            for leaf_name, leaf in sorted(single.items()):
                values = leaf.whole().astype(DTYPES[dtype])
                samples[leaf_name] = (leaf.shape, values[_picks(leaf.shape)])
                yield leaf_name, values
                progress.update()

    with replaced(path, "backbone.json") as folder:
        tensor_files.write(folder, "params", tensors(), FILE_BYTES)
        mark = _digest(samples)
        (folder / "sentencepiece.model").write_bytes(vocabulary.content)
        facts = {
            "name": name,
            "config": config.architecture(),
            "vocabulary": {"file": "sentencepiece.model", "extra_ids": vocabulary.extra_ids},
            "fingerprint": mark,
        }
        (folder / "backbone.json").write_text(json.dumps(facts, indent=2) + "\n")
    return mark


@contextlib.contextmanager
def replaced(path: str, mark: str | None = None) -> Iterator[pathlib.Path]:
    """A new folder to write into, which takes the place of `path` once all is well.

    UserError where `path` is there and has no file `mark`: it is something else.
    """
    target = pathlib.Path(path)
    if target.exists() and not (mark and (target / mark).is_file()):
        reason = f" and has no {mark}" if mark else ""
        raise UserError(f"{path} is there already{reason}: choose another place")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
