"""Which evaluation chooses the best step where there are several tasks, and what is written."""

import json
import pathlib

import pytest
import tiny_run

# "falling" is best at the first evaluation, "rising" at the last.
OWN_TASKS = """
import dataclasses, itertools
from prompt_tuning_jax.tasks.text_files import Text

count = itertools.count(1)

def calls(targets, predictions):
    return {"calls": 10.0 * next(count)}

reviews = Text(
    "reviews", train="train.jsonl", validation="validation.jsonl", inputs="review: {text}",
    label_words={"0": "good", "1": "bad"},
)
falling = dataclasses.replace(reviews, name="falling", selection=("teacher_forced_loss",))
rising = dataclasses.replace(reviews, name="rising", metrics=(calls,), selection=("calls",))
"""
MIXTURE = """
MIXTURE_OR_TASK_NAME = {"falling": 1, "rising": 1}
MIXTURE_OR_TASK_MODULE = "rise_and_fall"
DROPOUT_RATE = 0.0
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    job = tiny_run.Job(tmp_path_factory.mktemp("best_step"))
    (job.folder / "rise_and_fall.py").write_text(OWN_TASKS)
    (job.folder / "mixture.gin").write_text(MIXTURE)
    return job


def _run(job, name: str, **macros) -> pathlib.Path:
    flags = [f for f in tiny_run.training() if f != "--gin_file=reviews.gin"]
    job.ok("train", *flags, "--gin_file=mixture.gin", MODEL_DIR=name, **macros)
    return job.folder / name


def _values(run: pathlib.Path, kind: str, name: str) -> dict[int, float]:
    return {line["step"]: line[name] for line in tiny_run.metrics(run) if line["kind"] == kind}


def _chosen(run: pathlib.Path) -> tuple[int, dict]:
    facts = json.loads((run / "artifact" / "artifact.json").read_text())
    return facts["step"], facts["metrics"]


def test_the_average_of_the_tasks_trained_on(job):
    run = _run(job, "average")
    falling = _values(run, "eval/falling", "teacher_forced_loss")
    rising = _values(run, "eval/rising", "calls")
    average = _values(run, "eval/average", "selection")
    assert average == pytest.approx({s: (falling[s] + rising[s]) / 2 for s in (4, 8, 12)})
    assert falling[4] == max(falling.values())
    step, metrics = _chosen(run)
    assert step == 12 and metrics["average"] == average[12]
    assert metrics["falling"]["teacher_forced_loss"] == falling[12]
    settings = json.loads((run / "settings.json").read_text())
    assert settings["selection"] == ["falling", "teacher_forced_loss", "rising", "calls"]


def test_the_first_of_the_tasks_that_are_named(job):
    run = _run(job, "first", EVAL_TASKS="['falling','rising']")
    assert not _values(run, "eval/average", "selection")
    step, metrics = _chosen(run)
    assert step == 4
    assert metrics["teacher_forced_loss"] == _values(run, "eval/falling", "teacher_forced_loss")[4]
    settings = json.loads((run / "settings.json").read_text())
    assert settings["selection"] == ["falling", "teacher_forced_loss"]
