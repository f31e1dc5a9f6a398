"""convert: T5X's, Hugging Face's and our own folders into one another; training and evaluation on
each of them are the same."""

import json
import shutil

import numpy as np
import pytest
import t5x_files
import tiny_run

from prompt_tuning_jax import backbones

HUGGINGFACE = "--format=huggingface"
LARGE = ("--vocabulary=words.model", "--gin.EXTRA_IDS=5000")
EVALUATE = ("--gin_file=runs/evaluate.gin", "--gin_file=reviews.gin")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job with its backbone in T5X's format too (without a vocabulary, as T5X's are)."""
    job = tiny_run.Job(tmp_path_factory.mktemp("convert"))
    flat = t5x_files.unstacked(tiny_run.random_theta())
    t5x_files.write(job.folder / "t5x" / "checkpoint_1100000", flat)
    facts = json.loads((job.folder / "backbone" / "backbone.json").read_text())["vocabulary"]
    shutil.copy(job.folder / "backbone" / facts["file"], job.folder / "words.model")
    job.words = ("--vocabulary=words.model", f"--gin.EXTRA_IDS={facts['extra_ids']}")
    return job


def fingerprint(done):
    """What convert says it wrote: FOLDER: FINGERPRINT."""
    return done.err.splitlines()[-1].split(": ")[1]


def test_every_format_into_every_other(job):
    t5x = ("--backbone=t5x/checkpoint_1100000", *job.words)
    marks = [
        fingerprint(job.ok("convert", *t5x, "--output=own")),
        json.loads((job.folder / "backbone" / "backbone.json").read_text())["fingerprint"],
    ]
    job.ok("convert", "--backbone=own", HUGGINGFACE, "--output=theirs")
    marks.append(fingerprint(job.ok("convert", "--backbone=theirs", "--output=back")))
    job.ok("convert", *t5x, HUGGINGFACE, "--output=theirs_half", "--dtype=bfloat16")
    marks.append(fingerprint(job.ok("convert", "--backbone=theirs_half", "--output=half")))
    assert len(set(marks)) == 1
    one, other = (backbones.find(str(job.folder / name)).leaves for name in ("own", "back"))
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name].whole(), other[name].whole()) for name in one)


def test_metrics_are_those_of_any_format(job):
    """The random model's loss on the reviews; its sizes come from the checkpoint itself."""
    job.ok("convert", "--backbone=backbone", HUGGINGFACE, "--output=other")
    lengths = {"TASK_FEATURE_LENGTHS": {"inputs": 40, "targets": 4}, "BATCH_SIZE": 8}
    results = [
        job.ok("evaluate", *EVALUATE, *where, **lengths).result
        for where in (
            ("--backbone=backbone",),
            ("--backbone=other",),
            ("--backbone=t5x/checkpoint_1100000", *job.words),
        )
    ]
    assert results[0]["metrics"]["teacher_forced_loss"] > 0
    assert results[0] == results[1] == results[2]


def test_a_prompt_trained_on_one_format_belongs_to_all(job):
    job.ok("convert", "--backbone=backbone", HUGGINGFACE, "--output=hf")
    files = ("models/checkpoint_prompt.gin", "runs/prompt_finetune.gin", "reviews.gin")
    macros = {
        "INITIAL_CHECKPOINT_PATH": "hf",
        "MODEL_DIR": "on_hf",
        "PROMPT_LENGTH": 4,
        "TRAIN_STEPS": 2,
        "BATCH_SIZE": 8,
        "TASK_FEATURE_LENGTHS": {"inputs": 40, "targets": 4},
        "FROZEN_DTYPE": "bfloat16",
    }
    job.ok("train", *(f"--gin_file={file}" for file in files), **macros)
    flags = ("--artifact=on_hf/artifact", *EVALUATE)
    own = job.ok("evaluate", *flags, BATCH_SIZE=8).result
    assert own == job.ok("evaluate", *flags, "--backbone=backbone", BATCH_SIZE=8).result
    other = job.ok("evaluate", *flags, "--backbone=t5x/checkpoint_1100000", *job.words)
    assert other.result["metrics"] == pytest.approx(own["metrics"])
    # held in bfloat16 it is nearly the same model
    half = job.ok("evaluate", *flags, BATCH_SIZE=8, FROZEN_DTYPE="bfloat16").result["metrics"]
    assert half["teacher_forced_loss"] != own["metrics"]["teacher_forced_loss"]
    loss = own["metrics"]["teacher_forced_loss"]
    assert half["teacher_forced_loss"] == pytest.approx(loss, rel=0.02)


