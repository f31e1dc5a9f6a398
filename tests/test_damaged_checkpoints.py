"""A damaged checkpoint is recognised, named, moved aside, and an older one is gone on from."""

import shutil

import damage
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import said
import tiny_run

from prompt_tuning_jax.checkpoints import Checkpoints
from prompt_tuning_jax.checksum import checksum
from prompt_tuning_jax.errors import UserError


def test_every_file_damaged_in_every_way(tmp_path):
    """Either the newest is right to the bit, or it is named, and the older one is."""
    whole, spoilt = tmp_path / "whole", tmp_path / "spoilt"
    steps = []
    written = damage.write(whole)
    for file in written:
        size = file.stat().st_size
        for name, change in (*damage.whole_file(), *damage.at(size // 2, 6)):
            step, lines = damage.outcome(whole, file, change, spoilt)
            steps.append(step)
            newer, aside = spoilt / "checkpoints" / "8", spoilt / "damaged" / "8"
            if step == 8:
                assert not lines, (file, name)
                continue
            assert lines[0].startswith(f"{newer} is damaged (") and str(aside) in lines[1]
            # what was found is there to be looked at
            there = {f.relative_to(aside) for f in aside.rglob("*") if f.is_file()}
            there.add(file.relative_to(whole / "checkpoints" / "8"))
            assert len(there) == len(written)
            assert not newer.exists()
    assert steps.count(4) > 15 and steps.count(8) > 15


def test_values_that_orbax_reads_without_a_word(tmp_path):
    """A checkpoint that is sound for Orbax and has other values than were saved."""
    damage.write(tmp_path)
    checkpoints = Checkpoints(tmp_path, keep=3)
    signed = damage.state(8) | {"checksum": jax.jit(checksum)(damage.state(8))}
    signed["tuned"]["shared"]["prompt"] = signed["tuned"]["shared"]["prompt"].at[0, 1, 2].add(1e-7)
    shutil.rmtree(tmp_path / "checkpoints" / "8")
    checkpoints._manager.reload()
    checkpoints._write(signed)
    assert checkpoints.steps() == [8, 4]
    assert checkpoints.restore(damage.state(0))["step"] == 4


def test_none_that_is_sound_is_one_line_and_nothing_changes(tmp_path):
    for file in (*damage.write(tmp_path), *(tmp_path / "checkpoints" / "4").rglob("*")):
        if file.name == "_METADATA":
            file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"checkpoints/8: no sound checkpoint of this run \("):
        Checkpoints(tmp_path, keep=2).restore(damage.state(0))
    assert sorted(f.name for f in (tmp_path / "checkpoints").iterdir()) == ["4", "8"]


def test_a_run_goes_on_from_the_older_one_to_the_same_end(tmp_path):
    job = tiny_run.Job(tmp_path)
    run = job.train("run")
    metrics, artifact = tiny_run.metrics(run), (run / "artifact" / "artifact.json").read_bytes()
    for round_ in range(2):
        largest = max((run / "checkpoints" / "12").rglob("*"), key=lambda f: f.stat().st_size)
        content = bytearray(largest.read_bytes())
        for place in range(0, len(content), 50):
            content[place] ^= 4
        largest.write_bytes(content)
        with said.warnings() as lines:
            job.train("run")
        assert "run/checkpoints/12 is damaged (" in lines[0] and "step 8's is taken" in lines[0]
        assert lines[-2].endswith("going on from step 8")
        assert tiny_run.metrics(run) == metrics
        assert (run / "artifact" / "artifact.json").read_bytes() == artifact
        assert sorted(f.name for f in (run / "damaged").iterdir()) == ["12", "12.1"][: round_ + 1]
        assert sorted(f.name for f in (run / "checkpoints").iterdir()) == ["12", "8"]


# ---- the checksum ----------------------------------------------------------------------------


def _sums(tree):
    return tuple(np.asarray(jax.jit(checksum)(tree)).tolist())


def test_the_checksum_sees_values_places_and_leaves():
    values = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    trees = [
        {"a": values, "b": values[0]},
        {"a": values[::-1], "b": values[0]},  # the same values elsewhere
        {"a": values.reshape(15), "b": values[0, :4]},
        {"a": values.astype(jnp.bfloat16), "b": values[0]},
        {"a": np.zeros((3, 5), np.float32), "b": np.zeros(5, np.float32)},
        {"a": np.zeros((3, 5), np.float32), "b": np.zeros(6, np.float32)},
        {"a": -np.zeros((3, 5), np.float32), "b": np.zeros(5, np.float32)},
        {"a": values > 0, "b": values[0]},
        {"b": values[0], "c": values},
    ]
    assert len({_sums(tree) for tree in trees}) == len(trees)
    for place in range(15):
        for bit in range(32):
            changed = values.copy()
            changed.view(np.uint32).reshape(-1)[place] ^= np.uint32(1 << bit)
            assert _sums({"a": changed, "b": values[0]}) != _sums(trees[0])


def test_the_checksum_by_hand():
    def mix(word):
        word = (word ^ word >> 16) * 0x85EBCA6B % 2**32
        word = (word ^ word >> 13) * 0xC2B2AE35 % 2**32
        return word ^ word >> 16

    leaves = [np.arange(6, dtype=np.int32).reshape(2, 3), np.float32(1.5)]
    want = []
    for seed in (0x9E3779B9, 0x7F4A7C15):
        total = len(leaves)
        for number, leaf in enumerate(leaves, 1):
            for place, word in enumerate(np.ravel(leaf).view(np.uint32).tolist()):
                total += mix(word ^ mix((place + seed * number) % 2**32))
        want.append(total % 2**32)
    assert _sums(leaves) == tuple(want)
