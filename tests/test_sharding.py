"""Meshes, and where θ and `tuned` lie on them."""

import dataclasses
import json

import jax
import pytest
import small
from flax import traverse_util
from jax.sharding import PartitionSpec

from prompt_tuning_jax import fingerprint, sharding
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.methods.full import Full
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.optimizers import Adafactor, Optax

PLAN = sharding.Partitioner.plan({"data": 2, "model": 4})


def specs(places):
    flat = traverse_util.flatten_dict(places, sep="/")
    return {path: place.spec for path, place in flat.items()}


@pytest.fixture(scope="module")
def facts(eight_devices):
    return json.loads((eight_devices / "facts.json").read_text())


# ---- meshes --------------------------------------------------------------------------------


def test_a_mesh_of_one_device():
    assert dict(sharding.make_mesh(data=1).shape) == {"data": 1, "model": 1}


@pytest.mark.parametrize(("data", "model"), [(0, 1), (-2, 1), (1, 0), (1, -1)])
def test_axes_are_positive(data, model):
    with pytest.raises(UserError, match="axes are positive"):
        sharding.make_mesh(data, model)


def test_meshes_of_eight_devices(facts):
    meshes = facts["meshes"]
    assert meshes["-1x1"] == [8, 1]
    assert meshes["-1x4"] == meshes["2x4"] == [2, 4]
    assert meshes["2x2"] == [2, 2] and meshes["1x1"] == [1, 1]
    for wrong in ("3x1", "4x4", "-1x16"):
        assert "on 8 devices" in meshes[wrong]


# ---- parameters ----------------------------------------------------------------------------


def test_theta_lies_as_t5x_s_standard_rules_say():
    own = specs(PLAN.theta(small.CONFIG))
    wide, narrow = PartitionSpec(None, None, "model"), PartitionSpec(None, "model", None)
    for block in ("encoder/layers/attention", "decoder/layers/encoder_decoder_attention"):
        for name in ("query", "key", "value"):
            assert own[f"{block}/{name}/kernel"] == wide
        assert own[f"{block}/out/kernel"] == narrow
    assert own["encoder/layers/mlp/wi_0/kernel"] == wide
    assert own["encoder/layers/mlp/wo/kernel"] == narrow
    assert own["token_embedder/embedding"] == PartitionSpec("model", None)
    assert own["decoder/logits_dense/kernel"] == PartitionSpec(None, "model")
    assert own["encoder/relpos_bias/rel_embedding"] == PartitionSpec("model", None)
    assert own["decoder/layers/pre_mlp_layer_norm/scale"] == PartitionSpec(None, None)
    assert own["decoder/decoder_norm/scale"] == PartitionSpec(None)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"num_heads": 6}, "does not divide the 6 heads"),
        ({"vocab_size": 97}, "vocab of 97"),
        ({"mlp_dim": 21}, "mlp of 21"),
    ],
    ids=str,
)
def test_an_axis_that_does_not_divide_is_refused(choice, said):
    with pytest.raises(UserError, match="MESH: model = 4") as error:
        PLAN.theta(dataclasses.replace(small.CONFIG, **choice))
    assert said in str(error.value)


def test_a_prompt_is_on_every_device_and_tuned_theta_where_theta_is():
    def places(method):
        abstract = method.abstract(small.CONFIG, small.theta())
        axes = method.axes(small.CONFIG, abstract)
        return specs(PLAN.tuned(axes, abstract)), abstract

    own, _ = places(Prompt(5))
    assert own == {"shared/prompt": PartitionSpec(None, None, None)}
    own, abstract = places(Full())
    theta = specs(PLAN.theta(small.CONFIG))
    assert {path.removeprefix("theta/"): spec for path, spec in own.items()} == theta
    assert len(own) == len(jax.tree.leaves(abstract))


