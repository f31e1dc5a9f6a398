"""Run by test_methods.py in a process of 8 simulated devices: python on_eight_devices.py FOLDER

Trains every method of the contract on a 2x4 mesh and writes FOLDER/NAME.npz.
"""

import pathlib
import sys

import contract
import numpy as np

from prompt_tuning_jax import sharding

for name, method in contract.METHODS.items():
    trial = contract.run(method, sharding.make_mesh(data=2, model=4))
    np.savez(
        pathlib.Path(sys.argv[1]) / f"{name}.npz",
        losses=trial.losses,
        **contract.leaves(trial.tuned),
    )
