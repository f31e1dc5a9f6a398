"""The mesh, and where every array of a run lies on it (GSPMD, jax.jit over a mesh)."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from prompt_tuning_jax import t5
from prompt_tuning_jax.errors import UserError

# (logical axis, mesh axis), the first that fits; no two axes of one array get the same mesh axis
Rules = Sequence[tuple[str, str | None]]


def standard_logical_axis_rules(
    activation_partitioning_dims: int = 1,
    parameter_partitioning_dims: int = 1,
    additional_rules: Rules = (),
) -> Rules:
    """T5X's rules of that name: batches over "data"; vocabulary, heads and mlp over "model".

    activation_partitioning_dims: 2 cuts the width of activations between layers over "model" too.
    parameter_partitioning_dims: 2 cuts parameters over "data" too (fully sharded: each device has
    its piece, and a layer is whole only while it computes). additional_rules come last.
    """
    dims = activation_partitioning_dims, parameter_partitioning_dims
    if not {*dims} <= {1, 2}:
        raise UserError(
            f"ACTIVATION_PARTITIONING_DIMS = {dims[0]!r}, PARAMETER_PARTITIONING_DIMS = "
            f"{dims[1]!r}: each is 1 or 2"
        )
    return (
        ("batch", "data"),
        ("vocab", "model"),
        ("mlp", "model"),
        ("heads", "model"),
        ("kv", None),
        ("joined_kv", "model"),
        *([("embed", "model")] if dims[0] == 2 else []),
        *([("embed", "data")] if dims[1] == 2 else []),
        ("embed", None),
        ("relpos_buckets", None),
        ("length", None),
        ("layers", None),
        ("prompts", None),
        ("prompt", None),
        ("prompt_embed", None),
        *additional_rules,
    )


def make_mesh(data: int = -1, model: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of axes "data" (batches are split over it) and "model" (weights are); -1: the rest.

    devices: None for this machine's. Raises UserError where they do not make such a mesh.
    """
    own = devices is None
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    if model < 1 or (data < 1 and data != -1):
        raise UserError(
            f"MESH: data = {data}, model = {model}; axes are positive (data = -1: the rest)"
        )
    if data == -1:
        data = count // model
    if data * model > count or data < 1 or (data * model != count and count % (data * model)):
        raise UserError(f"MESH: data = {data} x model = {model} on {count} devices")
    devices = devices[: data * model]
    if own and len({device.process_index for device in devices}) != jax.process_count():
        raise UserError(
            f"MESH: data = {data} x model = {model} leaves some of the {jax.process_count()} "
            f"processes without a device: there are {count} devices"
        )
    return jax.make_mesh(
        (data, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=devices
    )


def _sizes(sizes: Any) -> dict[str, int]:
    sizes = {} if sizes is None else sizes
    known = isinstance(sizes, dict) and set(sizes) <= {"data", "model"}
    if not known or not all(type(size) is int for size in sizes.values()):
        raise UserError(f"MESH = {sizes!r}: sizes of data and model, {{'data': 8, 'model': 4}}")
    return sizes


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """Lays arrays onto a mesh by their logical axes' names.

    mesh: of axes "data" and "model"; rules: (logical axis, mesh axis or None), earlier ones first.
    """

    mesh: Mesh | AbstractMesh
    rules: Rules = standard_logical_axis_rules()

    def __post_init__(self):
        for rule in self.rules:
            pair = isinstance(rule, tuple | list) and len(rule) == 2
            if not pair or not isinstance(rule[0], str) or rule[1] not in (*self.mesh.shape, None):
                raise UserError(
                    f"LOGICAL_AXIS_RULES: {rule!r} is no (logical axis, mesh axis) with one of "
                    f"{', '.join(self.mesh.shape)} or None"
                )
        # gin's lists would not hash
        object.__setattr__(self, "rules", tuple(map(tuple, self.rules)))

    @classmethod
    def of(
        cls,
        sizes: dict[str, int] | None = None,
        rules: Rules | None = None,
        devices: Sequence[jax.Device] | None = None,
    ) -> Partitioner:
        """Over `devices`, None for this machine's: sizes as a user's MESH says, None for all over
        "data"; rules None: the standard ones. UserError where they do not make such a mesh."""
        rules = standard_logical_axis_rules() if rules is None else rules
        return cls(make_mesh(**_sizes(sizes), devices=devices), rules)

    @classmethod
    def plan(cls, sizes: dict[str, int] | None = None, rules: Rules | None = None) -> Partitioner:
        """The same without the devices, which need not be there; data = -1: one row of them."""
        data, model = (max(1, _sizes(sizes).get(axis, 1)) for axis in ("data", "model"))
        rules = standard_logical_axis_rules() if rules is None else rules
        return cls(AbstractMesh((data, model), ("data", "model")), rules)

    @contextlib.contextmanager
    def use(self):
        """Within: the model's logical constraints are resolved on the mesh, which has devices."""
        assert isinstance(self.mesh, Mesh)
        with jax.set_mesh(self.mesh), nn.logical_axis_rules(self.rules):
            yield

    @property
    def replicated(self) -> NamedSharding:
        """The whole array on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def rows(self) -> NamedSharding:
        """Of a batch: its rows, and nothing else, are cut."""
        return NamedSharding(self.mesh, self._spec(("batch",)))

    def pieces(self, name: str) -> int:
        """How many pieces an axis of that name is cut into."""
        (axis,) = self._spec((name,))
        return self.mesh.shape[axis] if axis else 1

    def sharding(self, path: str, shape: tuple[int, ...], names: tuple) -> NamedSharding:
        """Of the array at `path` with these logical axes. UserError where a mesh axis does not
        divide one."""
        spec = self._spec(names)
        for axis, size, name in zip(spec, shape, names, strict=True):
            if axis and size % self.mesh.shape[axis]:
                raise UserError(
                    f"MESH: {axis} = {self.mesh.shape[axis]} does not divide {path}'s {name} of "
                    f"{size}"
                )
        return NamedSharding(self.mesh, spec)

    def _spec(self, names: tuple) -> PartitionSpec:
        spec = nn.logical_to_mesh_axes(names, self.rules)
        assert spec is not None
        return spec

    def theta(self, config: t5.T5Config) -> Any:
        """A NamedSharding for every leaf of θ. UserError where an axis does not divide one."""
        pieces = self.pieces("joined_kv")
        if config.num_heads % pieces:
            raise UserError(f"MESH: model = {pieces} does not divide the {config.num_heads} heads")
        shapes = traverse_util.flatten_dict(t5.abstract_params(config), sep="/")
        names = traverse_util.flatten_dict(t5.logical_axes(config), sep="/")
        flat = {
            path: self.sharding(path, leaf.shape, tuple(names[path]))
            for path, leaf in shapes.items()
        }
        return traverse_util.unflatten_dict(flat, sep="/")

    def tuned(self, axes: Any, tuned: Any) -> Any:
        """A NamedSharding for every leaf of `tuned`, from its method's logical axes."""
        return jax.tree.map(
            lambda names, leaf: self.sharding("tuned", leaf.shape, names),
            axes,
            tuned,
            is_leaf=lambda a: isinstance(a, tuple),
        )

    def slots(self, opt_state: Any, tuned: Any, places: Any) -> Any:
        """A NamedSharding for every leaf of an optimizer's state: where it keeps a value for each
        of a parameter's (Adam's moments), the parameter's own of `places`; else replicated."""
        own = {
            _keys(path): (leaf.shape, place)
            for (path, leaf), place in zip(
                jax.tree_util.tree_leaves_with_path(tuned), jax.tree.leaves(places), strict=True
            )
        }

        def place(path, leaf):
            # a parameter's path stands whole somewhere in its slot's
            keys = _keys(path)
            for first in range(len(keys)):
                for last in range(first, len(keys)):
                    shape, found = own.get(keys[first : last + 1], (None, None))
                    if shape == leaf.shape:
                        return found
            return self.replicated

        return jax.tree_util.tree_map_with_path(place, opt_state)

    @functools.cached_property
    def share(self) -> tuple[int, int]:
        """(index, count): this process's devices hold the index-th of `count` equal parts of a
        batch's rows. Where "model" goes through several processes, these hold the same part."""
        pieces = self.pieces("batch")
        found = self.rows.addressable_devices_indices_map((pieces,)).values()
        held = sorted({index[0].indices(pieces)[0] for index in found if index is not None})
        first, size = held[0], len(held)
        if held != list(range(first, first + size)) or first % size or pieces % size:
            return 0, 1  # a mesh of another order: each makes all rows, and keeps its own
        return first // size, pieces // size

    def own(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """This process's rows of a whole batch."""
        index, count = self.share
        return {name: np.split(array, count)[index] for name, array in batch.items()}

    def put_batch(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """This process's rows of a batch (`share`) onto its devices -> the whole batch's arrays."""
        _, count = self.share
        return {
            name: jax.make_array_from_process_local_data(
                self.rows, a, (count * len(a), *a.shape[1:])
            )
            for name, a in batch.items()
        }

    def check_batch(self, batch_size: int, microbatches: int = 1) -> None:
        """UserError unless a batch can be cut into microbatches and these over the devices."""
        pieces = math.prod((self.pieces("batch"), microbatches))
        if batch_size < 1 or batch_size % pieces:
            raise UserError(
                f"BATCH_SIZE = {batch_size} is no multiple of MESH data {self.pieces('batch')} x "
                f"NUM_MICROBATCHES {microbatches}"
            )


def put(tree: Any, places: Any) -> Any:
    """Arrays of the host, the same in every process, onto their places, and those of the devices.

    Each process puts the pieces of its own devices; `device_put` would send all to all, to compare.
    """

    def one(leaf: Any, place: NamedSharding) -> jax.Array:
        if isinstance(leaf, jax.Array) or place.is_fully_addressable:
            return jax.device_put(leaf, place)
        return jax.make_array_from_callback(leaf.shape, place, leaf.__getitem__)

    return jax.tree.map(one, tree, places)


def _keys(path: tuple) -> tuple:
    return tuple(getattr(key, "key", None) for key in path)