@pytest.mark.parametrize("name", ["own", "t5x", "scanned", "orbax", "huggingface"])
def test_a_backbone_is_read_straight_to_its_shards(facts, name):
    """Of any format; no piece that is read of a leaf on a 2x4 mesh is more than a device holds, and
    the two devices that hold the same share it."""
    found = facts["backbones"][name]
    assert found["same"] and found["fingerprint"] == fingerprint.of(small.theta())
    assert found["embedding_on_each_device"] == [[96 // 4, 16]] * 8
    largest = found["largest"]
    assert largest["token_embedder/embedding"] == 96 * 16 // 4
    assert found["pieces"]["token_embedder/embedding"] == 4
    layers = {"scanned": ("layers", 2)}.get(name, ("layers_1", 1))
    for kernel in ("mlp/wi_0", "mlp/wo"):
        assert largest[f"encoder/{layers[0]}/{kernel}/kernel"] == layers[1] * 16 * 20 // 4
    query = f"decoder/{layers[0].replace('1', '2')}/self_attention/query/kernel"
    assert largest[query] == 16 * 24 // 4 * {"layers": 3}.get(layers[0], 1)


# ---- rules ---------------------------------------------------------------------------------

WI = "encoder/layers/mlp/wi_0/kernel"  # layers, embed, mlp


@pytest.mark.parametrize(
    ("dims", "wi", "embedding", "between"),
    # what T5X's standard_logical_axis_rules make of a kernel, the embedding and activations
    [
        ((1, 1), (None, None, "model"), ("model", None), ("data", None, None)),
        ((2, 1), (None, None, "model"), ("model", None), ("data", None, "model")),
        ((1, 2), (None, "data", "model"), ("model", "data"), ("data", None, None)),
        ((2, 2), (None, "data", "model"), ("model", "data"), ("data", None, "model")),
    ],
    ids=str,
)
def test_partitioning_dims_are_t5x_s(dims, wi, embedding, between):
    rules = sharding.standard_logical_axis_rules(*dims)
    plan = sharding.Partitioner.plan({"data": 2, "model": 4}, rules)
    own = specs(plan.theta(small.CONFIG))
    assert own[WI] == PartitionSpec(*wi)
    assert own["token_embedder/embedding"] == PartitionSpec(*embedding)
    x = plan.sharding("x", (4, 8, 16), ("batch", "length", "embed"))
    assert x.spec == PartitionSpec(*between)


def test_rules_of_ones_own_and_what_is_no_rule():
    plan = sharding.Partitioner.plan({"model": 4}, [["mlp", None], ["embed", "model"]])
    assert specs(plan.theta(small.CONFIG))[WI] == PartitionSpec(None, "model", None)
    assert plan.pieces("batch") == 1 and plan.pieces("embed") == 4
    for wrong in (("mlp", "expert"), ("mlp",), "mlp", (1, "model")):
        with pytest.raises(UserError, match="LOGICAL_AXIS_RULES: .* with one of data, model"):
            sharding.Partitioner.plan({}, [("vocab", "model"), wrong])
    with pytest.raises(UserError, match="PARAMETER_PARTITIONING_DIMS = 3: each is 1 or 2"):
        sharding.standard_logical_axis_rules(1, 3)


def test_an_optimizer_s_moments_lie_with_their_parameters():
    rules = sharding.standard_logical_axis_rules(1, 2)
    plan = sharding.Partitioner.plan({"data": 2, "model": 4}, rules)
    method = Full()
    tuned = method.abstract(small.CONFIG, small.theta())
    axes = method.axes(small.CONFIG, tuned)
    places = plan.tuned(axes, tuned)
    for optimizer in (Optax("adam"), Adafactor(min_dim_size_to_factor=1)):
        slots = jax.eval_shape(optimizer.build(axes).init, tuned)
        found = plan.slots(slots, tuned, places)
        flat = jax.tree_util.tree_leaves_with_path(slots)
        wide = {
            jax.tree_util.keystr(path): place.spec
            for (path, leaf), place in zip(flat, jax.tree.leaves(found), strict=True)
            if WI in jax.tree_util.keystr(path)
        }
        whole = [spec for spec in wide.values() if spec == PartitionSpec(None, "data", "model")]
        # Adam's two moments have a value for each of the kernel's; Adafactor's factors do not
        assert len(whole) == (2 if isinstance(optimizer, Optax) else 0)
        assert {*wide.values()} - {*whole} <= {PartitionSpec()}


# ---- batches -------------------------------------------------------------------------------


def test_batches_are_cut_evenly():
    for batch_size, microbatches in ((2, 1), (8, 4), (32, 2)):
        PLAN.check_batch(batch_size, microbatches)
    for batch_size, microbatches in ((3, 1), (0, 1), (-2, 1), (4, 4), (6, 2)):
        with pytest.raises(UserError, match=f"BATCH_SIZE = {batch_size}"):
            PLAN.check_batch(batch_size, microbatches)
