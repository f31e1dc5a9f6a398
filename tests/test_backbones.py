"""Backbones: a round trip, a fingerprint of the values alone, and what is refused."""

import dataclasses
import json
import shutil

import ml_dtypes
import numpy as np
import pytest
import small
import t5x_files
import tiny_vocabulary
from flax import traverse_util
from safetensors.numpy import load_file, save_file

from prompt_tuning_jax import backbones, fingerprint, sharding
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.vocabulary import Vocabulary

CONFIG, THETA = small.CONFIG, small.theta()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    words = Vocabulary(tiny_vocabulary.train(folder), extra_ids=4)
    backbones.write(str(folder / "tiny"), "tiny", CONFIG, backbones.leaves_of(THETA), words)
    return folder / "tiny"


@pytest.fixture
def path(written, tmp_path):
    """A copy that a test may break."""
    return shutil.copytree(written, tmp_path / "tiny")


def read(path, config=CONFIG):
    places = sharding.Partitioner.of({"data": 1}).theta(config)
    return backbones.read(str(path), config, places)


def test_every_value_comes_back(written):
    backbone = read(written)
    assert small.same(backbone.theta, THETA)
    assert backbone.fingerprint == fingerprint.of(THETA)
    assert backbones.vocabulary(str(written)).encode("a cat")[:1] != []
    assert {file.name for file in written.iterdir()} == {
        "backbone.json",
        "params.safetensors",
        "sentencepiece.model",
    }


def test_an_existing_backbone_is_replaced(path):
    words, other = backbones.vocabulary(str(path)), small.theta(seed=1)
    backbones.write(str(path), "other", CONFIG, backbones.leaves_of(other), words)
    assert small.same(read(path).theta, other)
    assert [file.name for file in path.parent.iterdir()] == ["tiny"]


# ---- the fingerprint -----------------------------------------------------------------------


def rounded(leaf):
    return leaf.astype(ml_dtypes.bfloat16)


def test_the_fingerprint_is_of_names_and_values_rounded_to_bfloat16():
    own, apart = fingerprint.of(THETA), t5x_files.unstacked(THETA)
    assert fingerprint.of(traverse_util.unflatten_dict(apart, sep="/")) == own
    flat = traverse_util.flatten_dict(THETA)
    assert (
        fingerprint.of(traverse_util.unflatten_dict({k: rounded(v) for k, v in flat.items()}))
        == own
    )
    assert fingerprint.of(small.theta(seed=1)) != own
    for name, leaf in flat.items():
        moved = leaf.copy()
        moved.ravel()[0] += 1
        assert fingerprint.of(traverse_util.unflatten_dict(flat | {name: moved})) != own
    swapped = flat | {
        ("encoder", "layers", "mlp", "wi_0", "kernel"): flat[
            "encoder", "layers", "mlp", "wi_1", "kernel"
        ],
        ("encoder", "layers", "mlp", "wi_1", "kernel"): flat[
            "encoder", "layers", "mlp", "wi_0", "kernel"
        ],
    }
    assert fingerprint.of(traverse_util.unflatten_dict(swapped)) != own


# ---- what is refused -----------------------------------------------------------------------


def refused(path, config=CONFIG):
    with pytest.raises(UserError) as caught:
        read(path, config)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def change(path, **leaves):
    """Rewrites the file with some leaves replaced, by path with "__" for "/"; None: left out."""
    file = path / "params.safetensors"
    tensors = load_file(file) | {name.replace("__", "/"): leaf for name, leaf in leaves.items()}
    save_file({name: leaf for name, leaf in tensors.items() if leaf is not None}, file)


def test_missing_extra_and_misshapen_leaves_are_named(path):
    change(path, decoder__decoder_norm__scale=None)
    assert "1 missing parameters: decoder/decoder_norm/scale" in refused(path)
    change(path, decoder__decoder_norm__scale=np.ones(17, np.float32))
    message = refused(path)
    assert "1 misshapen parameters: decoder/decoder_norm/scale (17,), wanted (16,)" in message
    change(path, decoder__decoder_norm__scale=np.ones(16, np.float32), bias=np.ones(1))
    assert "1 extra parameters: bias" in refused(path)


def test_other_values_are_noticed(path):
    scale = THETA["encoder"]["encoder_norm"]["scale"].copy()
    change(path, encoder__encoder_norm__scale=scale * 1.1)
    assert "not those" in refused(path)
    for spoilt in (np.nan, np.inf):
        change(path, encoder__encoder_norm__scale=scale * np.float32(spoilt))
        assert "encoder/encoder_norm/scale has NaN or infinite values" in refused(path)
    change(path, encoder__encoder_norm__scale=scale)
    assert small.same(read(path).theta, THETA)


def test_another_architecture(written):
    message = refused(written, dataclasses.replace(CONFIG, emb_dim=32, head_dim=8))
    assert "emb_dim = 16 there, 32 asked" in message and "head_dim = 6 there, 8 asked" in message
    # what is no part of the architecture may differ from run to run
    assert read(written, dataclasses.replace(CONFIG, dtype="bfloat16", dropout_rate=0.3))


