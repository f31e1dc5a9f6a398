"""Pre-training on a corpus from the command line: gin, killed runs, mixtures, what is refused."""

import json
import pathlib
import shutil
import signal

import numpy as np
import pytest
import tfds_corpus
import tiny_run
from test_train import _assert_same_run

WORDS = (
    "the cat sat on a mat it rains she said that a good film fine song bad play dull long".split()
)
# An objective that kills its process once, in the middle of a run, if told to.
DEADLY = """
import dataclasses, os, signal, time
from prompt_tuning_jax.tasks import objectives

drawn = 0

def draw():
    global drawn
    drawn += 1
    mark = os.environ.get("DEADLY")
    if mark and drawn == 70 and not os.path.exists(mark):
        open(mark, "w").close()
        while not os.path.exists(os.environ["SAVED"]):  # a thread is writing it
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

class Span(objectives.SpanCorruption):
    def __call__(self, *arguments):
        draw()
        return super().__call__(*arguments)

class Prefix(objectives.PrefixLM):
    def __call__(self, *arguments):
        draw()
        return super().__call__(*arguments)
"""
GIN = """
from __gin__ import dynamic_registration
import deadly
from prompt_tuning_jax.tasks import corpora

INITIAL_CHECKPOINT_PATH = "backbone"
VOCABULARY_FILE = None
BATCH_SIZE = 8
TRAIN_STEPS = 12
EVAL_PERIOD = 4
CHECKPOINT_PERIOD = 4
LOG_PERIOD = 1
TASK_FEATURE_LENGTHS = {"inputs": 16, "targets": 16}
TRAIN_FILES = "corpus/*"
VALIDATION_FILES = ["corpus/held_out.txt"]
DOCUMENT = "line"
EVAL_EXAMPLES = 12
DROPOUT_RATE = 0.1
corpora.Texts:
  together = 4
  shuffled = 16
"""
MIXED = """
from __gin__ import dynamic_registration
from prompt_tuning_jax.tasks import corpora
from prompt_tuning_jax.tasks import objectives
from prompt_tuning_jax.tasks import text_files

MIXTURE_OR_TASK_NAME = {
    @span/corpora.Corpus(): 2.0, @prefix/corpora.Corpus(): 1.0, @text_files.Text(): 1.0,
}
span/corpora.Corpus.name = "span"
prefix/corpora.Corpus.name = "prefix"
prefix/corpora.Corpus.objective = @objectives.PrefixLM()
text_files.Text:
  name = "reviews"
  train = "train.jsonl"
  validation = "validation.jsonl"
  label_words = {"0": "good", "1": "bad"}
"""
EVALUATED = """
from __gin__ import dynamic_registration
from prompt_tuning_jax.tasks import corpora
from prompt_tuning_jax.tasks import objectives

MIXTURE_OR_TASK_NAME = @corpora.Corpus()
corpora.Corpus:
  name = "held_out"
  texts = @corpora.Texts()
  objective = @objectives.PrefixLM()
corpora.Texts:
  validation = "corpus/held_out.txt"
  document = "line"
"""
FILES = ("tiny.gin", "methods/full.gin", "runs/pretrain_{}.gin", "own.gin")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    job = tiny_run.Job(tmp_path_factory.mktemp("corpus"))
    (job.folder / "deadly.py").write_text(DEADLY)
    (job.folder / "own.gin").write_text(GIN)
    (job.folder / "mixed.gin").write_text(MIXED)
    (job.folder / "evaluated.gin").write_text(EVALUATED)
    (job.folder / "corpus").mkdir()
    rng = np.random.default_rng(0)
    for name in ("one.txt", "two.txt", "held_out.txt"):
        lines = [" ".join(rng.choice(WORDS, rng.integers(2, 30))) for _ in range(40)]
        (job.folder / "corpus" / name).write_text("\n".join(lines))
    records = [{"text": " ".join(rng.choice(WORDS, 12))} for _ in range(20)]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (job.folder / "corpus" / "three.jsonl").write_text(lines)
    return job