def test_int8_ahead_of_time_is_int8_on_read(job):
    mark = fingerprint(job.ok("convert", "--backbone=backbone", "--dtype=int8", "--output=small"))
    assert mark == backbones.find(str(job.folder / "backbone")).fingerprint
    sizes = [(job.folder / f / "params.safetensors").stat().st_size for f in ("backbone", "small")]
    assert sizes[1] < 0.4 * sizes[0]  # of so small a model, names and table of contents included
    files = ("models/checkpoint.gin", "methods/full.gin", "runs/prompt_finetune.gin", "reviews.gin")
    lengths = {"TASK_FEATURE_LENGTHS": {"inputs": 40, "targets": 4}, "BATCH_SIZE": 8}
    macros = {
        "MODEL_DIR": "over_int8",
        "INITIAL_CHECKPOINT_PATH": "backbone",
        "FROZEN_DTYPE": "int8",
        "TUNED_LEAVES": ["decoder/logits_dense/kernel"],
        "TRAIN_STEPS": 2,
        "DROPOUT_RATE": 0.0,
    }
    job.ok("train", *(f"--gin_file={file}" for file in files), **macros, **lengths)
    own = json.loads((job.folder / "over_int8" / "artifact" / "artifact.json").read_text())
    flags = (*EVALUATE, "--artifact=over_int8/artifact")
    results = [
        job.ok("evaluate", *flags, where, BATCH_SIZE=8, FROZEN_DTYPE="int8").result["metrics"]
        for where in ("--backbone=backbone", "--backbone=small")
    ]
    assert results[0] == results[1] == pytest.approx(own["metrics"])
    # the whole of a tuned model too: its parts that were held in int8 are the same again
    job.ok("convert", "--artifact=over_int8/artifact", "--dtype=int8", "--output=tuned")
    one, other = (backbones.find(str(job.folder / f)).leaves for f in ("small", "tuned"))
    changed = [n for n in one if not np.array_equal(one[n].whole(), other[n].whole())]
    assert changed == ["decoder/logits_dense/kernel"]
    for given in (
        ("--backbone=small",),
        ("--artifact=over_int8/artifact", "--backbone=small"),
    ):
        done = job.run("convert", *given, "--output=nothing")
        assert done.status == 2 and done.err.count("\n") == 1
        assert "small: it is int8, from which its values do not come back" in done.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "give a backbone (--backbone) or an artifact of model tuning (--artifact)"),
        (("--backbone=t5x/checkpoint_1100000",), "has no vocabulary beside it: give VOCAB"),
        (("--backbone=t5x",), "did you mean t5x/checkpoint_1100000?"),
        (("--backbone=backbone", *LARGE), "ids with its sentinels, and the model has"),
        (("--backbone=backbone", "--format=torch"), "FORMAT = 'torch': choose from backbone, hug"),
        (
            ("--backbone=backbone", "--dtype=int4"),
            "DTYPE = 'int4': choose from float32, bfloat16, ",
        ),
        (("--backbone=backbone", HUGGINGFACE, "--dtype=int8"), "'int8': choose from float32, bfl"),
        (("--backbone=backbone", HUGGINGFACE, "--output=t5x"), "t5x is there already"),
    ],
)
def test_errors(job, flags, message):
    output = () if "--output=t5x" in flags else ("--output=nothing",)
    done = job.run("convert", *flags, *output)
    assert done.status == 2 and message in done.err and done.err.count("\n") == 1
    assert not (job.folder / "nothing").exists()
    assert [file.name for file in (job.folder / "t5x").iterdir()] == ["checkpoint_1100000"]
