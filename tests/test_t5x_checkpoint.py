"""T5X's checkpoint as T5X wrote it is read whole, value for value."""

import gzip
import json

import jax
import numpy as np
import pytest
import small
from flax import traverse_util

from prompt_tuning_jax import backbones, sharding, t5
from prompt_tuning_jax.errors import UserError

TINY = small.T5X_TINY


@pytest.fixture
def folder(shared):
    return shared / "data/t5x_checkpoints/test_t5_1_1_tiny/checkpoint_3"


def read(folder, config):
    places = sharding.Partitioner.of({"data": 1}).theta(config)
    return backbones.read(str(folder), config, places)


def zarr(folder, name):
    """A zarr v2 array decoded by hand: gzip chunks in C order, the last ones padded."""
    facts = json.loads((folder / name / ".zarray").read_text())
    whole = np.zeros(facts["shape"], facts["dtype"])
    (rows, columns), (high, wide) = facts["shape"], facts["chunks"]
    for i in range(0, rows, high):
        for j in range(0, columns, wide):
            content = gzip.decompress((folder / name / f"{i // high}.{j // wide}").read_bytes())
            chunk = np.frombuffer(content, facts["dtype"]).reshape(high, wide)
            whole[i : i + high, j : j + wide] = chunk[: rows - i, : columns - j]
    return whole


def test_every_array_is_read(folder):
    theta = traverse_util.flatten_dict(read(folder, TINY).theta, sep="/")
    files = [path.name for path in folder.iterdir() if path.name.startswith("target.")]
    assert len(files) == 38  # kernels and the embedding
    for file in files:
        name = file.removeprefix("target.").replace(".", "/")
        stack, _, rest = name.partition("/layers_")
        got = theta[f"{stack}/layers/{rest[2:]}"][int(rest[0])] if rest else theta[name]
        np.testing.assert_array_equal(got, zarr(folder, file))
    # the norms and biases that the index itself holds; values read off its bytes
    np.testing.assert_array_equal(
        theta["decoder/decoder_norm/scale"],
        np.frombuffer(bytes.fromhex("839d783f2ddb8d3fadba703f8ecb6a3f"), "<f4"),
    )
    leaves = 52  # T5X's own count: two layers a stack, unstacked
    stacked = sum(leaf.shape[0] if "/layers/" in name else 1 for name, leaf in theta.items())
    assert stacked == leaves


def test_another_size_lists_what_does_not_fit(folder):
    with pytest.raises(UserError, match="misshapen.*decoder/relpos_bias/rel_embedding"):
        read(folder, TINY.__class__(**TINY.architecture() | {"relpos_buckets": 32}))
    with pytest.raises(UserError, match="missing.*encoder/layers_2/attention"):
        read(folder, TINY.__class__(**TINY.architecture() | {"num_encoder_layers": 3}))


def test_the_model_runs_on_it(folder):
    theta = read(folder, TINY).theta
    batch = {"encoder_input_tokens": np.array([[5, 6, 1]]), "decoder_input_tokens": np.array([[0]])}
    logits = t5.T5(TINY).apply({"params": theta}, t5.EMPTY, batch)
    assert logits.shape == (1, 1, 32128) and np.isfinite(jax.device_get(logits)).all()
