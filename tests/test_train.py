"""The training job from end to end: what it learns, leaves on disk, and goes on from."""

import hashlib
import json
import os
import pathlib
import signal
import struct

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny_run
from tensorboardX.proto import event_pb2

from prompt_tuning_jax import losses, optimizers, predictor, t5, training_step
from prompt_tuning_jax.methods import full

OWN_TASKS = """
import dataclasses, os, signal, time
from prompt_tuning_jax.tasks.text_files import Text

reviews = Text(
    "reviews", train="train.jsonl", validation="validation.jsonl", inputs="review: {text}",
    label_words={"0": "good", "1": "bad"},
)

def a_third(targets, predictions):
    return {"a_third": 100 / 3}

def deadly(targets, predictions):
    mark = os.environ.get("DEADLY")
    if mark and targets != predictions:
        if os.path.exists(mark):  # the second evaluation
            while not os.path.exists("killed/checkpoints/6"):  # a thread is writing it
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        open(mark, "w").close()
    return {}

steady = dataclasses.replace(reviews, name="steady", metrics=(a_third,), selection=("a_third",))
worst = dataclasses.replace(reviews, name="worst", selection=("teacher_forced_loss",))
mortal = dataclasses.replace(reviews, name="mortal", metrics=(*reviews.metrics, deadly))
"""
TWO_TASKS = """
from __gin__ import dynamic_registration
from prompt_tuning_jax.tasks import text_files

MIXTURE_OR_TASK_NAME = {@films/text_files.Text(): 1.0, @plays/text_files.Text(): 3.0}
EVAL_TASKS = [@plays/text_files.Text(), @films/text_files.Text()]

text_files.Text.validation = "validation.jsonl"
films/text_files.Text:
  name = "films"
  train = "train.jsonl"
  label_words = {"0": "good", "1": "bad"}
plays/text_files.Text:
  name = "plays"
  train = "plays.jsonl"
  label_words = {"0": "bad", "1": "good"}
  metrics = ["exact_match"]
"""
# What a checkpoint holds beside `tuned` and the optimizer, of four bytes each: the step, the best
# evaluation's step, metric and age, how many steps were skipped, and the two sums of its checksum.
BESIDE = 28


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    job = tiny_run.Job(tmp_path_factory.mktemp("train"))
    (job.folder / "own_tasks.py").write_text(OWN_TASKS)
    (job.folder / "two_tasks.gin").write_text(TWO_TASKS)
    job.jsonl("plays.jsonl", tiny_run.VALIDATION)
    backbone = _content(job.folder / "backbone")
    yield job
    assert _content(job.folder / "backbone") == backbone  # no run ever wrote into it


@pytest.fixture(scope="module")
def finished(job) -> pathlib.Path:
    """The MODEL_DIR of a run of 12 steps that nothing interrupted, with all its checkpoints."""
    return job.train("finished", KEEP=100)


