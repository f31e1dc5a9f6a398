"""Backbones: θ, its sizes and its vocabulary, read from wherever they lie; and our own folder.

    backbone.json         {"name", "config", "vocabulary": {"file", "extra_ids"}, "fingerprint"}
    params.safetensors    θ by T5X's names, or params-00001-of-00008.safetensors and so on
    sentencepiece.model   the vocabulary

`builtin://NAME` is a folder that the package carries. T5X's checkpoints (interop/t5x.py) and
Hugging Face's folders and hub names (interop/huggingface.py) are read as they are.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax import traverse_util

from prompt_tuning_jax import folders, t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.interop import huggingface, storage, t5x, t5x_names, tensor_files
from prompt_tuning_jax.interop.leaf import Checkpoint, Leaf
from prompt_tuning_jax.progress import Progress
from prompt_tuning_jax.vocabulary import Vocabulary

SAMPLES = 64  # values of each parameter that go into a fingerprint
OWN_FILES = ("backbone.json", "params*.safetensors", "sentencepiece.model")
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
def find(where: str | Checkpoint) -> Checkpoint:
    """The checkpoint at `where`, of any format, not yet read; one that was found stays what it is.

    where: a folder of ours, `builtin://NAME`, T5X's `checkpoint_N` (local or gs://), a Hugging Face
    folder or hub name. UserError where there is none of these, or its description is broken.
    """
    if isinstance(where, Checkpoint):
        return where
    path = _folder(where)
    formats = [t5x.open_checkpoint]
    if not storage.remote(path):
        formats = [_own, huggingface.open_checkpoint, *formats]
    for open_checkpoint in formats:
        found = open_checkpoint(path)
        if found is not None:
            return found._replace(path=where)
    if storage.remote(path):
        raise UserError(f"{path}: no T5X checkpoint there (no checkpoint, no state/)")
    if not os.path.isdir(path):
        above = " (give the folder, not the file in it)" if os.path.isfile(path) else ""
        raise UserError(f"{path}: no such backbone folder{above} (INITIAL_CHECKPOINT_PATH)")
    inside = sorted(pathlib.Path(path).glob("checkpoint_*"))
    if inside:
        raise UserError(f"{path}: no backbone in it itself; did you mean {inside[-1]}?")
    raise UserError(
        f"{path}: no backbone in it: no backbone.json of ours, no checkpoint or state/ of T5X's, "
        "no config.json of Hugging Face's"
    )


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
    return Checkpoint(path, leaves, config, vocabulary, mark)


def config_of(
    path: str | Checkpoint,
    dropout_rate: float = 0.1,
    dtype: str = "float32",
    scan_unroll: int = 1,
    remat_policy: str = "none",
) -> t5.T5Config:
    """The architecture of the backbone at `path`, as its files tell it or its shapes do, with the
    choices of T5Config that are free."""
    found = find(path)
    return dataclasses.replace(
        found.config or t5x_names.sizes(found.path, found.leaves),
        dropout_rate=dropout_rate,
        dtype=dtype,
        scan_unroll=scan_unroll,
        remat_policy=remat_policy,
    )


def vocabulary(
    path: str | Checkpoint | None, file: str | None = None, extra_ids: int = 100
) -> Vocabulary:
    """The SentencePiece model `file` with `extra_ids` sentinels, or, where that is None, the
    vocabulary that lies beside a backbone. UserError where there is none."""
    if file is not None:
        return Vocabulary(file, extra_ids)
    if path is None:
        raise UserError("VOCABULARY_FILE is needed where INITIAL_CHECKPOINT_PATH is None")
    found = find(path)
    if found.vocabulary is None:
        raise UserError(f"{found.path} has no vocabulary beside it: give VOCABULARY_FILE")
    return Vocabulary(*found.vocabulary)


def check_vocabulary(vocabulary: Vocabulary, config: t5.T5Config) -> None:
    """UserError for a vocabulary with more ids than the model has embeddings."""
    if vocabulary.vocab_size > config.vocab_size:
        raise UserError(
            f"{vocabulary.model_file}: {vocabulary.vocab_size} ids with its sentinels, and the "
            f"model has {config.vocab_size}: another VOCABULARY_FILE, or fewer EXTRA_IDS"
        )


# ---- the fingerprint ---------------------------------------------------------------------------
def fingerprint(theta: Any) -> str:
    """Names and fixed strided samples of θ's values, rounded to bfloat16 -> 16 hex digits.

    Taken layer by layer under T5X's own names, so that stacked, sharded and converted forms of one
    model agree.
    """
    flat = traverse_util.flatten_dict(theta, sep="/")
    samples = {}
    for path, rows in jax.device_get(_samples(flat)).items():
        shape = flat[path].shape[1:] if "/layers/" in path else flat[path].shape
        for i, row in enumerate(rows):
            samples[path.replace("/layers/", f"/layers_{i}/")] = (shape, row)
    return _digest(samples)


@jax.jit  # one program for all leaves
def _samples(flat: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Leaves by path -> their samples, [L,SAMPLES] of a stack and [1,SAMPLES] of others."""
    return {
        path: leaf[(slice(None), *_picks(leaf.shape[1:]))]
        if "/layers/" in path
        else leaf[_picks(leaf.shape)][None]
        for path, leaf in flat.items()
    }


