"""Run in a process of 8 simulated devices (conftest.py): python on_eight_devices.py FOLDER

Writes one step's loss and gradient over int8 on a 2x4 mesh into "FOLDER/int8 NAME.npz", and what
meshes there are, and what a backbone is when it is read onto one, into FOLDER/facts.json.
"""

import collections
import json
import pathlib
import sys

import contract
import jax
import numpy as np
import small
import t5x_files

from prompt_tuning_jax import backbones, sharding
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.interop import huggingface

FIND = backbones.find
ON_2X4 = sharding.Partitioner.of({"data": 2, "model": 4})


def mesh(data, model):
    try:
        return list(sharding.make_mesh(data, model).shape.values())
    except UserError as error:
        return str(error)


def write_backbones(folder):
    """The same θ in our format, T5X's two, with its layers one by one and scanned, and theirs."""
    theta, words = small.theta(), contract.vocabulary()
    leaves, flat = backbones.leaves_of(theta), t5x_files.unstacked(theta)
    backbones.write(str(folder / "own"), "own", small.CONFIG, leaves, words)
    t5x_files.write(folder / "t5x", flat)
    t5x_files.write(folder / "scanned", t5x_files.scanned(theta, small.CONFIG.num_heads))
    t5x_files.write_orbax(folder / "orbax", flat)
    (folder / "huggingface").mkdir()
    single = backbones.layers("θ", leaves, small.CONFIG)
    huggingface.write(folder / "huggingface", small.CONFIG, single, words)
    return ("own", "t5x", "scanned", "orbax", "huggingface")


def read_backbone(folder):
    """What of it is on the devices; of every leaf how many pieces were read and the largest."""
    largest, pieces = {}, collections.Counter()

    def recorded(name, leaf):
        def read(index):
            piece = leaf.read(index)
            pieces[name] += 1
            largest[name] = max(largest.get(name, 0), piece.size)
            return piece

        return leaf._replace(read=read)

    found = FIND(folder)
    leaves = {name: recorded(name, leaf) for name, leaf in found.leaves.items()}
    backbones.find = lambda path: found._replace(leaves=leaves)
    places = ON_2X4.theta(small.CONFIG)
    backbone = backbones.read(folder, small.CONFIG, places)
    backbones.find = FIND
    embedding = backbone.theta["token_embedder"]["embedding"]
    return {
        "same": small.same(jax.device_get(backbone.theta), small.theta()),
        "fingerprint": backbone.fingerprint,
        "embedding_on_each_device": [list(s.data.shape) for s in embedding.addressable_shards],
        "largest": largest,
        "pieces": dict(pieces),
    }


def pieces_of(theta):
    """The shapes that the devices hold of every leaf of an int8 θ, "…/kernel/scale" and so on."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [
            list(shard.data.shape) for shard in leaf.addressable_shards
        ]
        for path, leaf in jax.tree_util.tree_leaves_with_path(theta)
    }


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    wanted = [(-1, 1), (-1, 4), (2, 4), (2, 2), (1, 1), (3, 1), (4, 4), (-1, 16)]
    facts = {
        "meshes": {f"{data}x{model}": mesh(data, model) for data, model in wanted},
        "backbones": {name: read_backbone(str(out / name)) for name in write_backbones(out)},
    }
    for name, method in contract.OVER_INT8.items():
        theta, _, (loss, gradient) = contract.over_int8(method, ON_2X4)
        np.savez(out / f"int8 {name}.npz", loss=loss, **contract.leaves(gradient))
        if name == "Prompt":  # it takes nothing out of θ
            facts["int8"] = pieces_of(theta)
    (out / "facts.json").write_text(json.dumps(facts))
