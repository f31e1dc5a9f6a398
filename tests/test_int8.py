"""θ in int8: quantisation against numpy, the model against its values in float32, folders."""

import functools
import json
import shutil

import contract
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import small
import t5x_files
from flax import traverse_util
from safetensors.numpy import load_file, save_file

from prompt_tuning_jax import backbones, describe, fingerprint, int8, sharding, t5
from prompt_tuning_jax.decoding import Greedy
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.int8 import Int8
from prompt_tuning_jax.interop.leaf import Checkpoint
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.methods.full import Full
from prompt_tuning_jax.methods.prompt import Prompt

CONFIG, THETA, BATCH = small.CONFIG, small.theta(), small.batch()
TIED = t5.T5Config(**CONFIG.architecture() | {"logits_via_embedding": True, "dropout_rate": 0.0})


def read(where, dtype="int8", config=CONFIG, **options):
    places = sharding.Partitioner.of({"data": 1}).theta(config)
    where = where if isinstance(where, Checkpoint) else str(where)
    return backbones.read(where, config, places, dtype, **options)


def memory(theta, config=CONFIG):
    """θ as a checkpoint that is not yet read."""
    return Checkpoint("memory", backbones.leaves_of(theta), config)


def flat(theta):
    return traverse_util.flatten_dict(theta, sep="/")


# ---- the numbers ---------------------------------------------------------------------------


def test_a_matrix_by_hand():
    # column 0: steps of 1; column 1: of 2, with the half step 3 = 1.5 * 2; column 2: zeros
    matrix = np.array([[127, -254, 0], [-3.4, 3, 0], [0.6, 2.2, 0]], np.float32)
    values, scale = int8.quantise(matrix, -2)
    assert scale.dtype == ml_dtypes.bfloat16 and scale.tolist() == [[1, 2, 1]]
    assert values.dtype == np.int8 and values.tolist() == [[127, -127, 0], [-3, 2, 0], [1, 1, 0]]
    rows, scale = int8.quantise(matrix.T, -1)
    assert np.array_equal(rows, values.T) and scale.tolist() == [[1], [2], [1]]


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e6, 1e37])
def test_no_value_is_off_by_more_than_half_a_step(size):
    # channels whose sizes differ a thousandfold
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((4, 200, 50)) * 10 ** rng.uniform(-3, 0, (4, 1, 50)) * size
    matrix = matrix.astype(np.float32)
    values, scale = int8.quantise(matrix, -2)
    assert values.shape == (4, 200, 50) and scale.shape == (4, 1, 50)
    steps = scale.astype(np.float64)
    # a scale is absmax / 127 to bfloat16's 8 bits
    np.testing.assert_allclose(steps, np.abs(matrix).max(1, keepdims=True) / 127, rtol=2**-8)
    assert (np.abs(values * steps - matrix) <= steps / 2 * (1 + 1e-6)).all()
    # what was quantised is quantised to itself, in float32 and in its own dtypes
    again, scale_again = int8.quantise(int8.floats(values, scale), -2)
    assert np.array_equal(again, values) and np.array_equal(scale_again, scale)


def test_a_channel_too_small_for_a_scale_is_zeros():
    matrix = np.array([[1e-44, -3e-39], [1, 0.5]], np.float32)
    values, scale = int8.quantise(matrix, -1)
    assert values.tolist() == [[0, 0], [127, 64]]
    assert scale.astype(np.float32).tolist() == [[1], [np.float32(129 / 2**14)]]


# ---- reading -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held():
    return read(memory(THETA)).theta


def test_matrices_are_int8_and_all_else_float32(held):
    for path, leaf in flat(held).items():
        own = flat(THETA)[path]
        if path.endswith(("/kernel", "/embedding")):
            values, scale = int8.quantise(own, -1 if path.endswith("/embedding") else -2)
            assert np.array_equal(leaf.values, values) and np.array_equal(leaf.scale, scale)
            assert (leaf.values.dtype, leaf.scale.dtype) == (np.int8, ml_dtypes.bfloat16)
        else:
            assert leaf.dtype == np.float32 and np.array_equal(leaf, own)
    assert held["token_embedder"]["embedding"].scale.shape == (96, 1)
    assert held["encoder"]["layers"]["mlp"]["wo"]["kernel"].scale.shape == (2, 1, 16)


def test_every_format_reads_alike_and_keeps_its_fingerprint(held, tmp_path):
    t5x_files.write(tmp_path / "t5x", t5x_files.unstacked(THETA))
    t5x_files.write(tmp_path / "scanned", t5x_files.scanned(THETA, CONFIG.num_heads))
    for name in ("t5x", "scanned"):
        backbone = read(tmp_path / name)
        assert small.same(backbone.theta, held)
        assert backbone.fingerprint == fingerprint.of(THETA)