def flags(objective="span_corruption"):
    # the schedule of span corruption divides it by 100 for so few steps
    rate = {"span_corruption": 3.0, "prefix_lm": 0.03}[objective]
    files = [f"--gin_file={name.format(objective)}" for name in FILES]
    return [*files, f"--gin.LEARNING_RATE={rate}"]


def reports(folder, kind):
    return [line for line in tiny_run.metrics(folder) if line["kind"] == kind]


@pytest.mark.parametrize(
    "objective, deadly, kept",
    [("span_corruption", "Span", True), ("prefix_lm", "Prefix", False)],
    ids=["going on", "reading again"],
)
def test_a_killed_run_ends_as_one_that_was_not(job, objective, deadly, kept, monkeypatch, tmp_path):
    own = [*flags(objective), f"--gin.OBJECTIVE=@deadly.{deadly}()"]
    unharmed, killed = f"{objective}_unharmed", f"{objective}_killed"
    job.ok("train", *own, MODEL_DIR=unharmed, ARTIFACT_STEPS=[6, 10])
    monkeypatch.setenv("DEADLY", str(tmp_path / "died"))
    monkeypatch.setenv("SAVED", str(job.folder / killed / "checkpoints" / "3"))
    own += ["--gin.CHECKPOINT_PERIOD=3", "--gin.ARTIFACT_STEPS=[6, 10]"]
    assert job.process("train", *own, MODEL_DIR=killed).status == -signal.SIGKILL
    assert 3 <= tiny_run.metrics(job.folder / killed)[-1]["step"] < 12
    if not kept:
        shutil.rmtree(pathlib.Path(tiny_run._tokens()) / "corpora")
    again = job.process("train", *own, MODEL_DIR=killed)
    assert again.status == 0 and "going on from step" in again.err, again.err
    _assert_same_run(job.folder / killed, job.folder / unharmed)
    for step in ("6", "10"):
        one, other = (job.folder / run / "artifacts" / step for run in (killed, unharmed))
        for name in ("tuned.safetensors", "artifact.json"):
            assert (one / name).read_bytes() == (other / name).read_bytes()


