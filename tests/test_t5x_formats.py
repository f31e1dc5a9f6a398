"""Every way in which T5X stores a T5: one model written in each of them is read as the same θ."""

import dataclasses
import os
import subprocess
import sys
import textwrap

import flax.serialization
import gcs
import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import small
import t5x_files
import tensorstore
from flax import traverse_util

from prompt_tuning_jax import backbones, fingerprint, sharding, t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.interop import storage, t5x_names

CONFIG, THETA = small.CONFIG, small.theta()
FLAT = t5x_files.unstacked(THETA)
# a table of distances in every layer
OWN_TABLES = dataclasses.replace(CONFIG, relpos_per_layer=True)
T5_1_0 = dataclasses.replace(CONFIG, mlp_activations=("relu",), logits_via_embedding=True)


def read(folder, config=CONFIG, **options):
    places = sharding.Partitioner.of({"data": 1}).theta(config)
    return backbones.read(str(folder), config, places, **options)


def refused(folder, config=CONFIG):
    with pytest.raises(UserError) as caught:
        read(folder, config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WAYS = {
    "arrays alone": lambda f: t5x_files.write(f, FLAT, inline=()),
    "norms and tables in the index": lambda f: t5x_files.write(f, FLAT),
    "all in the index": lambda f: t5x_files.write(f, FLAT, inline=("",)),
    "older specs": lambda f: t5x_files.write(f, FLAT, older=True),
    "specs of gfile": lambda f: t5x_files.write(f, FLAT, driver="gfile"),
    "specs of a dummy bucket": lambda f: t5x_files.write(f, FLAT, driver="gcs"),
    "older specs of a dummy bucket": lambda f: t5x_files.write(f, FLAT, driver="gcs", older=True),
    "layers stacked": lambda f: t5x_files.write(f, traverse_util.flatten_dict(THETA, sep="/")),
    "layers scanned": lambda f: t5x_files.write(f, t5x_files.scanned(THETA)),
    "layers scanned, heads apart": lambda f: t5x_files.write(f, t5x_files.scanned(THETA, heads=4)),
    "orbax, ocdbt": lambda f: t5x_files.write_orbax(f, FLAT),
    "orbax, zarr 3": lambda f: t5x_files.write_orbax(f, FLAT, use_zarr3=True),
    "orbax, a folder an array": lambda f: t5x_files.write_orbax(f, FLAT, use_ocdbt=False),
    "orbax, layers scanned": lambda f: t5x_files.write_orbax(f, t5x_files.scanned(THETA)),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_value_comes_back(way, tmp_path):
    folder = WAYS[way](tmp_path / "checkpoint_7")
    backbone = read(folder)
    assert small.same(backbone.theta, THETA)
    assert backbone.fingerprint == fingerprint.of(THETA)
    # the sizes are those of the shapes
    assert backbones.config_of(str(folder)).architecture() == CONFIG.architecture()


def test_a_relative_path(tmp_path, monkeypatch):
    t5x_files.write(tmp_path / "checkpoint_7", FLAT)
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    assert small.same(read("../checkpoint_7").theta, THETA)


def test_the_folder_of_orbax_s_state_does_as_well(tmp_path):
    t5x_files.write_orbax(tmp_path / "checkpoint_7", FLAT)
    assert small.same(read(tmp_path / "checkpoint_7/state").theta, THETA)


def test_bfloat16_files(tmp_path):
    rounded = jax.tree.map(lambda a: a.astype(ml_dtypes.bfloat16), THETA)
    flat = t5x_files.unstacked(rounded)
    for folder in (
        t5x_files.write(tmp_path / "t5x", flat, inline=()),
        t5x_files.write_orbax(tmp_path / "orbax", flat),
    ):
        backbone = read(folder)
        assert small.same(backbone.theta, jax.tree.map(lambda a: a.astype(np.float32), rounded))
        # what a fingerprint is of, in whatever dtype the values lie
        assert backbone.fingerprint == fingerprint.of(THETA)


def test_held_in_bfloat16_but_for_what_is_tuned(tmp_path):
    folder, own = t5x_files.write(tmp_path / "t5x", FLAT), "decoder/logits_dense/kernel"
    theta = read(folder, dtype="bfloat16", exact=lambda name: name == own).theta
    wanted = traverse_util.flatten_dict(THETA, sep="/")
    for name, leaf in traverse_util.flatten_dict(theta, sep="/").items():
        value = wanted[name] if name == own else wanted[name].astype(ml_dtypes.bfloat16)
        assert leaf.dtype == value.dtype
        np.testing.assert_array_equal(leaf, value)
    with pytest.raises(UserError, match="FROZEN_DTYPE = 'float16': choose from float32, bfloat16"):
        read(folder, dtype="float16")


def test_leaves_that_flax_cut_into_chunks(tmp_path, monkeypatch):
    """Arrays of more than 2**30 bytes are; here of more than 64."""
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 64)
    folder = t5x_files.write(tmp_path / "chunked", FLAT, inline=("",))
    assert b"__msgpack_chunked_array__" in (folder / "checkpoint").read_bytes()
    assert small.same(read(folder).theta, THETA)


@pytest.mark.parametrize("config", [T5_1_0, OWN_TABLES], ids=["t5_1_0", "own_tables"])
def test_other_architectures(config, tmp_path):
    theta = small.theta(config)
    folder = t5x_files.write(tmp_path / "one_by_one", t5x_files.unstacked(theta))
    assert backbones.config_of(str(folder)).architecture() == config.architecture()
    assert small.same(read(folder, config).theta, theta)
    folder = t5x_files.write(tmp_path / "scanned", t5x_files.scanned(theta, heads=4))
    assert backbones.config_of(str(folder)).architecture() == config.architecture()
    assert small.same(read(folder, config).theta, theta)


def test_equal_tables_in_every_layer_are_the_stack_s_one(tmp_path):
    """The same model with one table and with copies of it, read from either and computed."""
    shared = t5x_files.unstacked(THETA)
    copied = {n: a for n, a in shared.items() if "relpos" not in n}
    for stack, count in (("encoder", 2), ("decoder", 3)):
        for i in range(count):
            name = f"{stack}/layers_{i}/relpos_bias/rel_embedding"
            copied[name] = shared[f"{stack}/relpos_bias/rel_embedding"]
    folder = t5x_files.write(tmp_path / "copied", copied)
    assert small.same(read(folder).theta, THETA)
    theta = traverse_util.flatten_dict(THETA, sep="/")
    for stack, count in (("encoder", 2), ("decoder", 3)):
        table = theta.pop(f"{stack}/relpos_bias/rel_embedding")
        theta[f"{stack}/layers/relpos_bias/rel_embedding"] = np.stack([table] * count)
    own = traverse_util.unflatten_dict(theta, sep="/")
    small.close(
        small.logits(own, small.batch(), OWN_TABLES), small.logits(THETA, small.batch()), 1e-6
    )


def test_one_table_serves_layers_that_want_their_own(tmp_path):
    theta = read(t5x_files.write(tmp_path / "t5x", FLAT), OWN_TABLES).theta
    for stack, count in (("encoder", 2), ("decoder", 3)):
        table = THETA[stack]["relpos_bias"]["rel_embedding"]
        got = theta[stack]["layers"]["relpos_bias"]["rel_embedding"]
        np.testing.assert_array_equal(got, np.stack([table] * count))


def test_a_lost_table_is_missed_even_where_the_others_are_equal(tmp_path):
    """It is no sign that the stacks have one table each."""
    copied = {n: a for n, a in FLAT.items() if "relpos" not in n}
    for name in ("encoder/layers_0", "encoder/layers_1", "decoder/layers_0", "decoder/layers_2"):
        table = FLAT[f"{name.split('/')[0]}/relpos_bias/rel_embedding"]
        copied[f"{name}/relpos_bias/rel_embedding"] = table
    folder = t5x_files.write(tmp_path / "t5x", copied)
    missing = "1 missing parameters: decoder/layers_1/relpos_bias/rel_embedding"
    assert missing in refused(folder, OWN_TABLES)
    assert "2 missing parameters: decoder/relpos_bias" in refused(folder)


def test_tables_equal_in_one_stack_alone(tmp_path):
    theta = small.theta(OWN_TABLES)
    tables = theta["encoder"]["layers"]["relpos_bias"]
    tables["rel_embedding"] = np.stack([tables["rel_embedding"][0]] * 2)
    folder = t5x_files.write(tmp_path / "t5x", t5x_files.unstacked(theta))
    assert backbones.config_of(str(folder)).relpos_per_layer
    assert small.same(read(folder, OWN_TABLES).theta, theta)


def test_tables_that_differ_do_not_fit_one(tmp_path):
    folder = t5x_files.write(tmp_path / "own", t5x_files.scanned(small.theta(OWN_TABLES)))
    message = refused(folder)
    assert "2 missing parameters: decoder/relpos_bias/rel_embedding" in message
    assert "2 extra parameters: decoder/layers/relpos_bias/rel_embedding" in message


# ---- gs:// ---------------------------------------------------------------------------------
PROGRAM = """
import sys
import small
from prompt_tuning_jax import backbones, sharding
from prompt_tuning_jax.errors import UserError
places = sharding.Partitioner.of({"data": 1}).theta(small.CONFIG)
for path in sys.argv[1:]:
    try:
        theta = backbones.read(path, small.CONFIG, places).theta
        print(small.same(theta, small.theta()))
    except UserError as error:
        print(error)
"""


def test_google_s_cloud_storage(tmp_path):
    """tensorstore's own client against a server on loopback, in a process of its own."""
    folder = tmp_path / "bucket/t5x"
    t5x_files.write(folder / "checkpoint_1", FLAT, driver="gcs")
    t5x_files.write(folder / "checkpoint_2", FLAT, driver="gfile", older=True)
    with gcs.serving(tmp_path) as (address, asked):
        environment = {"TENSORSTORE_GCS_HTTP_URL": address, "PYTHONPATH": os.path.dirname(__file__)}
        paths = [f"gs://bucket/t5x/checkpoint_{i}" for i in ("1/", "2", "3")]
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), *paths],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
        )
    lines = done.stdout.splitlines()
    assert lines[:2] == ["True", "True"]
    assert lines[2].startswith("gs://bucket/t5x/checkpoint_3: no T5X checkpoint there")
    assert "t5x/checkpoint_2/target.encoder.layers_1.mlp.wo.kernel/0.0" in asked