def test_broken_files(path):
    (path / "params.safetensors").write_bytes(b"not tensors")
    assert "cannot be read" in refused(path)
    (path / "params.safetensors").unlink()
    assert "cannot be read" in refused(path)
    facts = json.loads((path / "backbone.json").read_text())
    for broken in ("{", "[]", "5", json.dumps(facts | {"config": {"emb_dims": 3}}), json.dumps({})):
        (path / "backbone.json").write_text(broken)
        assert "description" in refused(path)
    (path / "backbone.json").unlink()
    assert "no backbone.json" in refused(path)
    assert "no such" in refused(path / "absent")
    with pytest.raises(UserError, match="no such built-in"):
        backbones.find("builtin://absent")


# ---- files of a large one ------------------------------------------------------------------


def test_several_files(written, tmp_path, monkeypatch):
    """θ in files of at most 4 kB, each parameter in one of them; a lost file is noticed."""
    monkeypatch.setattr(backbones, "FILE_BYTES", 4096)
    words, path = backbones.vocabulary(str(written)), tmp_path / "parted"
    mark = backbones.write(str(path), "parted", CONFIG, backbones.leaves_of(THETA), words)
    assert mark == fingerprint.of(THETA)
    files = sorted(path.glob("params-*.safetensors"))
    count = len(files)
    assert count > 2 and files[1].name == f"params-00002-of-{count:05}.safetensors"
    held = [load_file(file) for file in files]
    assert all(
        len(tensors) == 1 or sum(t.nbytes for t in tensors.values()) <= 4096 for tensors in held
    )
    names = [name for tensors in held for name in tensors]
    assert len(set(names)) == len(names)
    assert small.same(read(path).theta, THETA)
    files[1].unlink()
    assert "missing parameters" in refused(path) and list(held[1])[0] in refused(path)


def test_bfloat16_values_have_the_same_fingerprint(written, tmp_path):
    words, path = backbones.vocabulary(str(written)), tmp_path / "half"
    leaves = backbones.leaves_of(THETA)
    backbones.write(str(path), "half", CONFIG, leaves, words, dtype="bfloat16")
    assert read(path).fingerprint == read(written).fingerprint
    one, half = ((p / "params.safetensors").stat().st_size for p in (written, path))
    assert half < 0.65 * one


def test_nothing_is_left_of_a_write_that_fails(written, tmp_path):
    words = backbones.vocabulary(str(written))

    def broken(index):
        raise UserError("a disk has failed")

    leaves = backbones.leaves_of(THETA)
    leaves["decoder/decoder_norm/scale"] = leaves["decoder/decoder_norm/scale"]._replace(
        read=broken
    )
    shutil.copytree(written, tmp_path / "kept")
    with pytest.raises(UserError, match="a disk has failed"):
        backbones.write(str(tmp_path / "kept"), "new", CONFIG, leaves, words)
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
    assert small.same(read(tmp_path / "kept").theta, THETA)


def write_over(path, written, seed=1):
    words = backbones.vocabulary(str(written))
    backbones.write(str(path), "new", CONFIG, backbones.leaves_of(small.theta(seed=seed)), words)


def test_an_interrupt_while_the_old_one_is_removed_leaves_the_new_one(path, written, monkeypatch):
    remove = shutil.rmtree

    def interrupted(where, **options):
        if where.name.endswith(".old") and where.exists():
            raise KeyboardInterrupt
        remove(where, **options)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_over(path, written)
    assert small.same(read(path).theta, small.theta(seed=1))
    # what is left of the old one goes with the next
    monkeypatch.undo()
    write_over(path, written, seed=2)
    assert small.same(read(path).theta, small.theta(seed=2))
    assert [file.name for file in path.parent.iterdir()] == ["tiny"]


def test_a_folder_that_holds_anything_else_is_left_alone(path, written):
    (path / "notes").mkdir()
    with pytest.raises(UserError, match="is there already and holds notes: choose another place"):
        write_over(path, written)
    assert small.same(read(path).theta, THETA)
    for other in ("gs://bucket/folder", "builtin://demo"):
        with pytest.raises(UserError, match="choose a local folder to write into"):
            write_over(other, written)


def test_links_and_dots_are_followed(path, written, monkeypatch):
    (path.parent / "link").symlink_to(path)
    write_over(path.parent / "link", written)
    assert (path.parent / "link").is_symlink()
    assert small.same(read(path).theta, small.theta(seed=1))
    monkeypatch.chdir(path)
    write_over(".", written, seed=2)
    assert small.same(read(path).theta, small.theta(seed=2))


def test_a_vocabulary_that_is_too_large(written):
    words = backbones.vocabulary(str(written))
    backbones.check_vocabulary(words, CONFIG)
    with pytest.raises(UserError, match="ids with its sentinels, and the model has 96"):
        backbones.check_vocabulary(Vocabulary(words.model_file, 100), CONFIG)
