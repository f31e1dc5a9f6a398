"""Run in a process of 8 simulated devices (conftest.py): python on_eight_devices.py FOLDER

Trains the methods of methods/ and the chains of the contract on a 2x4 mesh and writes
FOLDER/NAME.npz; writes what meshes
there are, and what a backbone is when it is read onto one, into FOLDER/facts.json.
"""

import json
import pathlib
import sys

import contract
import jax
import numpy as np
import small

from prompt_tuning_jax import backbones, sharding
from prompt_tuning_jax.errors import UserError


def mesh(data, model):
    try:
        return list(sharding.make_mesh(data, model).shape.values())
    except UserError as error:
        return str(error)


def read_backbone(folder):
    theta = backbones.leaves_of(small.theta())
    backbones.write(folder, "tiny", small.CONFIG, theta, contract.vocabulary())
    places = sharding.theta_shardings(sharding.make_mesh(2, 4), small.CONFIG)
    backbone = backbones.read(folder, small.CONFIG, places)
    embedding = backbone.theta["token_embedder"]["embedding"]
    return {
        "same": small.same(jax.device_get(backbone.theta), small.theta()),
        "fingerprint": backbone.fingerprint,
        "embedding_on_each_device": [list(s.data.shape) for s in embedding.addressable_shards],
    }


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    wanted = [(-1, 1), (-1, 4), (2, 4), (2, 2), (1, 1), (3, 1), (4, 4), (-1, 16)]
    facts = {
        "meshes": {f"{data}x{model}": mesh(data, model) for data, model in wanted},
        "backbone": read_backbone(str(out / "tiny")),
    }
    (out / "facts.json").write_text(json.dumps(facts))
    for name, method in (contract.PACKAGED | contract.CHAINS).items():
        trial = contract.run(method, sharding.make_mesh(2, 4))
        tuned = contract.leaves(trial.tuned)
        np.savez(out / f"{name}.npz", losses=trial.losses, **tuned)