def fingerprint_of(single: dict[str, Leaf]) -> str:
    """The same of leaves that are read one after the other, layers one by one."""
    return _digest(
        {n: (leaf.shape, leaf.whole()[_picks(leaf.shape)]) for n, leaf in single.items()}
    )


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
    where: str | Checkpoint,
    config: t5.T5Config,
    shardings: Any,
    dtype: str = "float32",
    exact: Callable[[str], bool] = lambda name: False,
) -> Backbone:
    """A backbone, every leaf read straight to its shards and accounted for.

    where: its path, or what `find` found there. config: what the run asks for; its architecture
    must be the checkpoint's. dtype: what θ is held in, "float32" or "bfloat16"; but the leaves that
    `exact` says (by path) in float32. Raises UserError for another architecture, for missing, extra
    and misshapen leaves, which it lists, and for values that are no finite numbers.
    """
    found = find(where)
    path = found.path
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
                    piece = leaves[0].read(index).astype(kind, copy=False)
                else:
                    # a layer at a time, so that no second copy of a stack is on the host
                    sizes = zip(index, wanted[name].shape, strict=True)
                    shape = tuple(len(range(*part.indices(size))) for part, size in sizes)
                    piece = np.empty(shape, kind)
                    for row, leaf in enumerate(leaves[index[0]]):
                        piece[row] = leaf.read(index[1:])
                held[str(index)] = piece
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
            one = name.replace("/layers/", "/")
            if one in there:  # a stack's one table of distances is every layer's
                names = [one] * leaf.shape[0]
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
    return {name: [_floats(path, n, there[n]) for n in names] for name, names in sources.items()}


def _floats(path: str, name: str, leaf: Leaf) -> Leaf:
    """The leaf, refused as it is read where it holds anything but finite floating-point numbers."""

    def read(index):
        values = np.asarray(leaf.read(index))
        if values.dtype.kind != "f" and values.dtype != DTYPES["bfloat16"]:
            raise UserError(f"{path}: {name} is {values.dtype}, not floating-point numbers")
        if values.size and not np.isfinite([values.min(), values.max()]).all():
            raise UserError(f"{path}: {name} has NaN or infinite values")
        return values

    return leaf._replace(read=read)


def _progress(title: str, leaves: Sized) -> Progress:
    return Progress(title, len(leaves), unit="parameter", patience=5)


# ---- writing -----------------------------------------------------------------------------------
def layers(path: str, there: dict[str, Leaf], config: t5.T5Config) -> dict[str, Leaf]:
    """Leaves of any layout -> T5X's names, layers one by one; UserError as for `read`."""
    found: dict[str, Leaf] = {}
    for name, leaves in _account(path, there, config).items():
        if "/layers/" not in name:
            found[name] = leaves[0]
        elif name in there:
            found |= rows(name, leaves[0])
        else:
            found |= {
                name.replace("/layers/", f"/layers_{i}/"): leaf for i, leaf in enumerate(leaves)
            }
    return found


def rows(name: str, leaf: Leaf) -> dict[str, Leaf]:
    """A stacked leaf -> its layers by name. The stack is read once while its rows are, in order."""
    held: dict[str, np.ndarray] = {}

    def row(i: int, index: tuple[slice, ...]) -> np.ndarray:
        if not held:
            held["stack"] = leaf.whole()
        values = held["stack"][i][index]
        if i == leaf.shape[0] - 1:
            held.clear()
        return values

    return {
        name.replace("/layers/", f"/layers_{i}/"): Leaf(leaf.shape[1:], functools.partial(row, i))
        for i in range(leaf.shape[0])
    }


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

    An existing backbone is replaced once the new one is whole. UserError where `path` is there and
    holds anything else.
    """
    samples: dict[str, tuple[tuple[int, ...], np.ndarray]] = {}
    single = layers(name, leaves, config)

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        with _progress("write", single) as progress:
            for leaf_name, leaf in single.items():
                values = leaf.whole().astype(DTYPES[dtype])
                samples[leaf_name] = (leaf.shape, values[_picks(leaf.shape)])
                yield leaf_name, values
                progress.update()

    with folders.replaced(writable(path, OWN_FILES)) as folder:
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


def writable(path: str, known: Sequence[str] = ()) -> pathlib.Path:
    """The folder that `path` means, for a backbone to be written there.

    UserError where it is there and is not a folder of nothing but files with `known` names
    (patterns), or is no local path.
    """
    if "://" in path:
        raise UserError(f"{path}: choose a local folder to write into")
    target = pathlib.Path(path).resolve()
    if target.exists():
        inside = list(target.iterdir()) if target.is_dir() else []
        strange = [f for f in inside if not any(fnmatch.fnmatch(f.name, k) for k in known)]
        if not inside or strange:
            holds = f" and holds {strange[0].name}" if strange else ""
            raise UserError(f"{path} is there already{holds}: choose another place")
    return target
