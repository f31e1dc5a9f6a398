"""`kill -9` while a run writes: it goes on to the very same end. benchmarks/kills.py does more."""

import random

import killed
import pytest
import tiny_run


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return tiny_run.Job(tmp_path_factory.mktemp("killed"))


def test_killed_while_it_writes(job):
    settings = {"TRAIN_STEPS": 20, "CHECKPOINT_PERIOD": 3, "ARTIFACT_STEPS": [*range(2, 20, 2)]}
    flags = [*tiny_run.training(), *(f"--gin.{k}={v}" for k, v in settings.items())]
    job.ok("train", *flags, MODEL_DIR="whole")
    aims = ["opening the folder", "artifact writing", killed.WRITING]
    died = killed.finish(job, "killed", flags, aims, random.Random(1))
    assert died
    assert killed.difference(job.folder / "killed", job.folder / "whole") == []


def test_killed_between_two_renames_the_old_artifact_is_still_there(job):
    """As `folders.replaced` is killed: the old one moved away, the new one not yet in its place."""
    run = job.train("renamed", TRAIN_STEPS=4)
    evaluate = ["--gin_file=runs/evaluate.gin", "--gin_file=reviews.gin"]
    want = job.ok("evaluate", *evaluate, "--artifact=renamed/artifact").result
    (run / "artifact").rename(run / ".artifact.old")
    (run / ".artifact.new").mkdir()
    assert job.ok("evaluate", *evaluate, "--artifact=renamed/artifact").result == want
    # and it is not thrown away before the next one is whole
    content = (run / ".artifact.old" / "tuned.safetensors").read_bytes()
    (run / ".artifact.new").rmdir()
    from prompt_tuning_jax import folders

    with pytest.raises(RuntimeError), folders.replaced(run / "artifact"):
        raise RuntimeError
    assert (run / "artifact" / "tuned.safetensors").read_bytes() == content