def test_a_leaf_is_read_once_and_a_layer_at_a_time():
    seen = []

    def noted(name, leaf):
        def piece(index):
            values = leaf.read(index)
            seen.append((name, values.shape))
            return values

        return leaf._replace(read=piece)

    single = backbones.layers("memory", backbones.leaves_of(THETA), CONFIG)
    read(Checkpoint("memory", {n: noted(n, leaf) for n, leaf in single.items()}, CONFIG))
    assert sorted(seen) == sorted((name, leaf.shape) for name, leaf in single.items())


def test_what_is_trained_stays_float32():
    own = "decoder/logits_dense/kernel"
    theta = read(memory(THETA), exact=lambda name: name == own).theta
    assert small.same(theta["decoder"]["logits_dense"]["kernel"], flat(THETA)[own])
    assert isinstance(theta["token_embedder"]["embedding"], Int8)
    frozen, taken = Full((own,)).split(theta)
    assert list(taken) == [own] and taken[own].dtype == np.float32
    assert small.same(Full((own,)).join(frozen, {"theta": taken}), theta)


# ---- the model -----------------------------------------------------------------------------


def floats(theta):
    """The float32 θ that an int8 one stands for, by numpy."""

    def wide(leaf):
        if not isinstance(leaf, Int8):
            return leaf
        return np.asarray(leaf.values, np.float32) * np.asarray(leaf.scale).astype(np.float32)

    return jax.tree.map(wide, theta, is_leaf=lambda leaf: isinstance(leaf, Int8))


@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["1.1", "tied logits"])
@pytest.mark.parametrize("unroll", [1, 0])
def test_logits_are_those_of_the_values_it_stands_for(config, unroll):
    theta = read(memory(small.theta(config), config), config=config).theta
    config = t5.T5Config(**config.architecture() | {"dropout_rate": 0.0, "scan_unroll": unroll})
    own = small.logits(theta, BATCH, config)
    small.close(own, small.logits(floats(theta), BATCH, config), 2e-6)
    assert not np.allclose(own, small.logits(small.theta(config), BATCH, config), atol=1e-3)


def test_bfloat16_activations_are_summed_and_scaled_in_float32():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 64)).astype(ml_dtypes.bfloat16)
    weights = Int8(*int8.quantise(rng.standard_normal((64, 8)).astype(np.float32), -2))
    y = jax.jit(lambda x, w: x @ w)(x, jax.tree.map(jnp.asarray, weights))
    assert y.dtype == jnp.bfloat16
    wanted = x.astype(np.float64) @ (weights.values * weights.scale.astype(np.float64))
    # rounded once
    np.testing.assert_allclose(np.asarray(y, np.float64), wanted, rtol=2**-8, atol=1e-5)


def test_greedy_decoding_is_that_of_the_values_it_stands_for(held):
    @small.quick_jit
    def greedy(theta):
        rng = jax.random.split(jax.random.key(0), len(BATCH["encoder_input_tokens"]))
        return Greedy()(t5.T5(CONFIG), theta, t5.EMPTY, BATCH, 6, rng, None)

    assert np.array_equal(greedy(held), greedy(floats(held)))


def test_rows_of_the_embedding_start_a_prompt(held):
    ids = np.array([[3, 95], [0, 7]])
    table = held["token_embedder"]["embedding"]
    assert np.array_equal(table[ids], floats(held)["token_embedder"]["embedding"][ids])
    assert np.isnan(table[np.array([96])]).all()
    method, words = Prompt(5), contract.vocabulary()
    start = method.read(words, ("True", "False"))
    rows = [small.init(method, theta, start=start) for theta in (held, floats(held))]
    assert small.same(*rows)


# ---- methods -------------------------------------------------------------------------------


every_method = pytest.mark.parametrize("name", contract.OVER_INT8)


@functools.cache
def over_int8(name):
    return contract.over_int8(contract.OVER_INT8[name], contract.one_device())


def agree(loss, gradient, wanted):
    small.close(loss, wanted[0])
    wanted = contract.leaves(wanted[1])
    largest = max(np.abs(leaf).max() for leaf in wanted.values())
    assert largest > 1e-3 and gradient.keys() == wanted.keys()
    for path, leaf in wanted.items():
        np.testing.assert_allclose(gradient[path], leaf, rtol=0, atol=2e-5 * largest, err_msg=path)


@every_method
def test_gradients_through_int8_are_those_of_the_values_it_stands_for(name):
    method, (theta, tuned, (loss, gradient)) = contract.OVER_INT8[name], over_int8(name)
    wanted = contract.objective(method)(tuned, method.split(floats(theta))[0])
    agree(loss, contract.leaves(gradient), wanted)


@every_method
def test_a_2x4_mesh_is_one_device(name, eight_devices):
    there = dict(np.load(eight_devices / f"int8 {name}.npz"))
    agree(there.pop("loss"), there, over_int8(name)[2])