def test_addresses():
    wanted = {"driver": "gcs", "bucket": "b", "path": "a/c/"}
    assert storage.kvstore("gs://b/a/c") == storage.kvstore("gs://b/a/c/") == wanted
    assert storage.kvstore("gs://b") == wanted | {"path": ""}
    for wrong in ("gs://", "gs:///a"):
        with pytest.raises(UserError, match="gs://BUCKET/FOLDER"):
            storage.kvstore(wrong)


# ---- what is refused -----------------------------------------------------------------------


def test_all_that_does_not_fit_is_listed(tmp_path):
    flat = dict(FLAT)
    del flat["decoder/layers_2/mlp/wo/kernel"], flat["encoder/encoder_norm/scale"]
    flat |= {"encoder/layers_2/mlp/wo/kernel": np.zeros((20, 16), np.float32)}
    flat["token_embedder/embedding"] = np.zeros((95, 16), np.float32)
    message = refused(t5x_files.write(tmp_path / "t5x", flat))
    missing = "decoder/layers_2/mlp/wo/kernel, encoder/encoder_norm/scale"
    assert f"2 missing parameters: {missing}" in message
    assert "1 extra parameters: encoder/layers_2/mlp/wo/kernel" in message
    assert "token_embedder/embedding (95, 16), wanted (96, 16)" in message


