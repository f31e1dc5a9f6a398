"""Our logits against those of T5X's own networks, run from a checkout of google-research/t5x.

    python benchmarks/agreement_t5x.py --t5x=/path/to/t5x --checkpoint=…/checkpoint_3

T5X is not on PyPI, so this is no test: it prints a row a model, the largest difference over the
real target tokens relative to the largest logit. Both compute in float32.
"""

import argparse
import dataclasses
import functools
import importlib
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from prompt_tuning_jax import backbones, sharding, t5

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))
import t5x_files  # noqa: E402
from golden import weights  # noqa: E402

SMALL, RELU = weights.CONFIGS["t5_1_1"], weights.CONFIGS["t5_1_0"]
SHAPES = {"short": (6, 11, 7), "beyond the last bucket": (3, 300, 150)}


def networks(checkout: str):
    """T5X's two networks, without what its package imports besides."""
    package = types.ModuleType("t5x")
    package.__path__ = [f"{checkout}/t5x"]
    sys.modules["t5x"] = package
    names = ("t5x.examples.t5.network", "t5x.examples.scalable_t5.network")
    return [importlib.import_module(name) for name in names]


def batch(config: t5.T5Config, rows: int, inputs: int, targets: int, packed: bool = False):
    """Random tokens with padding at the end, or two segments a row."""
    draw = np.random.RandomState(0)
    arrays = {}
    for side, length in (("encoder", inputs), ("decoder", targets)):
        tokens = draw.randint(3, config.vocab_size, (rows, length))
        ends = draw.randint(length // 2, length + 1, (rows, 1))
        place = np.arange(length)[None]
        segments = (place < ends).astype(int)
        positions = np.broadcast_to(place, tokens.shape) * segments
        if packed:
            cut = ends // 2
            segments = segments * np.where(place < cut, 1, 2)
            positions = np.where(place < cut, place, place - cut) * (segments > 0)
        tokens = tokens * (segments > 0)
        arrays |= {f"{side}_segment_ids": segments, f"{side}_positions": positions}
        arrays |= {f"{side}_input_tokens": tokens, f"{side}_target_tokens": tokens}
    if not packed:
        arrays = {k: v for k, v in arrays.items() if "segment" not in k and "position" not in k}
    del arrays["encoder_target_tokens"]
    # what the decoder reads is any sequence: both get the same
    return {name: jnp.asarray(value, jnp.int32) for name, value in arrays.items()}


def theirs(network, config: t5.T5Config, theta, rows, scanned: bool):
    """T5X's logits for our θ."""
    sizes = {f.name for f in dataclasses.fields(network.T5Config)}
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k in sizes}
    if scanned:
        settings |= {"scan_layers": True, "remat_policy": "none"}
    # T5X writes 32 buckets into its network; the test checkpoint has 4
    tables = network.layers.RelativePositionBiases
    buckets = config.relpos_buckets
    network.layers.RelativePositionBiases = lambda **kw: tables(**kw | {"num_buckets": buckets})
    model = network.Transformer(network.T5Config(**settings))
    flat = t5x_files.scanned(theta, config.num_heads) if scanned else t5x_files.unstacked(theta)
    params = jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(flat, sep="/"))
    call = functools.partial(model.apply, {"params": params}, enable_dropout=False)
    result = call(**rows)
    network.layers.RelativePositionBiases = tables
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--t5x", required=True)
    parser.add_argument("--checkpoint")
    given = parser.parse_args()
    plain, scalable = networks(given.t5x)
    models = {
        "T5 1.1": (plain, SMALL, False),
        "T5 1.0 (ReLU, tied)": (plain, RELU, False),
        "a table a layer, scanned": (
            scalable,
            dataclasses.replace(SMALL, relpos_per_layer=True),
            True,
        ),
    }
    cases = [
        (f"{name}, {shape}", *model, None, batch(model[1], *sizes))
        for name, model in models.items()
        for shape, sizes in SHAPES.items()
    ]
    cases.append(("T5 1.1, packed", *models["T5 1.1"], None, batch(SMALL, 6, 24, 16, packed=True)))
    if given.checkpoint:
        config = backbones.config_of(given.checkpoint, dropout_rate=0.0)
        places = sharding.Partitioner.of({"data": 1}).theta(config)
        theta = jax.device_get(backbones.read(given.checkpoint, config, places).theta)
        cases.append(
            ("T5X's test checkpoint", plain, config, False, theta, batch(config, 6, 40, 9))
        )
    print("| model | examples | largest difference |\n|---|---|---|")
    for name, network, config, scanned, theta, rows in cases:
        if theta is None:
            theta = jax.device_get(weights.theta(config))
        ours = t5.T5(config).apply({"params": theta}, t5.EMPTY, rows)
        wanted = theirs(network, config, theta, rows, scanned)
        real = np.asarray(rows["decoder_target_tokens"] > 0)
        apart = np.abs(np.asarray(ours) - np.asarray(wanted))[real].max()
        apart /= np.abs(np.asarray(wanted)[real]).max()
        print(f"| {name} | {len(real)} | {apart:.1e} |")


if __name__ == "__main__":
    main()