def test_a_scale_lies_where_its_channels_do(eight_devices):
    shapes = json.loads((eight_devices / "facts.json").read_text())["int8"]
    for path, values, scale in (
        ("token_embedder/embedding", [24, 16], [24, 1]),
        ("decoder/logits_dense/kernel", [16, 24], [1, 24]),
        ("encoder/layers/mlp/wi_0/kernel", [2, 16, 5], [2, 1, 5]),
        # rows are apart, each of them with a part of every channel
        ("encoder/layers/mlp/wo/kernel", [2, 5, 16], [2, 1, 16]),
    ):
        assert shapes[f"{path}/values"] == [values] * 8 and shapes[f"{path}/scale"] == [scale] * 8


def test_no_layer_is_kept_in_floating_point_numbers_for_the_way_back():
    """All temporaries of a step are less than the encoder's MLP kernels would be in float32."""
    sizes = {"emb_dim": 256, "mlp_dim": 1024, "num_encoder_layers": 16, "num_decoder_layers": 1}
    config = t5.T5Config(**CONFIG.architecture() | sizes | {"dropout_rate": 0.0})
    places = sharding.Partitioner.of({"data": 1}).theta(config)
    theta = traverse_util.unflatten_dict(backbones.held(config, places, "int8"), sep="/")
    method = Prompt(2)
    tuned = method.abstract(config, t5.abstract_params(config))
    compiled = contract.objective(method, config).lower(tuned, theta).compile()
    kernels = 4 * 16 * 3 * 256 * 1024
    assert compiled.memory_analysis().temp_size_in_bytes < kernels


# ---- a folder of it ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "small"
    leaves, words = backbones.leaves_of(THETA), contract.vocabulary()
    mark = backbones.write(str(path), "small", CONFIG, leaves, words, dtype="int8")
    assert mark == fingerprint.of(THETA)
    return path


def test_a_folder_reads_as_its_source_does(written, held):
    backbone = read(written)
    assert small.same(backbone.theta, held)
    assert backbone.fingerprint == fingerprint.of(THETA)
    plain = read(written, "float32")
    assert small.same(plain.theta, floats(held))
    assert plain.fingerprint == fingerprint.of(THETA)
    tensors = load_file(written / "params.safetensors")
    wi = tensors["encoder/layers_1/mlp/wi_0/kernel"], "encoder/layers_1/mlp/wi_0/kernel.scale"
    assert wi[0].dtype == np.int8 and tensors[wi[1]].dtype == ml_dtypes.bfloat16


def spoilt(written, tmp_path, change):
    path = shutil.copytree(written, tmp_path / "spoilt", dirs_exist_ok=True)
    tensors = load_file(path / "params.safetensors")
    save_file(change(tensors), path / "params.safetensors")
    with pytest.raises(UserError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _without(tensors, name):
    return {k: v for k, v in tensors.items() if k != name}


def test_what_is_wrong_with_a_folder(written, tmp_path):
    name = "encoder/layers_0/mlp/wo/kernel"

    def refused(change):
        return spoilt(written, tmp_path, lambda tensors: tensors | change(tensors))

    turned = refused(lambda t: {name: -t[name]})
    assert "its values are not those that backbone.json was written for" in turned
    assert "not those" in refused(lambda t: {f"{name}.scale": t[f"{name}.scale"] * 2})
    scale = f"{name}.scale (1, 3) is no scale of {name}'s"
    assert scale in refused(lambda t: {f"{name}.scale": t[f"{name}.scale"][:, :3]})
    assert f"{name} has NaN" in refused(lambda t: {f"{name}.scale": t[f"{name}.scale"] * np.nan})
    lost = spoilt(written, tmp_path, lambda t: _without(t, f"{name}.scale"))
    assert f"{name} is int8, not floating-point numbers" in lost
    lost = spoilt(written, tmp_path, lambda t: _without(t, name))
    assert f"missing parameters: {name}" in lost


# ---- bytes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "ratio"),
    [
        (t5.T5Config(), 0.2512),  # T5 1.1 small
        (backbones.config_of("builtin://demo"), 0.2562),
        (backbones.config_of("builtin://demo_small"), 0.2597),
        (backbones.config_of("builtin://demo_tiny"), 0.2636),
    ],
    ids=["small", "demo", "demo_small", "demo_tiny"],
)
def test_bytes(config, ratio):
    one, other = (
        describe.cost(config, Method(), frozen_dtype=dtype)["frozen_bytes_per_device"]
        for dtype in ("float32", "int8")
    )
    assert one == 4 * sum(leaf.size for leaf in jax.tree.leaves(t5.abstract_params(config)))
    assert round(other / one, 4) == ratio <= 0.27


def test_described_bytes_are_those_on_the_devices(held, written):
    for dtype in ("float32", "bfloat16", "int8"):
        theta = read(memory(THETA), dtype).theta
        bytes_there = sum(leaf.nbytes for leaf in jax.tree.leaves(theta))
        facts = describe.cost(CONFIG, Method(), frozen_dtype=dtype)
        assert facts["frozen_bytes_per_device"] == bytes_there
    size = (written / "params.safetensors").stat().st_size
    names = json.dumps(sorted(load_file(written / "params.safetensors")))
    assert bytes_there < size < bytes_there + len(names) + 150 * names.count(",")
