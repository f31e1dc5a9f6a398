"""The start for small models: what its heads look at before any training."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run
from flax import traverse_util

from prompt_tuning_jax import backbones, t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.mimetic import NEIGHBOURS, Mimetic
from prompt_tuning_jax.relative_positions import RelativePositions

CONFIG = dataclasses.replace(tiny_run.CONFIG, num_heads=8)


@pytest.fixture(scope="module")
def started():
    theta = jax.jit(Mimetic(), static_argnums=1)(jax.random.key(0), CONFIG)
    flat = traverse_util.flatten_dict(theta, sep="/")
    return {name: np.asarray(leaf, np.float64) for name, leaf in flat.items()}


def _heads(kernel, rows):
    """[L,D,H*K] -> [L,H,D,K], or the output's [L,H*K,D] -> [L,H,K,D]."""
    layers, heads, width = kernel.shape[0], CONFIG.num_heads, CONFIG.head_dim
    if rows == "heads":
        return kernel.reshape(layers, heads, width, -1)
    return kernel.reshape(layers, -1, heads, width).transpose(0, 2, 1, 3)


def test_the_tree_is_that_of_the_random_start(started):
    random = traverse_util.flatten_dict(t5.abstract_params(CONFIG), sep="/")
    assert {name: leaf.shape for name, leaf in started.items()} == {
        name: leaf.shape for name, leaf in random.items()
    }


@pytest.mark.parametrize("place", ["encoder/layers/attention", "decoder/layers/self_attention"])
def test_local_heads_copy_into_a_subspace_where_the_others_look(started, place):
    value = _heads(started[f"{place}/value/kernel"], "states")[:, :4]
    out = _heads(started[f"{place}/out/kernel"], "heads")[:, :4]
    # a head's value times output is an orthogonal projection of rank K, the same for all
    projection = value @ out
    np.testing.assert_allclose(projection @ projection, projection, atol=1e-5)
    np.testing.assert_allclose(np.trace(projection[0, 0]), CONFIG.head_dim, rtol=1e-5)
    np.testing.assert_allclose(projection, np.broadcast_to(projection[0, 0], projection.shape))
    query = _heads(started[f"{place}/query/kernel"], "states")
    key = _heads(started[f"{place}/key/kernel"], "states")
    likeness = query[:, 4:] @ key[:, 4:].transpose(0, 1, 3, 2)
    np.testing.assert_allclose(likeness, projection, atol=1e-5)
    # the local heads' own queries and keys are random
    assert np.abs(query[:, :4] - key[:, :4]).mean() > 0.01
    cross = "decoder/layers/encoder_decoder_attention"
    query = _heads(started[f"{cross}/query/kernel"], "states")
    key = _heads(started[f"{cross}/key/kernel"], "states")
    np.testing.assert_allclose(
        query[:, :4] @ key[:, :4].transpose(0, 1, 3, 2), projection, atol=1e-5
    )
    assert np.abs(query[:, 4:] - key[:, 4:]).mean() > 0.01


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_local_heads_are_biased_to_their_neighbour(started, stack):
    table = started[f"{stack}/relpos_bias/rel_embedding"]
    distances = RelativePositions(
        CONFIG.num_heads, bidirectional=stack == "encoder", buckets=CONFIG.relpos_buckets
    )
    positions = jnp.arange(12)[None]
    bias = np.asarray(
        distances.apply({"params": {"rel_embedding": jnp.asarray(table)}}, positions, positions)
    )[0]
    for head, offset in enumerate(NEIGHBOURS):
        if stack == "decoder" and offset > 0:
            continue
        for query in range(2, 10):
            assert bias[head, query].argmax() == query + offset
            assert bias[head, query, query + offset] > 6


@pytest.mark.parametrize(
    "change",
    [{"num_heads": 4}, {"head_dim": 64}, {"relpos_per_layer": True}],
)
def test_what_does_not_fit_is_refused(change):
    with pytest.raises(UserError, match="mimetic.Mimetic: NUM_HEADS = "):
        Mimetic()(jax.random.key(0), dataclasses.replace(CONFIG, **change))


def test_a_run_from_random_values_begins_there(tmp_path):
    job = tiny_run.Job(tmp_path)
    (job.folder / "start.gin").write_text(
        "from __gin__ import dynamic_registration\n"
        "from prompt_tuning_jax import mimetic\n"
        "from prompt_tuning_jax import train\n"
        "train.train.random_start = @mimetic.Mimetic()\n"
    )
    flags = [
        "--gin_file=start.gin",
        "--gin.INITIAL_CHECKPOINT_PATH=None",
        "--gin.VOCABULARY_FILE=backbone/sentencepiece.model",
        "--gin.EXTRA_IDS=10",
        "--gin.EVAL_TASKS=[]",
    ]
    job.ok("train", *tiny_run.training(), *flags, MODEL_DIR="new", NUM_HEADS=6, TRAIN_STEPS=1)
    made = json.loads((job.folder / "new" / "artifact" / "artifact.json").read_text())
    config = dataclasses.replace(tiny_run.CONFIG, num_heads=6)
    theta = jax.jit(Mimetic(), static_argnums=1)(jax.random.key(0), config)
    assert made["backbone"]["fingerprint"] == backbones.fingerprint(theta)
    refused = job.run("train", *tiny_run.training(), *flags, MODEL_DIR="other", TRAIN_STEPS=1)
    assert refused.status == 2 and "NUM_HEADS = 2" in refused.err
