"""The recipes of prompts/: the fast one's schedule by hand, the paper's as the defaults."""

import json

import pytest
import tiny_run
from test_gin_configs import read

from prompt_tuning_jax import gin_checks


@pytest.fixture
def job(tmp_path):
    return tiny_run.Job(tmp_path)


def rates(model_dir):
    lines = tiny_run.metrics(model_dir)
    return [line["learning_rate"] for line in lines if line["kind"] == "train"]


def macro(name, *files):
    source = read("models/demo_prompt.gin", "runs/prompt_finetune.gin", *files)
    return gin_checks.macros(source.bindings)[name].value


def test_the_fast_recipe_has_a_third_of_the_steps():
    assert macro("TRAIN_STEPS") == macro("TRAIN_STEPS", "prompts/paper.gin") == 30_000
    assert macro("TRAIN_STEPS", "prompts/fast.gin") == 10_000


@pytest.mark.parametrize("steps", [4, 12])
def test_the_fast_rate_ends_at_zero_whatever_train_steps_are(job, steps):
    run = job.train("fast", "--gin_file=prompts/fast.gin", TRAIN_STEPS=steps, LEARNING_RATE=0.6)
    assert rates(run) == pytest.approx([0.6 * (steps - i) / steps for i in range(steps)])


def test_the_paper_s_recipe_is_what_runs_without_it(job):
    def settings(name, *files):
        run = job.train(name, *[f"--gin_file={file}" for file in files], TRAIN_STEPS=4)
        assert rates(run) == pytest.approx([0.3] * 4)
        return json.loads((run / "settings.json").read_text())

    plain = settings("plain")
    assert settings("paper", "prompts/paper.gin") == plain
    assert settings("back", "prompts/fast.gin", "prompts/paper.gin")["method"] == plain["method"]
