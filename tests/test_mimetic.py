"""The start for small models: what its heads look at before any training."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run
from flax import traverse_util

from prompt_tuning_jax import fingerprint, t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.mimetic import NEIGHBOURS, Mimetic
from prompt_tuning_jax.relative_positions import RelativePositions

CONFIG = dataclasses.replace(tiny_run.CONFIG, num_heads=8, emb_dim=64)


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


def _parts(started):
    """OWN, LEFT, RIGHT, TWIN [D,K] and MATCH [D,1], from where the encoder's heads put them."""
    value = _heads(started["encoder/layers/attention/value/kernel"], "states")[0]
    out = _heads(started["encoder/layers/attention/out/kernel"], "heads")[0]
    match = started["encoder/layers/mlp/wo/kernel"][0, :1]
    return value[0], out[0].T, out[1].T, out[5].T, (match / np.linalg.norm(match)).T


def test_parts_are_orthogonal_and_embeddings_leave_all_but_the_first_free(started):
    parts = np.concatenate(_parts(started), axis=1)
    np.testing.assert_allclose(parts.T @ parts, np.eye(parts.shape[1]), atol=1e-5)
    embedding = started["token_embedder/embedding"]
    width = CONFIG.head_dim
    np.testing.assert_allclose(embedding @ parts[:, width:], 0, atol=1e-5)
    # as long as T5X's, of which each coordinate's variance is 1
    np.testing.assert_allclose((embedding**2).mean(), 1, rtol=0.1)


@pytest.mark.parametrize("place", ["encoder/layers/attention", "decoder/layers/self_attention"])
def test_local_heads_copy_what_their_neighbour_is(started, place):
    own, left, right, *_ = _parts(started)
    value = _heads(started[f"{place}/value/kernel"], "states")
    out = _heads(started[f"{place}/out/kernel"], "heads")
    for head, offset in enumerate(NEIGHBOURS):
        copied = value[:, head] @ out[:, head]
        expected = own @ (left if offset < 0 else right).T
        np.testing.assert_allclose(copied, np.broadcast_to(expected, copied.shape), atol=1e-5)


@pytest.mark.parametrize(
    ("place", "heads", "parts"),
    [
        ("encoder/layers/attention", slice(4, 5), (1,)),
        ("encoder/layers/attention", slice(5, 6), (0,)),
        ("encoder/layers/attention", slice(6, 8), (0, 1, 2)),
        ("decoder/layers/self_attention", slice(4, 5), (1,)),
        ("decoder/layers/self_attention", slice(5, 8), (0, 1, 2)),
        ("decoder/layers/encoder_decoder_attention", slice(0, 4), (0, 1, 2)),
    ],
)
def test_other_heads_look_for_likeness(started, place, heads, parts):
    found = _parts(started)
    alike = sum(found[part] for part in parts)
    query = _heads(started[f"{place}/query/kernel"], "states")[:, heads]
    key = _heads(started[f"{place}/key/kernel"], "states")[:, heads]
    likeness = query @ key.transpose(0, 1, 3, 2)
    np.testing.assert_allclose(
        likeness, np.broadcast_to(alike @ alike.T, likeness.shape), atol=1e-5
    )


def test_the_rest_is_random(started):
    for place, heads in (
        ("encoder/layers/attention", slice(4)),
        ("decoder/layers/self_attention", slice(4)),
        ("decoder/layers/encoder_decoder_attention", slice(4, 8)),
    ):
        query, key = (
            _heads(started[f"{place}/{n}/kernel"], "states")[:, heads] for n in ("query", "key")
        )
        assert np.abs(query - key).mean() > 0.01


def test_an_untrained_encoder_tells_a_pair_said_before():
    """Two pairs "a b", and later one again or one crossed: MATCH is larger where it was said."""
    config = dataclasses.replace(
        CONFIG, vocab_size=400, emb_dim=160, head_dim=32, mlp_dim=64, dropout_rate=0.0
    )
    theta = jax.jit(Mimetic(), static_argnums=1)(jax.random.key(1), config)
    rng = np.random.default_rng(0)
    tokens = np.stack([rng.permutation(np.arange(3, 400))[:14] for _ in range(400)])
    again = np.arange(400) % 2 == 0
    tokens[:, 11] = tokens[:, 3]
    tokens[again, 10] = tokens[again, 2]
    tokens[~again, 10] = tokens[~again, 7]
    batch = {"encoder_input_tokens": jnp.asarray(tokens, jnp.int32)}
    states = t5.T5(config).apply({"params": theta}, t5.EMPTY, batch, method="encode").x
    match = theta["encoder"]["layers"]["mlp"]["wo"]["kernel"][0, 0]
    scores = np.asarray(states[:, 11] @ match)
    # how often a pair said before has the larger score: 0.5 is chance
    assert (scores[again][:, None] > scores[~again][None]).mean() > 0.8


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
    # who looks for likeness does not see itself, where there is anything else to see
    itself = np.diagonal(bias[4:], axis1=1, axis2=2)
    assert (itself < -6).all() if stack == "encoder" else (np.abs(itself) < 2).all()


@pytest.mark.parametrize(
    "change",
    [
        {"num_heads": 5},
        {"head_dim": 16},
        {"mlp_dim": 15},
        {"mlp_activations": ("relu",)},
        {"relpos_per_layer": True},
    ],
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
    sizes = {"NUM_HEADS": 6, "HEAD_DIM": 4}
    job.ok("train", *tiny_run.training(), *flags, MODEL_DIR="new", TRAIN_STEPS=1, **sizes)
    made = json.loads((job.folder / "new" / "artifact" / "artifact.json").read_text())
    config = dataclasses.replace(tiny_run.CONFIG, num_heads=6, head_dim=4)
    theta = jax.jit(Mimetic(), static_argnums=1)(jax.random.key(0), config)
    assert made["backbone"]["fingerprint"] == fingerprint.of(theta)
    refused = job.run("train", *tiny_run.training(), *flags, MODEL_DIR="other", TRAIN_STEPS=1)
    assert refused.status == 2 and "NUM_HEADS = 2" in refused.err
