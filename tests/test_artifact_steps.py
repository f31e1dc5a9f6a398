"""Artifacts kept at given steps, whatever their metric."""

import json
import os

import numpy as np
import pytest
import tiny_run


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return tiny_run.Job(tmp_path_factory.mktemp("artifact_steps"))


@pytest.fixture(scope="module")
def kept(job):
    """A run of 12 steps, evaluated after 4, 8 and 12, that keeps the artifacts of four steps."""
    return job.train("kept", method="full", ARTIFACT_STEPS=[3, 4, 6, 12])


def _artifacts(model_dir):
    folders = sorted((model_dir / "artifacts").iterdir(), key=lambda folder: int(folder.name))
    return {int(folder.name): folder for folder in folders}


def _content(folder):
    return {name: (folder / name).read_bytes() for name in os.listdir(folder)}


def test_each_is_the_artifact_of_a_run_that_ends_there(job, kept):
    assert list(_artifacts(kept)) == [3, 4, 6, 12]
    for step, folder in _artifacts(kept).items():
        facts = json.loads((folder / "artifact.json").read_text())
        assert facts["step"] == step
        assert bool(facts["metrics"]) == (step in (4, 12))  # where it was evaluated
        alone = job.train(f"to_{step}", method="full", EVAL_TASKS=[], TRAIN_STEPS=step)
        want, there = tiny_run.tensors(alone / "artifact"), tiny_run.tensors(folder)
        assert want.keys() == there.keys()
        for name, value in want.items():
            np.testing.assert_array_equal(there[name], value)


def test_a_run_in_two_parts_keeps_the_same_ones(job, kept):
    job.train("halves", method="full", ARTIFACT_STEPS=[3, 4], TRAIN_STEPS=4)
    job.train("halves", method="full", ARTIFACT_STEPS=[3, 4, 6, 12])
    halves = _artifacts(job.folder / "halves")
    assert {k: _content(v) for k, v in halves.items()} == {
        k: _content(v) for k, v in _artifacts(kept).items()
    }


def test_convert_makes_a_backbone_of_one(job, kept):
    job.ok("convert", "--artifact=kept/artifacts/6", "--output=at_6")
    start = {"INITIAL_CHECKPOINT_PATH": "at_6", "EVAL_TASKS": [], "TRAIN_STEPS": 1}
    job.train("from_6", method="full", **start, RANDOM_SEED=1)
    assert (job.folder / "from_6" / "artifact").is_dir()
