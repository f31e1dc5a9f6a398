"""The frozen T5: sizes, names, and its numbers against T5 written out in float64 numpy."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import numpy_t5
import pytest
import small
from flax import serialization, traverse_util

from prompt_tuning_jax import launch, t5
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.relative_positions import bucket

COUNTS = {
    "small": 76_961_152,
    "base": 247_577_856,
    "large": 783_150_080,
    "xl": 2_849_757_184,
    "xxl": 11_135_332_352,
}
WIDTHS = {"small": 512, "base": 768, "large": 1024, "xl": 2048, "xxl": 4096}
THETA = small.theta()


# ---- sizes and names -----------------------------------------------------------------------


@pytest.mark.parametrize("size", COUNTS)
def test_published_parameter_counts(size, capsys):
    assert launch.main("describe", [f"--gin_file=models/t5_1_1_{size}_prompt.gin"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["frozen_parameters"] == COUNTS[size]
    assert facts["tuned_parameters"] == 100 * WIDTHS[size]


def test_counts_are_table_4_less_one_row(shared):
    table = json.loads((shared / "data/published/lester2021.json").read_text())["table4_params"]
    rows = {name.lower(): row for name, row in table.items() if name != "note"}
    assert {size: row["total_len1"] - row["len"]["1"] for size, row in rows.items()} == COUNTS


def unstacked(config):
    """{T5X's name of a leaf, dotted: shape}, a layer's leaves under layers_0, layers_1, …"""
    shapes = {}
    for path, leaf in traverse_util.flatten_dict(t5.abstract_params(config), sep=".").items():
        if ".layers." not in path:
            shapes[path] = leaf.shape
            continue
        for i in range(leaf.shape[0]):
            shapes[path.replace(".layers.", f".layers_{i}.")] = leaf.shape[1:]
    return shapes


def test_names_and_shapes_are_t5x_s(shared):
    checkpoint = shared / "data/t5x_checkpoints/test_t5_1_1_tiny/checkpoint_3"
    index = serialization.msgpack_restore((checkpoint / "checkpoint").read_bytes())
    # small leaves are in the index, the others in a zarr folder each
    leaves = traverse_util.flatten_dict(index["optimizer"]["target"], sep=".")
    theirs = {name: leaf.shape for name, leaf in leaves.items() if isinstance(leaf, np.ndarray)}
    for folder in checkpoint.glob("target.*"):
        shape = json.loads((folder / ".zarray").read_text())["shape"]
        theirs[folder.name.removeprefix("target.")] = tuple(shape)
    assert unstacked(small.T5X_TINY) == theirs


def test_init_has_t5x_s_variances():
    config = dataclasses.replace(small.CONFIG, emb_dim=128, head_dim=32, mlp_dim=256)
    layers = small.quick_jit(functools.partial(t5.init_params, config=config))(jax.random.key(0))
    layers = layers["encoder"]["layers"]
    std = {name: float(p["kernel"].std()) for name, p in layers["attention"].items()}
    std |= {name: float(p["kernel"].std()) for name, p in layers["mlp"].items()}
    # fan-in variance; the query's is divided by head_dim instead of the scores by its root
    wanted = {"query": 128 * 32, "key": 128, "value": 128, "out": 128, "wi_0": 128, "wo": 256}
    for name, fan_in in wanted.items():
        assert std[name] == pytest.approx(fan_in**-0.5, rel=0.02), name
    assert np.all(layers["pre_mlp_layer_norm"]["scale"] == 1)


# ---- relative positions --------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_agree_with_whole_number_arithmetic(bidirectional):
    distances = np.arange(-300, 301)
    wanted = [numpy_t5.bucket(int(d), bidirectional) for d in distances]
    assert np.asarray(bucket(jnp.asarray(distances), bidirectional)).tolist() == wanted


def test_buckets_at_their_edges():
    distances = jnp.array([0, 7, 8, 16, 32, 64, 127, 128, 129])
    before = [0, 7, 8, 10, 12, 14, 15, 15, 15]
    assert bucket(-distances, True).tolist() == before
    assert bucket(distances, True).tolist() == [0, *(16 + b for b in before[1:])]
    assert bucket(-distances, False).tolist() == [0, 7, 8, 16, 21, 26, 31, 31, 31]
    assert bucket(distances, False).tolist() == [0] * 9


# ---- numbers -------------------------------------------------------------------------------


def assert_each_example_alone(logits, params, inputs=small.INPUTS, targets=small.TARGETS):
    """Row i of the padded batch's logits is example i by itself, in numpy."""
    for row, given, target in zip(logits, inputs, small.shifted(targets), strict=True):
        small.close(row[: len(target)], numpy_t5.logits(params, given, target))


def test_logits_are_t5_s_and_padding_changes_nothing():
    assert_each_example_alone(small.logits(THETA, small.batch()), THETA)


def test_tied_logits_and_t5_1_0_s_mlp():
    config = dataclasses.replace(
        small.CONFIG, logits_via_embedding=True, mlp_activations=("relu",), num_decoder_layers=2
    )
    params = small.theta(config)
    assert "logits_dense" not in params["decoder"]
    assert_each_example_alone(small.logits(params, small.batch(), config), params)


def test_packed_examples_have_the_logits_they_have_alone():
    inputs, targets = small.INPUTS[:3], small.TARGETS[:3]
    (row,), start, parts = small.logits(THETA, small.packed(3)), 0, []
    for target in targets:
        parts.append(row[start : start + len(target)])
        start += len(target)
    assert_each_example_alone(parts, THETA, inputs, targets)


def test_decoding_steps_are_teacher_forcing():
    batch = small.batch()
    model, params = t5.T5(small.CONFIG), {"params": THETA}

    @functools.partial(small.quick_jit, static_argnames="name")
    def call(name, params, *args):
        return model.apply(params, t5.EMPTY, *args, method=name)

    encoded = call("encode", params, batch)
    cache, steps = t5.empty_cache(small.CONFIG, 4, 6), []
    for i in range(6):
        tokens = batch["decoder_input_tokens"][:, i : i + 1]
        logits, cache = call("decode_step", params, encoded, tokens, cache, jnp.int32(i))
        steps.append(logits[:, 0])
    small.close(np.stack(steps, 1), small.logits(THETA, batch))


def test_bfloat16_activations_float32_logits():
    config = dataclasses.replace(small.CONFIG, dtype="bfloat16")
    encode = functools.partial(t5.T5(config).apply, method="encode")
    states = jax.eval_shape(encode, {"params": THETA}, t5.EMPTY, small.batch())
    assert states.x.dtype == jnp.bfloat16
    logits, exact = small.logits(THETA, small.batch(), config), small.logits(THETA, small.batch())
    assert logits.dtype == np.float32
    # 8 bits of mantissa, through 5 layers
    assert 1e-4 < np.abs(logits - exact).max() / np.abs(exact).max() < 0.05


# ---- dropout, scan and remat ---------------------------------------------------------------


def test_unrolled_and_rematerialised_layers_are_the_scanned_ones():
    def loss_and_gradient(**choice):
        config = dataclasses.replace(small.CONFIG, dropout_rate=0.2, **choice)

        def loss(params):
            rngs = {"dropout": jax.random.key(3)}
            model = t5.T5(config)
            logits = model.apply({"params": params}, t5.EMPTY, small.batch(), True, rngs=rngs)
            return jnp.sum(jnp.sin(logits))

        return small.quick_jit(jax.value_and_grad(loss))(THETA)

    value, gradient = loss_and_gradient()
    for choice in ({"scan_unroll": 0}, {"remat_policy": "full"}, {"remat_policy": "minimal"}):
        other, other_gradient = loss_and_gradient(**choice)
        small.close(other, value)
        jax.tree.map(small.close, other_gradient, gradient)


@dataclasses.dataclass(frozen=True)
class Probe(Method):
    """Keeps the states before the encoder's layers and after each: side [L+1,B,T,D]. With `ones`,
    every MLP returns ones and every attention zeros, so that a layer adds its dropout mask."""

    ones: bool = False

    def side_start(self, shared, site, x, below):
        return jnp.zeros((3, *x.shape)).at[0].set(x)

    def side(self, tuned, site, x, side):
        return side if site.stack == "decoder" else side.at[site.layer + 1].set(x)

    def sublayer(self, tuned, site, f, x):
        if not self.ones:
            return f(x)
        return jnp.ones_like(x) if site.part == "mlp" else jnp.zeros_like(x)


def states(method, params, tokens, rate, seed=0):
    model = t5.T5(dataclasses.replace(small.CONFIG, dropout_rate=rate), method)

    @small.quick_jit
    def run(params):
        rngs = {"dropout": jax.random.key(seed)}
        batch = {"encoder_input_tokens": tokens}
        return model.apply({"params": params}, t5.EMPTY, batch, True, rngs=rngs, method="encode")

    return np.asarray(run(params).side)


def test_a_dropout_mask_is_one_for_all_tokens_and_each_layer_has_its_own():
    embedding = np.ones_like(THETA["token_embedder"]["embedding"])
    params = THETA | {"token_embedder": {"embedding": embedding}}
    before, first, second = states(Probe(True), params, np.full((40, 3), 7), 0.25)
    masks = np.stack([before, first - before, second - first])
    # a kept value is scaled by 1 / (1 - rate)
    kept = np.isclose(masks, 1 / 0.75)
    assert np.all(kept | (masks == 0))
    assert 0.7 < kept.mean() < 0.8  # 1920 draws: 5 standard deviations
    assert np.all(kept == kept[:, :, :1])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert 0.5 < (kept[one] == kept[other]).mean() < 0.75  # 0.625 where independent


def test_attention_and_mlp_dropout_are_the_same_for_all_tokens():
    encoder = THETA["encoder"] | {
        "relpos_bias": {"rel_embedding": np.zeros((small.CONFIG.num_heads, 32), np.float32)}
    }
    # equal tokens without position bias: only masks that differ in length could part them
    last = states(Probe(), THETA | {"encoder": encoder}, np.full((2, 5), 7), 0.25)[-1]
    assert np.all(np.abs(last - last[:, :1]) < 1e-5)
    assert not np.allclose(last[0], last[1], atol=0.1)


def test_dropout_rate_0_is_deterministic_and_evaluation_never_drops():
    plain = small.logits(THETA, small.batch())
    small.close(small.logits(THETA, small.batch(), seed=1), plain)
    dropped = dataclasses.replace(small.CONFIG, dropout_rate=0.5)
    assert np.array_equal(small.logits(THETA, small.batch(), dropped), plain)
