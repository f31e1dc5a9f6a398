"""Backbones: θ, its sizes and its vocabulary, read from wherever they lie; and our own folder.

    backbone.json         {"name", "config", "vocabulary": {"file", "extra_ids"}, "fingerprint"}
    params.safetensors    θ by T5X's names, or params-00001-of-00008.safetensors and so on
    sentencepiece.model   the vocabulary

Of one in int8 (int8.py) NAME.scale lies beside NAME; "fingerprint" is that of the values that it
was made from, and "int8" that of its own.

`builtin://NAME` is a folder that the package carries. T5X's checkpoints (interop/t5x.py) and
Hugging Face's folders and hub names (interop/huggingface.py) are read as they are.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import json
import operator
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax import traverse_util
from jax.sharding import NamedSharding, PartitionSpec

from prompt_tuning_jax import folders, int8, strict_json, t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.fingerprint import Samples
from prompt_tuning_jax.int8 import Int8
from prompt_tuning_jax.interop import huggingface, storage, t5x, t5x_names, tensor_files
from prompt_tuning_jax.interop.leaf import Checkpoint, Leaf
from prompt_tuning_jax.progress import Progress
from prompt_tuning_jax.vocabulary import Vocabulary

SCALE = ".scale"  # behind the name of what it scales
OWN_FILES = ("backbone.json", "params*.safetensors", "sentencepiece.model")
FILE_BYTES = 2 * 10**9  # of a file of our own format, at most
FLOATS = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
DTYPES = FLOATS | {"int8": np.dtype(np.int8)}  # what θ may be held in
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
        facts = strict_json.loads(file.read_bytes())
        config, words = t5.T5Config(**facts["config"]), facts["vocabulary"]
        vocabulary = folders.inside(folder, words["file"]), operator.index(words["extra_ids"])
        mark, quantised = str(facts["fingerprint"]), facts.get("int8")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not a backbone's description ({error!r:.300})") from None
    files = sorted(folder.glob("params*.safetensors")) or [folder / "params.safetensors"]
    dtypes = tensor_files.DTYPES if quantised is None else (*tensor_files.DTYPES, "I8")
    leaves = {n: leaf for part in files for n, leaf in tensor_files.read(part, dtypes).items()}
    for name in [name for name in leaves if name + SCALE in leaves]:
        scale, axis = leaves.pop(name + SCALE), int8.summed(name)
        if axis is None or scale.shape != _channels(leaves[name].shape, axis):
            raise UserError(f"{path}: {name + SCALE} {scale.shape} is no scale of {name}'s")
        leaves[name] = leaves[name].times(scale)
    return Checkpoint(path, leaves, config, vocabulary, mark, quantised)


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
    must be the checkpoint's. dtype: what θ is held in, "float32", "bfloat16" or "int8" (its
    matrices, as int8.Int8); but the leaves that `exact` says (by path) in float32. Raises UserError
    for another architecture, for missing, extra and misshapen leaves, which it lists, and for
    values that are no finite numbers.
    """
    found = find(where)
    path = found.path
    if found.config is not None:
        there, asked = found.config.architecture(), config.architecture()
        wrong = [f"{k} = {there[k]} there, {asked[k]} asked" for k in asked if there[k] != asked[k]]
        if wrong:
            raise UserError(f"{path}: another architecture: {'; '.join(wrong)}")
    wanted = held(config, shardings, dtype, exact)
    pieces = _account(path, found.leaves, config)
    samples = Samples()

    def to_devices(name: str) -> jax.Array | Int8:
        want, leaves = wanted[name], pieces[name]
        if leaves[0].shape == want.shape:
            leaves = [samples.watch(name, leaves[0])]
        else:
            singles = (name.replace("/layers/", f"/layers_{i}/") for i in range(len(leaves)))
            leaves = [samples.watch(n, leaf) for n, leaf in zip(singles, leaves, strict=True)]
        axis = int8.summed(name)
        if not isinstance(want, Int8) or axis is None:
            return _placed(leaves, want)
        values, scales = zip(*(leaf.quantised(axis) for leaf in leaves), strict=True)
        return Int8(_placed(values, want.values), _placed(scales, want.scale))

    # files and networks wait for one another less when a few leaves are asked for at once
    with ThreadPoolExecutor(4) as pool, _progress("read", wanted) as progress:
        flat = {}
        for name, array in zip(wanted, pool.map(to_devices, wanted), strict=True):
            flat[name] = array
            progress.update()
    theta = traverse_util.unflatten_dict(flat, sep="/")
    return Backbone(path, config, theta, confirm(found, samples.fingerprint()))


def confirm(found: Checkpoint, mark: str) -> str:
    """The fingerprint of a checkpoint whose values were found to have `mark`, which is another
    where they are int8. UserError where it is not what its description says."""
    if (found.quantised or found.fingerprint) not in (None, mark):
        raise UserError(
            f"{found.path}: its values are not those that backbone.json was written for"
        )
    return found.fingerprint or mark


