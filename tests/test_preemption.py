"""SIGTERM: the run saves at the next step, ends with 143, and goes on to the same end."""

import random
import signal

import killed
import pytest
import tiny_run

# a metric by which a process tells itself to end, in the evaluation after step 4 and only once
OWN_TASKS = """
import os, pathlib, signal
from prompt_tuning_jax.tasks.text_files import Text

def sent(targets, predictions):
    mark = pathlib.Path("sent")
    if targets != predictions and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGTERM)
    return {}

reviews = Text(
    "reviews", train="train.jsonl", validation="validation.jsonl", inputs="review: {text}",
    label_words={"0": "good", "1": "bad"},
)
told = type(reviews)(**vars(reviews) | {"name": "told", "metrics": (*reviews.metrics, sent)})
"""
FLAGS = [f for f in tiny_run.training() if f != "--gin_file=reviews.gin"]
FLAGS += ["--gin.MIXTURE_OR_TASK_NAME=told", "--gin.MIXTURE_OR_TASK_MODULE=told_tasks"]
FLAGS += ["--gin.CHECKPOINT_PERIOD=100"]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    job = tiny_run.Job(tmp_path_factory.mktemp("preemption"))
    (job.folder / "told_tasks.py").write_text(OWN_TASKS)
    return job


@pytest.fixture(scope="module")
def unharmed(job):
    (job.folder / "sent").touch()
    job.ok("train", *FLAGS, MODEL_DIR="unharmed")
    return job.folder / "unharmed"


def _steps(run):
    return sorted(int(f.name) for f in (run / "checkpoints").iterdir())


def test_during_an_evaluation_it_ends_after_the_next_step(job, unharmed):
    (job.folder / "sent").unlink(missing_ok=True)
    done = job.run("train", *FLAGS, MODEL_DIR="told")
    run = job.folder / "told"
    assert done.status == 143
    assert done.err.splitlines()[-1] == (
        "stopped by SIGTERM at step 5: the same command goes on from there"
    )
    assert _steps(run)[-1] == 5 and tiny_run.metrics(run)[-1]["step"] == 5
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # as it was
    job.ok("train", *FLAGS, MODEL_DIR="told")
    assert killed.difference(run, unharmed) == []


def test_in_the_last_evaluation_there_is_nothing_to_stop(job):
    (job.folder / "sent").unlink(missing_ok=True)
    job.ok("train", *FLAGS, MODEL_DIR="last", TRAIN_STEPS=4)
    assert _steps(job.folder / "last") == [4]


def test_several_runs_stop_at_one_step(job):
    (job.folder / "sent").unlink(missing_ok=True)
    runs = '--gin.RUNS={"a": {}, "b": {"RANDOM_SEED": 3}}'
    done = job.run("train", *FLAGS, runs, MODEL_DIR="several")
    assert done.status == 143 and "at step 5:" in done.err
    assert [_steps(job.folder / "several" / name)[-1] for name in "ab"] == [5, 5]


def test_a_process_that_a_cluster_ends(job):
    """Where training has begun the status is 143; before, the signal itself ends it."""
    flags = [*tiny_run.training(), "--gin.TRAIN_STEPS=200", "--gin.LOG_PERIOD=50"]
    flags += ["--gin.EVAL_PERIOD=100", "--gin.CHECKPOINT_PERIOD=1000"]
    job.ok("train", *flags, MODEL_DIR="whole")
    at = killed.finish(job, "ended", flags, ["training"], random.Random(0), signal.SIGTERM)
    assert len(at) == 1
    assert killed.difference(job.folder / "ended", job.folder / "whole") == []
