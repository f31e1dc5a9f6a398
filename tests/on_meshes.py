"""Run in a process of 8 simulated devices (test_meshes.py): python on_meshes.py FOLDER

Trains methods for 20 steps on one device and on meshes, and writes each one's losses and tuned
parameters into "FOLDER/MESH NAME.npz".
"""

import dataclasses
import pathlib
import sys

import contract
import numpy as np
import small

from prompt_tuning_jax.sharding import Partitioner, standard_logical_axis_rules

STEPS = 20
# what eight devices divide, with dropout, whose numbers no mesh may change
CONFIG = dataclasses.replace(small.CONFIG, num_heads=8, head_dim=3, mlp_dim=24, dropout_rate=0.1)
EVERY = contract.PACKAGED | contract.CHAINS
TOGETHER = ("packaged together",)  # every method of methods/, in one program
ALONE = (*contract.PACKAGED, "others together")
# name -> ((data, model), (activation_partitioning_dims, parameter_partitioning_dims), methods)
MESHES = {
    "1x8": ((1, 8), (1, 1), TOGETHER),
    "2x4": ((2, 4), (1, 1), ALONE),
    "4x2": ((4, 2), (1, 1), TOGETHER),
    "8x1": ((8, 1), (1, 1), TOGETHER),
    "4x2 fully sharded, wide activations": ((4, 2), (2, 2), TOGETHER),
}


def batch():
    """Eight rows, no two alike."""
    inputs, targets = (
        [[*row[-2::-1], 1] for row in rows] for rows in (small.INPUTS, small.TARGETS)
    )
    return small.batch(small.INPUTS + inputs, targets + small.TARGETS)


def trained(method, sizes: tuple[int, int], dims: tuple[int, int]):
    """The losses, and the tuned parameters after STEPS steps."""
    rules = standard_logical_axis_rules(*dims)
    partitioner = Partitioner.of(dict(zip(("data", "model"), sizes, strict=True)), rules)
    trial = contract.run(method, partitioner, CONFIG, STEPS, batch())
    return trial.losses, contract.leaves(trial.tuned)


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    for mesh, (sizes, dims, names) in ({"one": ((1, 1), (1, 1), EVERY)} | MESHES).items():
        for name in names:
            losses, found = trained(EVERY[name], sizes, dims)
            np.savez(out / f"{mesh} {name}.npz", losses=losses, **found)
