"""A full disk, which is a small tmpfs: one line, what was there stays, and the run goes on."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tiny_run

from prompt_tuning_jax import artifacts, launch, token_cache

SETTINGS = {"EVAL_PERIOD": 2, "CHECKPOINT_PERIOD": 2, "ARTIFACT_STEPS": [3, 7], "TRAIN_STEPS": 8}
EVALUATE = ["--gin_file=runs/evaluate.gin", "--gin_file=reviews.gin"]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return tiny_run.Job(tmp_path_factory.mktemp("full_disk"))


@pytest.fixture(scope="module")
def whole(job):
    """The MODEL_DIR of a run that had room."""
    return job.train("whole", **SETTINGS)


@pytest.fixture(scope="module")
def disk(job):
    """A folder that is a disk of 4 MB."""
    folder = job.folder / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def _left(disk: pathlib.Path, kilobytes: int):
    """Within: all of the disk is taken but so much."""
    room = os.statvfs(disk)
    taken = room.f_bavail * room.f_frsize - 1024 * kilobytes
    (disk / "filler").write_bytes(bytes(max(taken, 0)))
    try:
        yield
    finally:
        (disk / "filler").unlink()


def _one_line(done, *parts):
    assert done.status == 2
    assert "Traceback" not in done.err
    *before, error = done.err.splitlines()
    assert not any(line.startswith("error") for line in before)
    assert error.startswith("error: ") and "No space left on device" in error
    assert all(part in error for part in parts), error


# kilobytes that are left: the folder's own files, reports, predictions, artifacts, checkpoints
@pytest.mark.parametrize("kilobytes", [0, 4, 8, 16, 24, 36, 60, 90, 150])
def test_a_run_that_fills_the_disk_goes_on_when_there_is_room(job, whole, disk, kilobytes):
    run = disk / f"run{kilobytes}"
    with _left(disk, kilobytes):
        done = job.run("train", *tiny_run.training(), MODEL_DIR=run, **SETTINGS)
        _one_line(done, str(run))
        # what is there is sound
        for folder in (run / "artifact", *run.glob("artifacts/*")):
            if folder.exists():
                artifacts.read(folder)
    job.train(str(run), **SETTINGS)
    assert tiny_run.metrics(run) == tiny_run.metrics(whole)
    for name in ("artifact", "artifacts/3", "artifacts/7"):
        for file in ("tuned.safetensors", "artifact.json"):
            assert (run / name / file).read_bytes() == (whole / name / file).read_bytes()
    assert not (run / "damaged").exists()


def test_what_was_there_stays(job, disk):
    """The second half of a run has no room for anything."""
    run = disk / "halves"
    job.train(str(run), **SETTINGS | {"TRAIN_STEPS": 4, "ARTIFACT_STEPS": [3]})
    files = [*(run / "artifact").iterdir(), run / "settings.json", run / "metrics.jsonl"]
    files += [f for f in (run / "checkpoints" / "4").rglob("*") if f.is_file()]
    before = {file: file.read_bytes() for file in files}
    with _left(disk, 0):
        _one_line(job.run("train", *tiny_run.training(), MODEL_DIR=run, **SETTINGS), str(run))
        assert {file: file.read_bytes() for file in files} == before
    job.train(str(run), **SETTINGS)


def test_predictions(job, whole, disk):
    (job.folder / "texts.txt").write_text("a fine play\n" * 8)
    commands = {
        "infer": [f"--input={job.folder}/texts.txt", f"--output={disk}/out.jsonl"],
        "evaluate": [*EVALUATE, f"--output={disk}/predictions"],
    }
    for command, flags in commands.items():
        (disk / "predictions").mkdir(exist_ok=True)
        with _left(disk, 0):
            done = job.run(command, "--artifact=whole/artifact", *flags)
            _one_line(done, flags[-1].partition("=")[2])
        job.ok(command, "--artifact=whole/artifact", *flags)


def test_a_backbone(job, disk):
    """The old one stays."""
    flags = ["--backbone=backbone", f"--output={disk}/copy"]
    job.ok("convert", *flags)
    before = {f: f.read_bytes() for f in (disk / "copy").iterdir()}
    for form, left in (("backbone", 0), ("backbone", 100), ("huggingface", 0)):
        place = f"--output={disk}/copy" if form == "backbone" else f"--output={disk}/hugging"
        with _left(disk, left):
            _one_line(job.run("convert", flags[0], place, FORMAT=form), str(disk))
        assert {f: f.read_bytes() for f in (disk / "copy").iterdir()} == before
        assert not (disk / "hugging").exists()
        assert not [f for f in disk.iterdir() if f.name.startswith(".")]


def test_standard_output(job, whole, monkeypatch):
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    monkeypatch.chdir(job.folder)
    (job.folder / "texts.txt").write_text("a fine play\n" * 8)
    err = io.StringIO()
    flags = ["--artifact=whole/artifact", "--input=texts.txt"]
    with (
        open("/dev/full", "w") as full,
        contextlib.redirect_stdout(full),
        contextlib.redirect_stderr(err),
        tiny_run.quickly(),
    ):
        status = launch.main("infer", flags)
    assert status == 2 and err.getvalue().splitlines()[-1] == (
        "error: No space left on device for standard output: make room, then start the same "
        "command again"
    )


def test_caches_cost_speed_alone(disk, monkeypatch):
    texts, words = ["a fine play", "a dull song"], tiny_run.vocabulary()
    want = token_cache.encode(texts, words, disk / "other")
    with _left(disk, 0):
        tokens = token_cache.encode(texts, words, disk / "cache")
    np.testing.assert_array_equal(tokens.values, want.values)
    assert not [f for f in (disk / "cache").rglob("*") if f.is_file()]


def test_a_log_that_is_full_leaves_the_status(job):
    command = [sys.executable, "-m", "prompt_tuning_jax.train", "--gin_file=none.gin"]
    with open("/dev/full", "w") as full:
        assert subprocess.run(command, stderr=full, cwd=job.folder).returncode == 2
