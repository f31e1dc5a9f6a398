"""The mesh, and where every array of a run lies on it (GSPMD, jax.jit over a mesh)."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from prompt_tuning_jax import t5
from prompt_tuning_jax.errors import UserError

# T5X's standard rules for one-dimensional parameter and activation partitioning
RULES: tuple[tuple[str, str | None], ...] = (
    ("batch", "data"),
    ("vocab", "model"),
    ("mlp", "model"),
    ("heads", "model"),
    ("joined_kv", "model"),
    ("embed", None),
    ("kv", None),
    ("length", None),
    ("layers", None),
    ("relpos_buckets", None),
    ("prompts", None),
    ("prompt", None),
    ("prompt_embed", None),
)


def make_mesh(data: int = -1, model: int = 1) -> Mesh:
    """A mesh of axes "data" (batches are split over it) and "model" (weights are); -1: the rest.

    Raises UserError where the devices do not make such a mesh.
    """
    count = len(jax.devices())
    if model < 1 or (data < 1 and data != -1):
        raise UserError(
            f"MESH: data = {data}, model = {model}; axes are positive (data = -1: the rest)"
        )
    if data == -1:
        data = count // model
    if data * model > count or data < 1 or (data * model != count and count % (data * model)):
        raise UserError(f"MESH: data = {data} x model = {model} on {count} devices")
    devices = jax.devices()[: data * model]
    return jax.make_mesh(
        (data, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=devices
    )


def mesh_of(sizes: dict[str, int] | None) -> Mesh:
    """`make_mesh` of what a user's MESH says, None for all devices over "data"."""
    return make_mesh(**_sizes(sizes))


def plan_of(sizes: dict[str, int] | None) -> AbstractMesh:
    """The same without the devices, which need not be there; data = -1: one row of them."""
    data, model = (max(1, _sizes(sizes).get(axis, 1)) for axis in ("data", "model"))
    return AbstractMesh((data, model), ("data", "model"))


def _sizes(sizes: dict[str, int] | None) -> dict[str, int]:
    sizes = {} if sizes is None else sizes
    known = isinstance(sizes, dict) and set(sizes) <= {"data", "model"}
    if not known or not all(isinstance(size, int) for size in sizes.values()):
        raise UserError(f"MESH = {sizes!r}: sizes of data and model, {{'data': 8, 'model': 4}}")
    return sizes


@contextlib.contextmanager
def use(mesh: Mesh):
    """Within: the model's logical constraints are resolved on `mesh`."""
    with mesh, nn.logical_axis_rules(RULES):
        yield


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def _sharding(
    mesh: Mesh | AbstractMesh, path: str, shape: tuple[int, ...], names: tuple
) -> NamedSharding:
    spec = [dict(RULES)[name] if name else None for name in names]
    for axis, size, name in zip(spec, shape, names, strict=True):
        if axis and size % mesh.shape[axis]:
            raise UserError(
                f"MESH: {axis} = {mesh.shape[axis]} does not divide {path}'s {name} of {size}"
            )
    return NamedSharding(mesh, PartitionSpec(*spec))


def theta_shardings(mesh: Mesh | AbstractMesh, config: t5.T5Config) -> Any:
    """A NamedSharding for every leaf of θ. UserError where an axis does not divide one."""
    heads = mesh.shape["model"]
    if config.num_heads % heads:
        raise UserError(f"MESH: model = {heads} does not divide the {config.num_heads} heads")
    shapes = traverse_util.flatten_dict(t5.abstract_params(config), sep="/")
    names = traverse_util.flatten_dict(t5.logical_axes(config), sep="/")
    flat = {
        path: _sharding(mesh, path, leaf.shape, tuple(names[path])) for path, leaf in shapes.items()
    }
    return traverse_util.unflatten_dict(flat, sep="/")


def tuned_shardings(mesh: Mesh, axes: Any, tuned: Any) -> Any:
    """A NamedSharding for every leaf of `tuned`, from its method's logical axes."""
    return jax.tree.map(
        lambda names, leaf: _sharding(mesh, "tuned", leaf.shape, names),
        axes,
        tuned,
        is_leaf=lambda a: isinstance(a, tuple),
    )


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """A host's batch onto the devices, rows split over "data"."""
    rows = NamedSharding(mesh, PartitionSpec("data"))
    return {name: jax.make_array_from_process_local_data(rows, a) for name, a in batch.items()}


def check_batch(mesh: Mesh, batch_size: int, microbatches: int = 1) -> None:
    """UserError unless a batch can be cut into microbatches and these over the "data" axis."""
    pieces = math.prod((mesh.shape["data"], microbatches))
    if batch_size < 1 or batch_size % pieces:
        raise UserError(
            f"BATCH_SIZE = {batch_size} is no multiple of MESH data {mesh.shape['data']} x "
            f"NUM_MICROBATCHES {microbatches}"
        )