@pytest.fixture(scope="module", params=sorted(tiny_run.METHODS))
def method(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def still(job, method) -> pathlib.Path:
    """The MODEL_DIR of a run without dropout and evaluation."""
    return job.train(f"still_{method}", method=method, DROPOUT_RATE=0.0, EVAL_TASKS=[])


def _content(folder: pathlib.Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _reports(model_dir: pathlib.Path, kind: str) -> list[dict]:
    return [line for line in tiny_run.metrics(model_dir) if line["kind"] == kind]


def _state(model_dir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """A checkpoint's arrays by path, read by Orbax alone."""
    folder = (model_dir / "checkpoints" / str(step) / "default").absolute()
    tree = ocp.StandardCheckpointer().restore(folder)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _steps(model_dir: pathlib.Path) -> list[int]:
    return sorted(int(folder.name) for folder in (model_dir / "checkpoints").iterdir())


def _facts(model_dir: pathlib.Path) -> dict:
    return json.loads((model_dir / "artifact" / "artifact.json").read_text())


def _same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Bit for bit."""
    return {k: (v.dtype, v.shape, v.tobytes()) for k, v in one.items()} == {
        k: (v.dtype, v.shape, v.tobytes()) for k, v in other.items()
    }


def _assert_same_run(one: pathlib.Path, other: pathlib.Path) -> None:
    assert tiny_run.metrics(one) == tiny_run.metrics(other)
    assert _facts(one) == _facts(other)
    assert _content(one / "artifact") == _content(other / "artifact")
    assert _content(one / "predictions") == _content(other / "predictions")
    last = max(_steps(one))
    assert last == max(_steps(other))
    assert _same(_state(one, last), _state(other, last))


# ---- every method ----------------------------------------------------------------------------


def test_the_loss_falls(still):
    reports = tiny_run.metrics(still)
    assert {report["kind"] for report in reports} == {"train"}
    # every batch is the whole training set
    assert reports[-1]["loss"] < 0.95 * reports[0]["loss"]


def test_only_the_tuned_part_is_on_disk(job, method, still):
    cost = job.ok("describe", "--gin_file=tiny.gin", *tiny_run.training(method)[1:]).out
    cost = json.loads(cost)
    state = _state(still, 12)
    tuned = {k.removeprefix("tuned/"): v for k, v in state.items() if k.startswith("tuned/")}
    slots = [v for k, v in state.items() if k.startswith("opt_state/")]
    rest = {k for k in state if not k.startswith(("tuned/", "opt_state/"))}
    assert rest == {"step", "best/step", "best/metric", "best/since", "skipped", "checksum"}
    assert sum(v.size for v in tuned.values()) == cost["tuned_parameters"]
    held = sum(v.nbytes for v in [*tuned.values(), *slots])
    assert cost["checkpoint_bytes"] - held == BESIDE
    artifact = tiny_run.tensors(still / "artifact")
    assert sum(v.nbytes for v in artifact.values()) == cost["artifact_bytes"]
    # d_model 32, 2 heads of 8, 2 layers
    want = {
        "prompt": {"shared/prompt": (1, 4, 32)},
        "prefix": {
            f"{site}/{part}": (2, 3, 2, 8)
            for site in ("encoder/self", "decoder/self", "decoder/cross")
            for part in ("key", "value")
        },
        "lora": {
            f"{site}/{name}/{half}": shape
            for site in ("encoder/self", "decoder/self", "decoder/cross")
            for name in ("query", "value")
            for half, shape in (("a", (2, 32, 2)), ("b", (2, 2, 16)))
        },
        "full": {f"theta/{k}": v.shape for k, v in _theta().items()},
    }[method]
    assert {name: value.shape for name, value in artifact.items()} == want


def test_an_artifact_starts_another_run(job, method, still):
    artifact = still / "artifact"
    assert _facts(still)["step"] == 12  # the last, where nothing chooses a better one
    next_run = job.train(
        f"next_{method}",
        method=method,
        INITIAL_ARTIFACT=artifact,
        DROPOUT_RATE=0.0,
        EVAL_TASKS=[],
        TRAIN_STEPS=1,
        RANDOM_SEED=1,
    )
    # a step's loss is taken before its update
    (first,) = _reports(next_run, "train")
    loss, accuracy = _teacher_forced(job, artifact, tiny_run.TRAIN)
    assert first["loss"] == pytest.approx(loss, rel=1e-4)
    assert first["accuracy"] == pytest.approx(accuracy)
    assert first["loss"] < 0.95 * _reports(still, "train")[0]["loss"]
    there, here = tiny_run.tensors(artifact), tiny_run.tensors(next_run / "artifact")
    assert there.keys() == here.keys() and not _same(there, here)


def _teacher_forced(job, artifact: pathlib.Path, rows) -> tuple[float, float]:
    """Cross-entropy and accuracy (0-100) of the targets' tokens, from the logits by numpy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(job.folder)
        loaded = predictor.load(str(artifact))
    vocabulary = tiny_run.vocabulary()
    inputs, targets = np.zeros((len(rows), 40), np.int32), np.zeros((len(rows), 2), np.int32)
    for row, (text, label) in enumerate(rows):
        ids = [*vocabulary.encode(f"review: {text}"), 1]
        inputs[row, : len(ids)] = ids
        targets[row] = [*vocabulary.encode(tiny_run.LABELS[label]), 1]
    shifted = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    logits = tiny_run.logits(loaded, inputs, shifted)
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    loss = -np.log(np.take_along_axis(chances, targets[..., None], -1)).mean()
    return loss, 100 * (logits.argmax(-1) == targets).mean()


def _theta() -> dict[str, jax.Array]:
    shapes = t5.abstract_params(tiny_run.CONFIG)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }


# ---- the step --------------------------------------------------------------------------------


def test_frozen_arrays_stay_as_they_are():
    method = full.Full(("decoder/layers/mlp/.*", "token_embedder/.*"))
    config = tiny_run.CONFIG
    theta = jax.tree.map(jnp.asarray, tiny_run.random_theta())
    frozen, taken = method.split(theta)
    tuned = {"shared": {}, "encoder": {}, "decoder": {}, "theta": taken}
    optimizer = optimizers.Adafactor()
    tx = optimizer.build(method.axes(config, tuned))
    state = {"tuned": tuned, "opt_state": tx.init(tuned), "step": 0}
    before, moved = (jax.tree.map(np.array, tree) for tree in (frozen, tuned))
    step = jax.jit(
        lambda *args: training_step.update(
            *args,
            model=t5.T5(config, method),
            method=method,
            tx=tx,
            loss=losses.Loss(),
            microbatches=1,
        ),
        donate_argnums=0,
    )
    ids = np.random.default_rng(0).integers(3, 100, (2, 4, 8), np.int32)
    batch = {
        "encoder_input_tokens": ids[0],
        "decoder_target_tokens": ids[1],
        "decoder_input_tokens": np.pad(ids[1][:, :-1], ((0, 0), (1, 0))),
        "decoder_loss_weights": np.ones((4, 8), np.int32),
    }
    with tiny_run.quickly():
        for seed in range(3):
            state, _ = step(state, frozen, batch, jax.random.key(seed))
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(frozen), strict=True):
        assert old.tobytes() == np.asarray(new).tobytes()
    for old, new in zip(jax.tree.leaves(moved), jax.tree.leaves(state["tuned"]), strict=True):
        assert (old != np.asarray(new)).any()


def test_microbatches_add_up_to_the_batch(job):
    # by plain gradients: Adafactor's division by their size would blow rounding up
    sgd = (
        "--gin.train.train.optimizer=@optimizers.Optax()",
        "--gin.optimizers.Optax.rule=sgd",
        "--gin.optimizers.Optax.learning_rate=@optimizers.LearningRate()",
    )
    flags = {"DROPOUT_RATE": 0.0, "EVAL_TASKS": [], "LEARNING_RATE": 3.0}
    whole = job.train("whole", *sgd, **flags)
    parts = job.train("parts", *sgd, **flags, NUM_MICROBATCHES=4)
    for one, other in zip(tiny_run.metrics(whole), tiny_run.metrics(parts), strict=True):
        assert one.pop("kind") == other.pop("kind")
        assert one == pytest.approx(other, rel=1e-4, abs=1e-4)
    np.testing.assert_allclose(
        _state(whole, 12)["tuned/shared/prompt"],
        _state(parts, 12)["tuned/shared/prompt"],
        rtol=1e-5,
        atol=1e-5,
    )
    first, last = tiny_run.metrics(whole)[0], tiny_run.metrics(whole)[-1]
    assert last["loss"] < 0.9 * first["loss"]


def test_teacher_forced_loss_by_hand(job, finished):
    loss, accuracy = _teacher_forced(job, finished / "artifact", tiny_run.VALIDATION)
    metrics = _facts(finished)["metrics"]
    assert metrics["teacher_forced_loss"] == pytest.approx(loss, rel=1e-4)
    assert metrics["teacher_forced_accuracy"] == pytest.approx(accuracy)


# ---- what a run leaves -----------------------------------------------------------------------


def test_reports(finished):
    trained = _reports(finished, "train")
    assert [report["step"] for report in trained] == [*range(1, 13)]
    for report in trained:
        assert report["target_tokens"] == 16  # 8 labels of one piece, and their ends
        assert report["objective"] == pytest.approx(report["loss"])
        assert 0 <= report["accuracy"] <= 100 and report["gradient_norm"] > 0
    evaluated = _reports(finished, "eval/reviews")
    assert [report["step"] for report in evaluated] == [4, 8, 12]
    assert len(tiny_run.metrics(finished)) == 15
    # a later step is better only where its metric is higher
    best = max(evaluated, key=lambda report: report["accuracy"])
    facts = _facts(finished)
    assert facts["step"] == best["step"]
    assert facts["metrics"] == {k: v for k, v in best.items() if k not in ("kind", "step")}


def test_tensorboard_files_hold_the_reports(finished):
    (file,) = (finished / "tensorboard").iterdir()
    content, there = file.read_bytes(), {}
    while content:
        # TFRecord: length, its checksum, the event, its checksum
        (length,) = struct.unpack("<Q", content[:8])
        event = event_pb2.Event.FromString(content[12 : 12 + length])
        there |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
        content = content[16 + length :]
    want = {
        (f"{report['kind']}/{name}", report["step"]): value
        for report in tiny_run.metrics(finished)
        for name, value in report.items()
        if name not in ("kind", "step")
    }
    assert there == pytest.approx(want)


def test_predictions_have_inputs_and_targets(finished):
    assert sorted(os.listdir(finished / "predictions")) == ["12", "4", "8"]
    text = (finished / "predictions" / "12" / "reviews.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["inputs"], line["targets"]) for line in lines] == [
        (f"review: {text}", tiny_run.LABELS[label]) for text, label in tiny_run.VALIDATION
    ]
    right = sum(line["prediction"] == line["targets"] for line in lines)
    last = _reports(finished, "eval/reviews")[-1]
    assert last["accuracy"] == pytest.approx(100 * right / 6)


def test_k_shot_takes_so_many_examples_of_each_label(job, finished):
    # there are four of each
    assert tiny_run.metrics(job.train("four_shot", K_SHOT=4)) == tiny_run.metrics(finished)
    one = job.train("one_shot", K_SHOT=1)
    assert _reports(one, "train")[0]["loss"] != _reports(finished, "train")[0]["loss"]


def test_a_mixture_and_several_evaluation_tasks(job):
    two = [f for f in tiny_run.training() if f != "--gin_file=reviews.gin"]
    two.append("--gin_file=two_tasks.gin")
    job.ok("train", *two, MODEL_DIR="two")
    run = job.folder / "two"
    evaluated = [(line["kind"], line["step"]) for line in tiny_run.metrics(run)]
    evaluated = [pair for pair in evaluated if pair[0] != "train"]
    assert evaluated == [(f"eval/{t}", s) for s in (4, 8, 12) for t in ("plays", "films")]
    assert sorted(os.listdir(run / "predictions" / "12")) == ["films.jsonl", "plays.jsonl"]
    assert "exact_match" in _facts(run)["metrics"]  # the first one's chose the step
    assert _facts(run)["tasks"] == ["films", "plays"]
    # an identity without addresses: another process knows the run again
    again = job.process("train", *two, MODEL_DIR="two", TRAIN_STEPS=13)
    assert again.status == 0, again.err
    assert _reports(run, "train")[-1]["step"] == 13


# ---- the best step ---------------------------------------------------------------------------


def _own_task(job, name: str, **macros) -> pathlib.Path:
    own = [f for f in tiny_run.training() if f != "--gin_file=reviews.gin"]
    macros |= {"MIXTURE_OR_TASK_MODULE": "own_tasks", "MIXTURE_OR_TASK_NAME": name}
    job.ok("train", *own, MODEL_DIR=name, **macros)
    return job.folder / name


def test_the_artifact_is_the_best_steps_not_the_last(job):
    run = _own_task(job, "worst", KEEP=100)
    losses = {r["step"]: r["teacher_forced_loss"] for r in _reports(run, "eval/worst")}
    assert losses[4] == max(losses.values())  # what this task selects by, and it falls
    assert _facts(run)["step"] == 4
    artifact = tiny_run.tensors(run / "artifact")
    assert _same(artifact, {"shared/prompt": _state(run, 4)["tuned/shared/prompt"]})
    assert not _same(artifact, {"shared/prompt": _state(run, 12)["tuned/shared/prompt"]})
    assert _state(run, 12)["best/step"] == 4
    assert _state(run, 12)["best/metric"] == np.float32(losses[4])


def test_early_stopping_and_keep(job):
    run = _own_task(job, "steady", TRAIN_STEPS=40, EARLY_STOPPING=2, CHECKPOINT_PERIOD=3, KEEP=2)
    # the metric never changes, so the first evaluation stays the best one
    assert _facts(run)["step"] == 4
    assert [r["step"] for r in _reports(run, "eval/steady")] == [4, 8, 12]
    assert _reports(run, "train")[-1]["step"] == 12
    assert _steps(run) == [9, 12]
    before = tiny_run.metrics(run), _content(run / "artifact")
    _own_task(job, "steady", TRAIN_STEPS=50, EARLY_STOPPING=2)
    assert (tiny_run.metrics(run), _content(run / "artifact")) == before
    _own_task(job, "steady", TRAIN_STEPS=50, EARLY_STOPPING=3)
    assert _reports(run, "train")[-1]["step"] == 16


# ---- going on --------------------------------------------------------------------------------


def test_a_run_in_two_parts_is_the_run_in_one(job, finished):
    run = job.train("halves", TRAIN_STEPS=8, KEEP=1, CHECKPOINT_PERIOD=8)
    assert max(_steps(run)) == 8
    # steps, periods, the mesh and logging may change
    job.train("halves", KEEP=2, CHECKPOINT_PERIOD=5, MESH="{'data': 1}", EARLY_STOPPING=9)
    _assert_same_run(run, finished)
    assert _steps(run) == [10, 12]


def test_a_killed_run_goes_on_to_the_same_end(job, monkeypatch):
    flags = [f for f in tiny_run.training() if f != "--gin_file=reviews.gin"]
    flags += ["--gin.MIXTURE_OR_TASK_NAME=mortal", "--gin.MIXTURE_OR_TASK_MODULE=own_tasks"]
    flags += ["--gin.CHECKPOINT_PERIOD=3"]
    job.ok("train", *flags, MODEL_DIR="unharmed")
    killed, mark = job.folder / "killed", job.folder / "evaluated_once"
    monkeypatch.setenv("DEADLY", str(mark))
    mark.unlink(missing_ok=True)
    assert job.process("train", *flags, MODEL_DIR="killed").status == -signal.SIGKILL
    # it died in the second evaluation, after two steps that no checkpoint has
    assert tiny_run.metrics(killed)[-1]["step"] == 8 and max(_steps(killed)) == 6
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "eval/mortal", "st')  # as a crash may leave it
    monkeypatch.delenv("DEADLY")
    # the second process has warm caches, and then needs no TensorFlow
    argv = [*flags, "--gin.MODEL_DIR=killed"]
    evaluate = ["--gin_file=runs/evaluate.gin", "--gin_file=reviews.gin"]
    evaluate += ["--artifact=killed/artifact", "--gin.BATCH_SIZE=8"]
    again = job.python(
        "-c",
        "import sys\n"
        "from prompt_tuning_jax.launch import main\n"
        f"assert main('train', {argv}) == 0\n"
        f"assert main('evaluate', {evaluate}) == 0\n"
        "assert main('infer', ['--artifact=killed/artifact', '--input=tiny.gin']) == 0\n"
        "print(sorted({'tensorflow', 'seqio', 'tensorflow_datasets'} & set(sys.modules)))\n",
    )
    assert again.returncode == 0, again.stderr
    assert "going on from step 6" in again.stderr
    assert again.stdout.splitlines()[-1] == "[]"
    _assert_same_run(killed, job.folder / "unharmed")