@pytest.mark.parametrize("way", ["arrays alone", "orbax, a folder an array"])
def test_a_lost_chunk_is_not_zeros(way, tmp_path):
    folder = WAYS[way](tmp_path / "checkpoint_7")
    name = "target.encoder.layers_1.mlp.wo.kernel"
    chunk = next(folder.rglob(f"{name}/0.0"))
    chunk.unlink()
    assert name in refused(folder) and "0.0" in refused(folder)
    (chunk.parent / ".zarray").unlink()
    assert name in refused(folder) or "encoder/layers_1/mlp/wo/kernel" in refused(folder)


def test_a_chunk_that_equals_a_written_fill_value_is_no_loss(tmp_path):
    """zarr leaves such a chunk out; T5X and Orbax write no fill value."""
    folder = t5x_files.write(tmp_path / "t5x", FLAT, inline=())
    name = "target.decoder.logits_dense.kernel"
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": str(folder / name)},
        "metadata": {"shape": [16, 96], "chunks": [16, 48], "dtype": "<f4", "fill_value": 0.0},
    }
    values = FLAT["decoder/logits_dense/kernel"].copy()
    values[:, :48] = 0
    tensorstore.open(spec, create=True, delete_existing=True).result().write(values).result()
    assert {file.name for file in (folder / name).iterdir()} == {".zarray", "0.1"}
    np.testing.assert_array_equal(read(folder).theta["decoder"]["logits_dense"]["kernel"], values)