def held(
    config: t5.T5Config,
    shardings: Any,
    dtype: str = "float32",
    exact: Callable[[str], bool] = lambda name: False,
) -> dict[str, Any]:
    """What `read` puts on the devices, by path: shapes, dtypes and places. Nothing is allocated."""
    if dtype not in DTYPES:
        raise UserError(f"FROZEN_DTYPE = {dtype!r}: choose from {', '.join(DTYPES)}")
    places = traverse_util.flatten_dict(shardings, sep="/")

    def leaf(name: str, shape: tuple[int, ...]) -> Any:
        place, axis = places[name], int8.summed(name)
        if dtype != "int8" or axis is None or exact(name):
            kind = FLOATS["float32" if dtype == "int8" or exact(name) else dtype]
            return jax.ShapeDtypeStruct(shape, kind, sharding=place)
        spec = [*place.spec, *(None,) * (len(shape) - len(place.spec))]
        spec[axis] = None
        along = NamedSharding(place.mesh, PartitionSpec(*spec))
        return Int8(
            jax.ShapeDtypeStruct(shape, np.int8, sharding=place),
            jax.ShapeDtypeStruct(_channels(shape, axis), FLOATS["bfloat16"], sharding=along),
        )

    shapes = traverse_util.flatten_dict(t5.abstract_params(config), sep="/")
    return {name: leaf(name, abstract.shape) for name, abstract in shapes.items()}


def _channels(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """A scale's shape."""
    return tuple(1 if i == axis % len(shape) else size for i, size in enumerate(shape))


def _placed(leaves: Sequence[Leaf], want: jax.ShapeDtypeStruct) -> jax.Array:
    """A leaf, or layers one by one, as the array that is wanted, each device's piece read there."""
    whole = leaves[0].shape == want.shape
    read: dict[str, np.ndarray] = {}  # devices with the same piece share one reading

    def values(index: Any) -> np.ndarray:
        if str(index) not in read:
            if whole:
                piece = leaves[0].read(index).astype(want.dtype, copy=False)
            else:
                # a layer at a time, so that no second copy of a stack is on the host
                sizes = zip(index, want.shape, strict=True)
                shape = tuple(len(range(*part.indices(size))) for part, size in sizes)
                piece = np.empty(shape, want.dtype)
                for row, leaf in enumerate(leaves[index[0]]):
                    piece[row] = leaf.read(index[1:])
            read[str(index)] = piece
        return read[str(index)]

    return jax.make_array_from_callback(want.shape, want.sharding, values)


def _account(path: str, there: dict[str, Leaf], config: t5.T5Config) -> dict[str, list[Leaf]]:
    """The leaves that each of θ's is made of: itself, or its layers one by one ("layers_0", …).

    UserError that lists every missing, extra and misshapen one.
    """
    sources: dict[str, list[str]] = {}
    expected: dict[str, tuple[int, ...]] = {}
    for name, leaf in traverse_util.flatten_dict(t5.abstract_params(config), sep="/").items():
        names = [name]
        if "/layers/" in name and name not in there:
            # no more names than could be there, whatever number of layers a file declares
            layers = range(min(leaf.shape[0], len(there) + 1))
            names = [name.replace("/layers/", f"/layers_{i}/") for i in layers]
            one = name.replace("/layers/", "/")
            if one in there:  # a stack's one table of distances is every layer's
                names = [one] * len(names)
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
        if values.dtype.kind != "f" and values.dtype != FLOATS["bfloat16"]:
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

    dtype: one of DTYPES. An existing backbone is replaced once the new one is whole. UserError
    where `path` is there and holds anything else.
    """
    source, written = Samples(), Samples()
    single = layers(name, leaves, config)

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        with _progress("write", single) as progress:
            for leaf_name, leaf in single.items():
                values, axis = leaf.whole(), int8.summed(leaf_name)
                source.add(leaf_name, values)
                if dtype == "int8" and axis is not None:
                    values, scale = int8.quantise(values, axis)
                    written.add(leaf_name, int8.floats(values, scale))
                    yield leaf_name + SCALE, scale
                else:
                    values = values.astype(FLOATS["float32" if dtype == "int8" else dtype])
                    written.add(leaf_name, values)
                yield leaf_name, values
                progress.update()

    with folders.replaced(writable(path, OWN_FILES)) as folder:
        tensor_files.write(folder, "params", tensors(), FILE_BYTES)
        mark = source.fingerprint()
        (folder / "sentencepiece.model").write_bytes(vocabulary.content)
        facts = {
            "name": name,
            "config": config.architecture(),
            "vocabulary": {"file": "sentencepiece.model", "extra_ids": vocabulary.extra_ids},
            "fingerprint": mark,
        } | ({"int8": written.fingerprint()} if dtype == "int8" else {})
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
