"""A step that makes no number: named with its examples, and never kept, or skipped."""

import json
import re

import pytest
import said
import tiny_run

from prompt_tuning_jax import backbones

SICK = 5  # the only example with a token whose embedding becomes infinite as dropout scales it
SETTINGS = {
    "INITIAL_CHECKPOINT_PATH": "sick",
    "BATCH_SIZE": 2,
    "EVAL_PERIOD": 3,
    "CHECKPOINT_PERIOD": 1,
    "KEEP": 100,
    "ARTIFACT_STEPS": [*range(1, 13)],
}
# the rate is beyond float32
LOST = {"LEARNING_RATE": 1e39, "BATCH_SIZE": 2, "EVAL_PERIOD": 1, "CHECKPOINT_PERIOD": 1}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    job = tiny_run.Job(tmp_path_factory.mktemp("nonfinite"))
    words, theta = tiny_run.vocabulary(), tiny_run.random_theta()
    own = set(words.encode(f"review: {tiny_run.TRAIN[SICK][0]}"))
    for number, (text, _) in enumerate((*tiny_run.TRAIN, *tiny_run.VALIDATION)):
        if number != SICK:
            own -= set(words.encode(f"review: {text}"))
    theta["token_embedder"]["embedding"][sorted(own)] = 3.3e38
    backbones.write(
        str(job.folder / "sick"), "sick", tiny_run.CONFIG, backbones.leaves_of(theta), words
    )
    return job


@pytest.fixture(scope="module")
def skipped(job):
    """A run that skipped: its MODEL_DIR and what it said."""
    with said.warnings() as lines:
        run = job.train("skipped", NONFINITE="skip", **SETTINGS)
    return run, "\n".join(lines)


def _named(text: str) -> dict[int, list[int]]:
    """By step the examples that were named."""
    found = re.findall(r"step (\d+): the loss is nan.*counted from 0: reviews/train (.*)", text)
    return {int(step): [int(number) for number in of.split(", ")] for step, of in found}


def _artifact(run, step: int) -> bytes:
    return (run / "artifacts" / str(step) / "tuned.safetensors").read_bytes()


def test_skipped_steps_change_nothing_and_are_counted(skipped):
    run, warned = skipped
    named = _named(warned)
    # 8 examples, 2 a step: one step in four has the sick one
    assert [(step - 1) // 4 for step in named] == [0, 1, 2]
    assert all(len(examples) == 2 and SICK in examples for examples in named.values())
    reports = [line for line in tiny_run.metrics(run) if line["kind"] == "train"]
    assert [line["step"] for line in reports] == [*range(1, 13)]
    for line in reports:
        step = line["step"]
        assert line["skipped"] == sum(other <= step for other in named)
        assert (line["loss"] is None) == (step in named)
        if step > 1:
            assert (_artifact(run, step) == _artifact(run, step - 1)) == (step in named)
    assert f"skipped, as {len(named)} until now" in warned


def test_a_run_that_skips_in_parts_is_the_run_in_one(job, skipped):
    run, _ = skipped
    for steps in (3, 6, 12):
        part = {"TRAIN_STEPS": steps, "ARTIFACT_STEPS": [*range(1, steps + 1)]}
        job.train("parts", NONFINITE="skip", **SETTINGS | part)
    assert tiny_run.metrics(job.folder / "parts") == tiny_run.metrics(run)
    for step in range(1, 13):
        assert _artifact(job.folder / "parts", step) == _artifact(run, step)


@pytest.mark.parametrize("log_period", [1, 100])
def test_stopped_at_the_step_itself_with_its_examples(job, skipped, log_period):
    """However seldom is looked; and nothing of that step is kept."""
    named = _named(skipped[1])
    first = min(named)
    name = f"stopped{log_period}"
    settings = SETTINGS | {"LOG_PERIOD": log_period, "CHECKPOINT_PERIOD": 4, "EVAL_PERIOD": 4}
    settings["ARTIFACT_STEPS"] = []
    done = job.run("train", *tiny_run.training(), MODEL_DIR=name, **settings)
    assert done.status == 2 and done.err.splitlines()[-1].startswith(
        f"error: step {first}: the loss is nan"
    )
    assert _named(done.err) == {first: named[first]}
    run = job.folder / name
    assert not (run / "checkpoints").exists() and not (run / "artifact").exists()
    # the same run goes on without such steps
    job.train(name, NONFINITE="skip", **settings)
    artifact = json.loads((run / "artifact" / "artifact.json").read_text())
    kept = (run / "artifact" / "tuned.safetensors").read_bytes()
    assert kept == _artifact(skipped[0], artifact["step"])


def test_a_finite_loss_whose_update_is_no_number_is_not_kept(job):
    done = job.run(
        "train",
        *tiny_run.training(),
        **LOST,
        MODEL_DIR="rate",
    )
    *_, error = done.err.splitlines()
    assert done.status == 2
    assert re.match(r"error: step 1: the loss is \d+\.\d+, but what it makes of the param", error)
    assert not {"artifact", "checkpoints"} & {f.name for f in (job.folder / "rate").iterdir()}


def test_the_best_artifact_stays_where_the_run_is_lost(job):
    job.train("lost", BATCH_SIZE=2, TRAIN_STEPS=4)
    best = (job.folder / "lost" / "artifact" / "tuned.safetensors").read_bytes()
    old = json.loads((job.folder / "lost" / "settings.json").read_text())
    old["optimizer"]["settings"]["learning_rate"]["settings"]["base_learning_rate"] = 1e39
    (job.folder / "lost" / "settings.json").write_text(json.dumps(old))
    done = job.run(
        "train",
        *tiny_run.training(),
        **LOST,
        MODEL_DIR="lost",
    )
    assert done.status == 2 and "error: step 5: " in done.err
    assert (job.folder / "lost" / "artifact" / "tuned.safetensors").read_bytes() == best
    assert max(int(f.name) for f in (job.folder / "lost" / "checkpoints").iterdir()) == 4


def test_several_runs_skip_their_own_steps(job, skipped):
    runs = '{"a": {}, "b": {"RANDOM_SEED": 3}}'
    settings = SETTINGS | {"RUNS": runs, "ARTIFACT_STEPS": [], "TRAIN_STEPS": 4}
    with said.warnings() as lines:
        job.train("both", NONFINITE="skip", **settings)
    warned = "\n".join(lines)
    steps = {name: re.findall(rf"{name}, step (\d+): the loss is nan", warned) for name in "ab"}
    assert [int(step) for step in steps["a"]] == [min(_named(skipped[1]))]
    assert len(steps["b"]) == 1
    for name in "ab":
        reports = [r for r in tiny_run.metrics(job.folder / "both" / name) if "loss" in r]
        assert [r["step"] for r in reports if r["loss"] is None] == [int(steps[name][0])]


def test_another_word_for_it_is_refused(job):
    done = job.run("train", *tiny_run.training(), MODEL_DIR="word", NONFINITE="ignore")
    assert done.status == 2 and "NONFINITE = 'ignore': choose from stop, skip" in done.err