def test_span_corruption_then_lm_adaptation(job):
    job.ok("train", *flags(), MODEL_DIR="span", TRAIN_STEPS=60)
    first, last = (reports(job.folder / "span", "train")[i]["loss"] for i in (0, -1))
    assert last < 0.9 * first
    job.ok("convert", "--artifact=span/artifact", "--output=span_backbone")
    job.ok("train", *flags("prefix_lm"), INITIAL_CHECKPOINT_PATH="span_backbone", MODEL_DIR="lm")
    evaluated = reports(job.folder / "lm", "eval/corpus")
    assert [report["step"] for report in evaluated] == [4, 8, 12]
    # the same rows, evaluated by the other command
    files = ("--gin_file=runs/evaluate.gin", "--gin_file=evaluated.gin")
    lengths = {"inputs": 16, "targets": 16}
    done = job.ok(
        "evaluate", *files, INITIAL_CHECKPOINT_PATH="span_backbone", TASK_FEATURE_LENGTHS=lengths
    )
    held_out = (job.folder / "corpus" / "held_out.txt").read_text().splitlines()
    tokens = sum(len(tiny_run.vocabulary().encode(line)) for line in held_out)
    assert done.result["examples"] == -(-tokens // 15)  # all, where there are few
    assert 0 < done.result["metrics"]["teacher_forced_loss"] < 10


def test_a_mixture_of_two_corpora_and_a_task(job):
    names = ["span", "prefix", "reviews"]
    mixed = [*flags(), "--gin_file=mixed.gin"]
    job.ok("train", *mixed, MODEL_DIR="mixed", EVAL_PERIOD=12)
    facts = json.loads((job.folder / "mixed" / "artifact" / "artifact.json").read_text())
    assert facts["tasks"] == names
    assert set(facts["metrics"]) == {"average", *names}
    again = job.process("train", *mixed, MODEL_DIR="mixed", TRAIN_STEPS=13)
    assert again.status == 0, again.err


def test_a_tensorflow_dataset_in_two_parts(job):
    rng = np.random.default_rng(1)
    made = [" ".join(rng.choice(WORDS, 12)) for _ in range(60)]
    tfds_corpus.prepare(job.folder / "tfds", {"train": made, "validation": made[:9]}, shards=3)
    given = {"TFDS_NAME": "own_corpus/en:1.0.0", "TRAIN_FILES": None, "VALIDATION_FILES": None}
    given |= {"DATA_DIR": "tfds", "ARTIFACT_STEPS": [8]}
    job.ok("train", *flags(), MODEL_DIR="tfds_whole", TRAIN_STEPS=8, **given)
    job.ok(
        "train", *flags(), MODEL_DIR="tfds_parts", TRAIN_STEPS=4, **given | {"ARTIFACT_STEPS": []}
    )
    job.ok("train", *flags(), MODEL_DIR="tfds_parts", TRAIN_STEPS=8, **given)
    _assert_same_run(job.folder / "tfds_parts", job.folder / "tfds_whole")


REFUSED = {
    "a rate that is not known": (
        ["--gin.MIXTURE_OR_TASK_NAME={@corpora.Corpus(): 'proportional'}"],
        ("task corpus: the size of a corpus is not known",),
    ),
    "shots": (["--gin.K_SHOT=4"], ("k_shot 4: task corpus has no labels",)),
    "nothing to evaluate": (
        ["--gin.VALIDATION_FILES=None"],
        ("corpus corpus has no split 'validation', it has train", "EVAL_TASKS=[]"),
    ),
    "no examples": (["--gin.EVAL_EXAMPLES=0"], ("0 windows of corpus/validation",)),
    "no files": (
        ["--gin.TRAIN_FILES=absent/*.txt"],
        ("split 'train': absent/*.txt: no such file",),
    ),
    "nothing": (["--gin.TRAIN_FILES=None", "--gin.VALIDATION_FILES=None"], ("TFDS_NAME",)),
    "short targets": (
        ["--gin.TASK_FEATURE_LENGTHS={'inputs': 64, 'targets': 8}"],
        ("span corruption of 64 tokens of inputs makes",),
    ),
    "too few sentinels": (
        ["--gin.TASK_FEATURE_LENGTHS={'inputs': 256, 'targets': 64}"],
        ("14 spans", "10 sentinels"),
    ),
    "another noise": (
        ["--gin.MODEL_DIR=span", "--gin.objectives.SpanCorruption.noise_density=0.2"],
        ("objective.settings.noise_density: 0.15 -> 0.2",),
    ),
    "another order": (
        ["--gin.MODEL_DIR=span", "--gin.corpora.Texts.shuffled=32"],
        ("shuffled: 16 -> 32",),
    ),
    "a broken line": (["--gin.TRAIN_FILES=broken.jsonl"], ("broken.jsonl:2: no JSON",)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_in_one_line(job, what):
    if "--gin.MODEL_DIR=span" in REFUSED[what][0] and not (job.folder / "span").exists():
        job.ok("train", *flags(), MODEL_DIR="span", TRAIN_STEPS=60)
    (job.folder / "broken.jsonl").write_text('{"text": "the cat"}\n{"text"\n')
    argv, said = REFUSED[what]
    before = sorted(job.folder.iterdir())
    done = job.run("train", *flags(), "--gin.MODEL_DIR=new", *argv)
    assert done.status == 2 and done.err.startswith("error: ") and done.err.count("\n") == 1
    assert all(part in done.err for part in said), done.err
    assert sorted(job.folder.iterdir()) == before


def test_a_changed_corpus_is_refused(job):
    job.ok("train", *flags(), MODEL_DIR="changed", TRAIN_STEPS=2)
    file = job.folder / "corpus" / "one.txt"
    text = file.read_text()
    file.write_text(text.replace("cat", "mat", 1) + " ")
    try:
        done = job.run("train", *flags(), MODEL_DIR="changed", TRAIN_STEPS=4)
    finally:
        file.write_text(text)
    assert done.status == 2 and "examples.corpus/train: '3 shards, sha256" in done.err
    # the same files elsewhere are the same corpus
    shutil.copytree(job.folder / "corpus", job.folder / "moved")
    moved = {"TRAIN_FILES": "moved/*", "VALIDATION_FILES": "moved/held_out.txt"}
    job.ok("train", *flags(), MODEL_DIR="changed", TRAIN_STEPS=4, **moved)
