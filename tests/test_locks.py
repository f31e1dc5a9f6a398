"""Two runs in one MODEL_DIR: the second is refused; a killed one leaves nothing in the way."""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys

import pytest
import tiny_run

# takes a folder's lock as a run does, and waits to be killed
_HOLDS = """
import pathlib, sys, time
from prompt_tuning_jax import locks
file = pathlib.Path(sys.argv[1])
file.parent.mkdir(exist_ok=True)
locks.mark(file) if sys.argv[2] == "writes" else locks.take(file)
print("held", flush=True)
time.sleep(100)
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    job = tiny_run.Job(tmp_path_factory.mktemp("locks"))
    job.train("run", TRAIN_STEPS=2, EVAL_PERIOD=2)
    return job


@contextlib.contextmanager
def _held(job, folder: str, writes: bool = True):
    """Another process has the folder -> its id; it is killed at the end."""
    file = str(job.folder / folder / "lock")
    command = [sys.executable, "-c", _HOLDS, file, "writes" if writes else ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGKILL)


def _disk(folder):
    return {
        file: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_the_second_is_refused_and_the_next_is_not(job):
    with _held(job, "run") as pid:
        before = _disk(job.folder / "run")
        done = job.run("train", *tiny_run.training(), TRAIN_STEPS=4)
        assert (done.status, done.err) == (
            2,
            f"error: run: another run writes it (process {pid} on {socket.gethostname()}): "
            "wait for its end, or choose another MODEL_DIR\n",
        )
        assert _disk(job.folder / "run") == before
        # who only reads is not refused
        evaluate = ["--gin_file=runs/evaluate.gin", "--gin_file=reviews.gin"]
        job.ok("evaluate", *evaluate, "--artifact=run/artifact")
        (job.folder / "line.txt").write_text("a fine play\n")
        job.ok("infer", "--artifact=run/artifact", "--input=line.txt")
    # kill -9 gives the lock back
    job.train("run", TRAIN_STEPS=4, EVAL_PERIOD=2)
    assert tiny_run.metrics(job.folder / "run")[-1]["step"] == 4
    assert (job.folder / "run" / "lock").read_text() == ""


def test_a_new_folder_is_refused_before_anything_is_written(job):
    with _held(job, "new") as pid:
        done = job.run("train", *tiny_run.training(), MODEL_DIR="new")
        assert done.status == 2 and f"process {pid} on" in done.err
        assert os.listdir(job.folder / "new") == ["lock"]


def test_one_that_is_starting_is_not_called_by_the_name_of_a_dead_one(job):
    with _held(job, "dead"):
        pass  # its name is still there
    with _held(job, "dead", writes=False):
        done = job.run("train", *tiny_run.training(), MODEL_DIR="dead")
        assert done.err.startswith("error: dead: another run writes it (it is starting): ")


def test_each_of_several_runs_has_a_lock(job):
    runs = '--gin.RUNS={"a": {}, "b": {"RANDOM_SEED": 3}}'
    with _held(job, "several"):  # no run's folder
        pass
    (job.folder / "several" / "b").mkdir()
    with _held(job, "several/b"):
        done = job.run("train", *tiny_run.training(), runs, MODEL_DIR="several")
        assert done.status == 2 and "error: several/b: another run writes it" in done.err
        assert not (job.folder / "several" / "a").exists()


def test_an_error_gives_the_lock_back(job):
    done = job.run("train", *tiny_run.training(), TRAIN_STEPS=4, BATCH_SIZE=4)
    assert done.status == 2 and "another configuration" in done.err
    with _held(job, "run"):
        pass
