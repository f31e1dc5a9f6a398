"""What a run would train, hold and cost, before it is started: one JSON object, nothing allocated.

    python -m prompt_tuning_jax.describe --gin_file=models/t5_1_1_xxl_prompt.gin

With TASK_FEATURE_LENGTHS its training step and its decoder are compiled too, for as many CPU
devices as MESH names, or for a TPU slice:

    python -m prompt_tuning_jax.describe --topology=v5e:4x4 \
        --gin_file=models/t5_1_1_xxl_prompt.gin --gin.FROZEN_DTYPE=bfloat16
"""

if __name__ == "__main__":
    from prompt_tuning_jax.launch import main

    raise SystemExit(main("describe"))

import contextlib
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import jax

from prompt_tuning_jax import (
    backbones,
    checkpoints,
    data,
    described_step,
    launch,
    sharding,
    t5,
    topologies,
    train,
    training_step,
)
from prompt_tuning_jax.described_step import Described
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.optimizers import Adafactor

# arguments of train.train: what is counted, and what a program is compiled of besides
COUNTED = ("config", "method", "optimizer", "frozen_dtype", "mesh", "logical_axis_rules")
COMPILED = (
    "task_feature_lengths",
    "loss",
    "batch_size",
    "num_microbatches",
    "eval_batch_size",
    "decoder",
    "eval_tasks",
)
LENGTHS = {"inputs": 512, "targets": 100}  # what a slice is compiled for when nothing is said


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _frozen_bytes(
    config: t5.T5Config, taken: Any, dtype: str, partitioner: sharding.Partitioner
) -> int:
    places = partitioner.theta(config)
    held = backbones.held(config, places, dtype, taken.__contains__)
    leaves = jax.tree.leaves({path: leaf for path, leaf in held.items() if path not in taken})
    pieces = (leaf.sharding.shard_shape(leaf.shape) for leaf in leaves)
    sizes = (leaf.dtype.itemsize for leaf in leaves)
    return sum(math.prod(piece) * size for piece, size in zip(pieces, sizes, strict=True))


def cost(
    config: t5.T5Config,
    method: Method,
    optimizer: Any = Adafactor(),
    frozen_dtype: str = "float32",
    mesh: dict[str, int] | None = None,
    logical_axis_rules: sharding.Rules | None = None,
) -> dict[str, Any]:
    """What the arguments of `train.train` mean, as a dict of JSON values.

    frozen_parameters: θ's that do not move; tuned_parameters: those that do; tuned_fraction: tuned
    over all; frozen_bytes_per_device: what does not move as frozen_dtype holds it, on each device
    of the mesh; checkpoint_bytes: a run's state and its checksum; artifact_bytes: what is exported.
    """
    theta = t5.abstract_params(config)
    frozen, taken = jax.eval_shape(method.split, theta)
    tuned = method.abstract(config, theta)
    slots = jax.eval_shape(optimizer.build(method.axes(config, tuned)).init, tuned)
    state = jax.eval_shape(training_step.first_state, tuned, slots)
    partitioner = sharding.Partitioner.plan(mesh, logical_axis_rules)
    held, moved = _count(frozen), _count(tuned)
    return {
        "frozen_parameters": held,
        "tuned_parameters": moved,
        "tuned_fraction": moved / (held + moved),
        "frozen_bytes_per_device": _frozen_bytes(config, taken, frozen_dtype, partitioner),
        "checkpoint_bytes": _bytes(jax.eval_shape(checkpoints.signed, state)),
        "artifact_bytes": _bytes(jax.eval_shape(method.export, tuned)),
    }


def compiled(given: dict[str, Any], found: topologies.Slice | None) -> dict[str, Any]:
    """What the training step and the decoder of these arguments of `train.train` need of each
    device of the mesh (`described_step.cost`): of a TPU slice or, None, of CPU devices.

    A run with no EVAL_TASKS decodes nothing. Raises UserError for a mesh that does not fit.
    """
    given, chip = dict(given), None if found is None else found.chip
    sizes, rules = given.pop("mesh", None), given.pop("logical_axis_rules", None)
    evaluates = given.pop("eval_tasks", None) != []
    devices = _cpu_devices(sizes) if found is None else found.devices
    partitioner = sharding.Partitioner.of(sizes, rules, devices)
    run, count = Described(partitioner, **given), partitioner.mesh.size
    where = f"{count} CPU devices" if found is None else found.name
    facts = {
        "compiled_for": where,
        "mesh": dict(partitioner.mesh.shape),
        "batch": {
            "size": run.batch_size,
            "microbatches": run.num_microbatches,
            **run.task_feature_lengths,
        },
    }
    programs = {"train": run.train_step} | ({"decode": run.decode} if evaluates else {})
    # decoding's first token is outside of its loop
    rounds = run.task_feature_lengths["targets"] - 1
    for name, lower in programs.items():
        lowered = lower()
        print(f"compiling {name} for {where} …", file=sys.stderr, flush=True)
        facts[name] = described_step.cost(lowered, count, chip, rounds)
    return facts


def _cpu_devices(sizes: dict[str, int] | None) -> Sequence[jax.Device]:
    """As many as a mesh has, where JAX has not begun yet."""
    planned = sharding.Partitioner.plan(sizes).mesh.size
    with contextlib.suppress(RuntimeError):  # JAX has begun: the mesh must do with what is there
        jax.config.update("jax_num_cpu_devices", planned)
    return jax.devices("cpu")[: 1 if sizes is None else None]


def describe(topology: str | None = None) -> dict[str, Any]:
    """Prints the cost of the run that gin configures, as one JSON object.

    topology: a TPU slice's name; TASK_FEATURE_LENGTHS are LENGTHS there where none are given, and
    where MESH is None "model" is as long as it divides the heads and the widths of the model.
    """
    given = launch.bound_arguments(train.train, (*COUNTED, *COMPILED))
    missing = [name for name in ("config", "method") if name not in given]
    if missing:
        raise UserError(
            f"describe needs train.train.{missing[0]}: add a file of models/ or methods/"
        )
    found = None
    if topology is not None:
        found, config = topologies.find(topology), given["config"]
        given = {"task_feature_lengths": LENGTHS} | given
        if given.get("mesh") is None:
            given["mesh"] = found.mesh(config.num_heads, config.vocab_size, config.mlp_dim)
    facts = cost(**{name: value for name, value in given.items() if name in COUNTED})
    if "task_feature_lengths" in given:
        data.check_lengths(given["task_feature_lengths"])
        facts |= compiled(given, found)
    print(json.dumps(facts, indent=2))
    return facts
