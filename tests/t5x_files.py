"""Checkpoints as T5X and Orbax write them, from a θ of ours; for tests.

T5X's index and specs are put together here from its documentation (t5x/checkpoints.py, version 3);
the arrays are written by tensorstore, Orbax's checkpoints by Orbax.
"""

import flax.serialization
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from flax import traverse_util


def unstacked(theta):
    """θ's leaves as T5X has them: a layer's under layers_0, layers_1, …"""
    flat = {}
    for name, leaf in traverse_util.flatten_dict(theta, sep="/").items():
        if "/layers/" in name:
            flat |= {name.replace("/layers/", f"/layers_{i}/"): leaf[i] for i in range(len(leaf))}
        else:
            flat[name] = leaf
    return flat


def scanned(theta, heads=None):
    """θ's leaves as flaxformer and scalable_t5 scan them: layers on axis 1, under encoder/encoder;
    the one table of distances once in every layer. scalable_t5 gives the `heads` an axis."""
    flat = {}
    for name, leaf in traverse_util.flatten_dict(theta, sep="/").items():
        stack, _, rest = name.partition("/")
        layers = {"encoder": "attention", "decoder": "self_attention"}.get(stack)
        if rest == "relpos_bias/rel_embedding":
            count = len(theta[stack]["layers"][layers]["query"]["kernel"])
            flat[f"{stack}/{stack}/{rest}"] = np.stack([leaf] * count, 1)
        elif rest.startswith("layers/"):
            count, kernel = len(leaf), name.split("/")[-2]
            if heads and kernel in ("query", "key", "value"):
                leaf = leaf.reshape(count, leaf.shape[1], heads, -1)
            elif heads and kernel == "out":
                leaf = leaf.reshape(count, heads, -1, leaf.shape[2])
            flat[f"{stack}/{stack}/{rest.removeprefix('layers/')}"] = np.moveaxis(leaf, 0, 1)
        else:
            flat[name] = leaf
    return flat


def write(folder, flat, *, driver="file", older=False, inline=("scale", "rel_embedding"), dtype=""):
    """T5X's own format: arrays in gzip chunks of odd shapes, the leaves that end with `inline` in
    the index; the optimizer's state points to arrays that are not there.

    driver: the storage that the specs name; older: specs with "path" at their top.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, spec = {}, {"driver": "zarr"}
    for name, leaf in flat.items():
        leaf = np.asarray(leaf, dtype or leaf.dtype)
        if name.endswith(inline):
            target[name] = leaf
            continue
        metadata = {
            "shape": list(leaf.shape),
            "chunks": [max(1, size // 2 + 1) for size in leaf.shape],
            "compressor": {"id": "gzip"},
        }
        file = f"target.{name.replace('/', '.')}"
        spec = {
            "driver": "zarr",
            "dtype": str(leaf.dtype),
            "kvstore": {"driver": "file", "path": str(folder / file)},
            "metadata": metadata,
        }
        tensorstore.open(spec, create=True).result().write(leaf).result()
        buckets = {"gcs": {"bucket": "t5x-dummy-bucket"}}
        kvstore = {"driver": driver, **buckets.get(driver, {})}
        # T5X's paths end with a slash where tensorstore wrote the spec out again
        where = {"path": file} if older else {"kvstore": kvstore | {"path": f"{file}/"}}
        target[name] = spec | {"kvstore": kvstore} | where
    state = {"step": np.int32(7), "param_states": {"gone": spec | {"path": "gone"}}}
    index = {
        "version": 3,
        "optimizer": {"target": traverse_util.unflatten_dict(target, sep="/"), "state": state},
    }
    (folder / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(index))
    return folder


def write_orbax(folder, flat, **options):
    """What T5X writes through Orbax: CHECKPOINT/state, parameters under "target"."""
    target = traverse_util.unflatten_dict({n: jnp.asarray(v) for n, v in flat.items()}, sep="/")
    state = {"step": jnp.int32(7), "param_states": {"logits": {"v": jnp.ones(3)}}}
    handler = ocp.PyTreeCheckpointHandler(**options)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler(state=handler)) as checkpointer:
        save = ocp.args.PyTreeSave({"target": target, "state": state})
        checkpointer.save(folder.absolute(), args=ocp.args.Composite(state=save))
    return folder