def test_indexes_that_are_none(tmp_path):
    for content in (b"", b"not msgpack", flax.serialization.msgpack_serialize({"version": 3})):
        (tmp_path / "checkpoint").write_bytes(content)
        assert "no index of a T5X checkpoint" in refused(tmp_path)
    bare = {"optimizer": {"target": {"a": {"driver": "zarr", "kvstore": {"driver": "file"}}}}}
    (tmp_path / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(bare))
    assert "no index of a T5X checkpoint" in refused(tmp_path)


def test_the_folder_above_a_checkpoint(tmp_path):
    t5x_files.write(tmp_path / "checkpoint_7", FLAT)
    assert f"did you mean {tmp_path}/checkpoint_7?" in refused(tmp_path)


def test_an_orbax_checkpoint_of_something_else(tmp_path):
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(tmp_path / "state", args=ocp.args.PyTreeSave({"params": np.ones(3)}))
    assert "no parameters under 'target'" in refused(tmp_path)


def test_whole_numbers_are_no_weights(tmp_path):
    """Version 2 of T5X's format kept bfloat16 as the same bits in uint16."""
    flat = FLAT | {"encoder/encoder_norm/scale": np.ones(16, np.uint16)}
    message = refused(t5x_files.write(tmp_path / "t5x", flat))
    assert "encoder/encoder_norm/scale is uint16, not floating-point numbers" in message


def test_a_damaged_index_is_told_in_a_line(tmp_path):
    file = t5x_files.write(tmp_path / "t5x", FLAT, inline=("",)) / "checkpoint"
    content, told = file.read_bytes(), 0
    for place in range(0, 200, 7):
        file.write_bytes(content[:place] + b"\xff\xc1\x00" + content[place + 3 :])
        try:
            read(file.parent)
        except UserError as error:
            told += 1
            assert len(str(error)) < 4000 and "\n" not in str(error)
    assert told > 10


def test_the_index_file_itself(tmp_path):
    t5x_files.write(tmp_path / "checkpoint_7", FLAT)
    assert "give the folder, not the file in it" in refused(tmp_path / "checkpoint_7/checkpoint")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("token_embedder/embedding", (96,)),
        ("encoder/layers_0/attention/query/kernel", (16,)),
        ("encoder/relpos_bias/rel_embedding", (0, 32)),
        ("encoder/layers_0/mlp/wo/kernel", ()),
    ],
)
def test_sizes_of_odd_shapes(name, shape):
    leaves = backbones.leaves_of(traverse_util.unflatten_dict(FLAT, sep="/"))
    leaves[name] = leaves[name]._replace(shape=shape)
    with pytest.raises(UserError, match=f"{name} .* is no matrix, so this is no T5"):
        t5x_names.sizes("somewhere", leaves)


def test_one_name_twice():
    both = {"encoder": {"encoder": {"a": np.ones((3, 2))}, "layers": {"a": np.ones((2, 3))}}}
    with pytest.raises(UserError, match="encoder/layers/a is there twice, scanned and stacked"):
        t5x_names.canonical("somewhere", backbones.leaves_of(both))


def test_shapes_that_are_no_t5_s():
    with pytest.raises(UserError, match="no token_embedder/embedding in it, so this is no T5"):
        t5x_names.sizes("somewhere", {})
    scalar = backbones.leaves_of({"encoder": {"encoder": {"scale": np.ones(3)}}})
    with pytest.raises(UserError, match="is scanned, but has no layers' axis"):
        t5x_names.canonical("somewhere", scalar)


def test_the_shared_one_tells_its_sizes(shared):
    folder = shared / "data/t5x_checkpoints/test_t5_1_1_tiny/checkpoint_3"
    assert backbones.config_of(str(folder)) == t5.T5Config(**small.T5X_TINY.architecture())
