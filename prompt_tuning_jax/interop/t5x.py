"""T5X's own checkpoints, `checkpoint_1100000/`, on a local disk or at gs://.

    checkpoint, target.encoder.….kernel/   T5X's format: a msgpack index beside zarr arrays
    state/                                 Orbax's format, in one OCDBT store or a folder an array

The index is {"version", "optimizer": {"target", "state"}} in Flax's msgpack; a leaf of "target" is
an array, or a tensorstore spec of one, whose driver may be that of another storage: it is read from
the checkpoint's own folder (t5x/checkpoints.py). The optimizer's state is left alone.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flax.serialization
import numpy as np
from flax import traverse_util

from prompt_tuning_jax import folders
from prompt_tuning_jax.errors import UserError, reason
from prompt_tuning_jax.interop import storage, t5x_names
from prompt_tuning_jax.interop.leaf import Checkpoint, Leaf


def open_checkpoint(path: str) -> Checkpoint | None:
    """The checkpoint that lies at `path`, not yet read; None where it holds no T5X checkpoint.

    Raises UserError for an index that is none, and for an array whose files are not there.
    """
    store = storage.kvstore(path)
    index = storage.read(store, "checkpoint")
    if index is not None:
        leaves = _t5x(store, path, index)
    else:
        for folder in (storage.below(store, "state"), store):
            if storage.read(folder, "_METADATA") is not None:
                leaves = _orbax(folder, path)
                break
        else:
            return None
    return Checkpoint(path, t5x_names.canonical(path, leaves))


def _t5x(store: dict[str, Any], path: str, content: bytes) -> dict[str, Leaf]:
    try:
        # Flax puts arrays that it cut into chunks together again
        index = flax.serialization.msgpack_restore(content)
        target = index.get("optimizer", index)["target"]
        flat = traverse_util.flatten_dict(target, is_leaf=lambda _, v: "driver" in v, sep="/")
        leaves = {name: _indexed(store, value) for name, value in flat.items()}
    except Exception as error:  # msgpack's errors share no base class
        raise UserError(
            f"{path}/checkpoint: no index of a T5X checkpoint ({reason(error)})"
        ) from None
    return _opened(leaves)


def _indexed(store: dict[str, Any], value: Any) -> Callable[[], Leaf]:
    if not isinstance(value, dict):
        return functools.partial(Leaf.of, np.asarray(value))
    # newer specs have kvstore.path, older ones path
    path = value["kvstore"].get("path") or value["path"]
    name = pathlib.PurePosixPath(path.rstrip("/")).name
    folders.inside(pathlib.Path(), name)
    return functools.partial(storage.array, storage.below(store, name))


def _orbax(store: dict[str, Any], path: str) -> dict[str, Leaf]:
    if storage.read(store, "manifest.ocdbt") is not None:
        store = {"driver": "ocdbt", "base": store}
    found = storage.arrays(store)
    target = {n: driver for n, driver in found.items() if n.startswith("target.")}
    if not target:
        raise UserError(f"{path}: an Orbax checkpoint, but no parameters under 'target' in it")
    return _opened(
        {
            name.removeprefix("target.").replace(".", "/"): functools.partial(
                storage.array, storage.below(store, name), driver
            )
            for name, driver in target.items()
        }
    )


def _opened(leaves: dict[str, Callable[[], Leaf]]) -> dict[str, Leaf]:
    """All at once: far away, each takes a moment to answer."""
    with ThreadPoolExecutor(16) as pool:
        return dict(zip(leaves, pool.map(lambda call: call(), leaves.values()), strict=True))
