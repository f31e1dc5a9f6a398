"""What a run would train, hold and cost, before it is started: one JSON object, nothing allocated.

python -m prompt_tuning_jax.describe --gin_file=models/t5_1_1_xxl_prompt.gin
"""

if __name__ == "__main__":
    from prompt_tuning_jax.launch import main

    raise SystemExit(main("describe"))

import json
import math
from typing import Any

import jax

from prompt_tuning_jax import backbones, launch, sharding, t5, train
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.optimizers import Adafactor


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
    of the mesh; checkpoint_bytes: tuned, optimizer slots, step and best; artifact_bytes: what is
    exported.
    """
    theta = t5.abstract_params(config)
    frozen, taken = jax.eval_shape(method.split, theta)
    tuned = method.abstract(config, theta)
    slots = jax.eval_shape(optimizer.build(method.axes(config, tuned)).init, tuned)
    partitioner = sharding.Partitioner.plan(mesh, logical_axis_rules)
    held, moved = _count(frozen), _count(tuned)
    return {
        "frozen_parameters": held,
        "tuned_parameters": moved,
        "tuned_fraction": moved / (held + moved),
        "frozen_bytes_per_device": _frozen_bytes(config, taken, frozen_dtype, partitioner),
        "checkpoint_bytes": _bytes(tuned) + _bytes(slots) + 16,  # the step and the best one
        "artifact_bytes": _bytes(jax.eval_shape(method.export, tuned)),
    }


def describe() -> dict[str, Any]:
    """Prints the cost of the run that gin configures, as one JSON object."""
    arguments = ("config", "method", "optimizer", "frozen_dtype", "mesh", "logical_axis_rules")
    given = launch.bound_arguments(train.train, arguments)
    missing = [name for name in ("config", "method") if name not in given]
    if missing:
        raise UserError(
            f"describe needs train.train.{missing[0]}: add a file of models/ or methods/"
        )
    facts = cost(**given)
    print(json.dumps(facts, indent=2))
    return facts
