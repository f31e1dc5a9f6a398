"""T5X's own checkpoints (`checkpoint_1100000/`): a msgpack index beside zarr arrays.

The index is {"version", "optimizer": {"target", "state"}} in Flax's msgpack; a leaf of "target" is
an array, or a tensorstore spec of one, whose driver may be that of another storage: it is read from
the checkpoint's own folder. The optimizer's state is left alone (t5x/checkpoints.py, version 3).
"""

from __future__ import annotations

import pathlib
from typing import Any

import flax.serialization
import numpy as np
import tensorstore
from flax import traverse_util

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.interop.leaf import Leaf

INDEX = "checkpoint"


def leaves(folder: pathlib.Path) -> dict[str, Leaf]:
    """The target's leaves by T5X's name ("encoder/layers_0/attention/query/kernel"), not yet read.

    Raises UserError for an index that is none, and for an array whose files are not there.
    """
    file = folder / INDEX
    try:
        index = flax.serialization.msgpack_restore(file.read_bytes())
        target = index["optimizer"]["target"]
    except Exception as error:  # msgpack's errors share no base class
        raise UserError(f"{file}: not the index of a T5X checkpoint ({error!r})") from None
    flat = traverse_util.flatten_dict(target, is_leaf=lambda _, v: "driver" in v, sep="/")
    return {name: _leaf(folder, name, value) for name, value in flat.items()}


def _leaf(folder: pathlib.Path, name: str, value: Any) -> Leaf:
    if not isinstance(value, dict):
        inline = np.asarray(value)
        return Leaf(inline.shape, lambda index: inline[index])
    # newer specs have kvstore.path, older ones path
    path = (value.get("kvstore") or value)["path"]
    where = folder / pathlib.PurePosixPath(path.rstrip("/")).name
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(where)}}
    try:
        array = tensorstore.open(spec, read=True, open=True).result()
    except ValueError as error:
        raise UserError(f"{where}: {name} cannot be read ({str(error).splitlines()[0]})") from None
    return Leaf(tuple(array.shape), lambda index: np.asarray(array[index].read().result()))
