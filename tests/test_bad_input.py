"""Every kind of bad input: one line that names it, exit status 2, and nothing changed on disk."""

import hashlib
import pathlib
import resource
import shutil
from collections.abc import Callable

import bad_configurations
import bad_runs
import pytest
import tiny_run
from spoilt import EVALUATE, NEW, Case

CASES = [*bad_configurations.CASES, *bad_runs.CASES]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    """A folder with a finished run."""
    job = tiny_run.Job(tmp_path_factory.mktemp("trained"))
    job.train("run", TRAIN_STEPS=4)
    return job.folder


@pytest.fixture
def job(trained, tmp_path) -> tiny_run.Job:
    """A copy of that folder."""
    shutil.copytree(trained, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tiny_run.Job(tmp_path)


def _disk(job: tiny_run.Job) -> dict[str, str]:
    """Everything in the folder and in the backbone."""
    files = [*job.folder.rglob("*"), *(job.folder / "backbone").rglob("*")]
    return {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "folder"
        for file in files
    }


def _check(case: Case, job: tiny_run.Job, run: Callable) -> None:
    case.prepare(job)
    before = _disk(job)
    done = run(case.command, *case.base, *case.flags)
    assert (done.status, done.out) == (2, "")
    *warnings, error = done.err.splitlines()
    assert error.startswith("error: ") and len(error) < 600
    assert not any("error" in line.lower() or "Traceback" in line for line in warnings)
    for part in case.said:
        assert part in error
    assert _disk(job) == before


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_one_line_and_nothing_changed(case, job):
    _check(case, job, job.run)


# Some of them as a user meets them, where libraries may add lines of their own.
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.id in {"no JSON", "an artifact with NaN", "another batch"}],
    ids=lambda case: case.id,
)
def test_in_a_process_of_its_own(case, job):
    _check(case, job, job.process)


@pytest.mark.parametrize(
    ("flags", "seconds", "status"),
    [
        (["--help"], 1, 0),
        (["--gin_file=absent.gin"], 1, 2),
        ([*tiny_run.training(), "--gin.TRAIN_STEP=10"], 3, 2),
        ([*tiny_run.training(), "--gin.prompt.Prompt.lenght=10"], 3, 2),
    ],
)
def test_answers_that_come_at_once(job, flags, seconds, status):
    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    # of the processor: another process may have it meanwhile
    before = used()
    assert job.process("train", *flags).status == status
    assert used() - before < seconds


def test_a_run_that_diverges_stops(job):
    flags = ["--gin.PROMPT_START=@prompt_init.Uniform()", "--gin.prompt_init.Uniform.high=1e39"]
    for evaluated in ("--gin.EVAL_TASKS=[]", "--gin.EVAL_PERIOD=1"):
        done = job.run("train", *NEW, *flags, "--gin.CHECKPOINT_PERIOD=1", evaluated)
        assert done.status == 2 and done.err.startswith("error: step 1: the loss is nan")
        # nothing of what is lost is kept
        left = {f.name for f in (job.folder / "new").iterdir()}
        assert left == {"lock", "settings.json", "config.gin", "metrics.jsonl", "tensorboard"}
        shutil.rmtree(job.folder / "new")


@pytest.mark.parametrize("flag", ["ARTIFACT_STEPS=[1]", "CHECKPOINT_PERIOD=1"])
def test_what_is_kept_is_looked_at_whatever_is_reported(job, flag):
    """The first step that is reported is 3."""
    flags = ["--gin.PROMPT_START=@prompt_init.Uniform()", "--gin.prompt_init.Uniform.high=1e39"]
    flags += ["--gin.LOG_PERIOD=3", "--gin.EVAL_TASKS=[]", f"--gin.{flag}"]
    done = job.run("train", *NEW, *flags)
    assert done.status == 2 and done.err.startswith("error: step 1: the loss is nan")
    kept = {f.name for f in (job.folder / "new").iterdir()}
    assert kept == {"lock", "settings.json", "config.gin", "metrics.jsonl", "tensorboard"}


def test_a_model_from_nothing_is_no_backbone(job):
    flags = ["--gin.INITIAL_CHECKPOINT_PATH=None", "--gin.EVAL_TASKS=[]", "--gin.TRAIN_STEPS=1"]
    flags += ["--gin.VOCABULARY_FILE=backbone/sentencepiece.model", "--gin.EXTRA_IDS=10"]
    job.ok("train", *NEW, *flags)
    done = job.run("evaluate", *EVALUATE[:2], "--artifact=new/artifact")
    assert done.status == 2 and "started from random values" in done.err


def test_long_inputs_are_cut_and_counted(job):
    long = "a good film with a fine song " * 4
    assert len(tiny_run.vocabulary().encode(long)) > 40
    job.jsonl("train.jsonl", [*tiny_run.TRAIN, (long, 0), (long, 0)])
    done = job.process("train", *NEW, TRAIN_STEPS=1)
    assert done.status == 0, done.err
    assert "2 of 10 inputs of reviews/train were longer than 40 tokens and cut" in done.err
    assert "inputs of reviews/validation" not in done.err
    (job.folder / "texts.txt").write_text(f"review: {long}\na fine play\n")
    done = job.process("infer", "--artifact=new/artifact", "--input=texts.txt", BATCH_SIZE=8)
    assert done.status == 0 and len(done.out.splitlines()) == 2
    assert "1 of 2 inputs were longer than 40 tokens and cut" in done.err
