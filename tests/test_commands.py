"""evaluate, infer, describe and convert on what training left, and a method of a user's own."""

import json
import pathlib

import numpy as np
import pytest
import tiny_run

import prompt_tuning_jax
from prompt_tuning_jax import decoding

TEXTS = [f"review: {text}" for text, _ in tiny_run.VALIDATION]
PART = {"TUNED_LEAVES": "('decoder/logits_dense/kernel',)"}
SLIDE = '''
import dataclasses

import jax
import jax.numpy as jnp

from prompt_tuning_jax.method import Method


@dataclasses.dataclass(frozen=True)
class Slide(Method):
    """Adds a trained vector to the output of every MLP."""

    size: float = 0.1

    def init_layer(self, rng, config, stack):
        return {"by": self.size * jax.random.normal(rng, (config.emb_dim,))}

    def sublayer(self, tuned, site, f, x):
        y = f(x)
        return y + tuned["by"].astype(y.dtype) if site.part == "mlp" else y
'''
SLIDE_GIN = """
from __gin__ import dynamic_registration
from prompt_tuning_jax import train
import slide

train.train.method = @slide.Slide()
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return tiny_run.Job(tmp_path_factory.mktemp("commands"))


@pytest.fixture(scope="module")
def tuned(job) -> pathlib.Path:
    """The MODEL_DIR of model tuning, which learns something."""
    return job.train("tuned", method="full", DROPOUT_RATE=0.0)


def _evaluate(job, *argv: str, **macros):
    files = ["--gin_file=runs/evaluate.gin", "--gin_file=reviews.gin"]
    return job.ok("evaluate", *files, *argv, **macros)


def _predictions(out: str) -> list[str]:
    return [json.loads(line)["prediction"] for line in out.splitlines()]


def _loaded(job, *paths: str):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(job.folder)
        return prompt_tuning_jax.load(*paths)


# ---- evaluate --------------------------------------------------------------------------------


def test_evaluate_agrees_with_training(job, tuned):
    facts = json.loads((tuned / "artifact" / "artifact.json").read_text())
    done = _evaluate(job, "--artifact=tuned/artifact", "--output=out")
    assert done.result == {
        "task": "reviews",
        "split": "validation",
        "examples": 6,
        "metrics": pytest.approx(facts["metrics"]),
    }
    saved = (job.folder / "out" / "reviews.jsonl").read_text()
    best = tuned / "predictions" / str(facts["step"]) / "reviews.jsonl"
    assert saved == best.read_text()
    right = [line["prediction"] == line["targets"] for line in map(json.loads, saved.splitlines())]
    assert done.result["metrics"]["accuracy"] == pytest.approx(100 * np.mean(right))
    assert any(right)


def test_evaluate_by_ranking(job, tuned):
    flags = ["--artifact=tuned/artifact", "--output=ranked", "--split=train"]
    done = _evaluate(job, *flags, DECODER="@decoding.Rank()", EVAL_EXAMPLES=5)
    assert done.result["split"] == "train" and done.result["examples"] == 5
    lines = (job.folder / "ranked" / "reviews.jsonl").read_text().splitlines()
    predicted = [json.loads(line)["prediction"] for line in lines]
    # by hand: the first token's log-probability decides, since every label is one piece and ends
    loaded, vocabulary = _loaded(job, "tuned/artifact"), tiny_run.vocabulary()
    inputs = np.zeros((5, 40), np.int32)
    for row, (text, _) in enumerate(tiny_run.TRAIN[:5]):
        ids = [*vocabulary.encode(f"review: {text}"), 1]
        inputs[row, : len(ids)] = ids
    scores = []
    for label in [vocabulary.encode(word)[0] for word in tiny_run.LABELS]:
        fed = np.tile(np.array([0, label], np.int32), (5, 1))
        logits = tiny_run.logits(loaded, inputs, fed)
        chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        scores.append(chances[:, 0, label] + chances[:, 1, 1])
    best = [tiny_run.LABELS[i] for i in np.argmax(scores, 0)]
    assert predicted == best
    right = [word == tiny_run.LABELS[tiny_run.TRAIN[i][1]] for i, word in enumerate(best)]
    assert done.result["metrics"]["accuracy"] == pytest.approx(100 * np.mean(right))


def test_evaluate_the_plain_backbone(job):
    flags = ["--backbone=backbone", "--split=train"]
    lengths = "{'inputs': 40, 'targets': 4}"
    plain = _evaluate(job, *flags, TASK_FEATURE_LENGTHS=lengths, BATCH_SIZE=8).result["metrics"]
    # model tuning begins there: its first batch holds each training example once
    macros = {"DROPOUT_RATE": 0.0, "EVAL_TASKS": [], "TRAIN_STEPS": 2}
    first, _ = tiny_run.metrics(job.train("part", method="full", **PART, **macros))
    assert plain["teacher_forced_loss"] == pytest.approx(first["loss"], rel=1e-5)
    assert plain["teacher_forced_accuracy"] == pytest.approx(first["accuracy"])


# ---- infer -----------------------------------------------------------------------------------


def test_infer_reads_text_and_json_lines_and_writes_a_file(job, tuned):
    (job.folder / "texts.txt").write_text("\n".join(TEXTS[:3]) + "\n\n" + "\n".join(TEXTS[3:]))
    lines = [json.dumps({"inputs": text, "idx": i}) for i, text in enumerate(TEXTS)]
    (job.folder / "texts.jsonl").write_text("\n".join(lines) + "\n")
    flags = ["--artifact=tuned/artifact", "--gin.BATCH_SIZE=8"]
    plain = job.ok("infer", *flags, "--input=texts.txt").out
    assert [json.loads(line)["inputs"] for line in plain.splitlines()] == TEXTS
    done = job.ok("infer", *flags, "--input=texts.jsonl", "--output=predictions.jsonl")
    assert done.out == ""
    assert (job.folder / "predictions.jsonl").read_text() == plain
    # what evaluation predicted for the same texts
    best = json.loads((tuned / "artifact" / "artifact.json").read_text())["step"]
    saved = (tuned / "predictions" / str(best) / "reviews.jsonl").read_text()
    assert _predictions(plain) == _predictions(saved)
    # and the API of notebooks
    assert _loaded(job, "tuned/artifact").predict(TEXTS, batch_size=8) == _predictions(plain)


def test_infer_reads_standard_input(job, tuned):
    text = "\n".join([TEXTS[0], json.dumps({"inputs": TEXTS[1]})])
    done = job.process("infer", "--artifact=tuned/artifact", BATCH_SIZE=8, text=text)
    assert done.status == 0, done.err
    want = _loaded(job, "tuned/artifact").predict(TEXTS[:2], batch_size=8)
    assert _predictions(done.out) == want


def test_infer_with_other_decoders(job, tuned):
    (job.folder / "texts.txt").write_text("\n".join(TEXTS))
    flags = ["--artifact=tuned/artifact", "--input=texts.txt"]

    def infer(**macros):
        return _predictions(job.ok("infer", *flags, BATCH_SIZE=8, **macros).out)

    hot = {"DECODER": "@decoding.Sample()", "decoding.Sample.temperature": 5.0}
    sampled = infer(**hot, RANDOM_SEED=1)
    assert infer(**hot, RANDOM_SEED=1) == sampled
    assert infer(**hot, RANDOM_SEED=2) != sampled
    decoder = decoding.Sample(temperature=5.0)
    loaded = _loaded(job, "tuned/artifact")
    assert loaded.predict(TEXTS, decoder=decoder, seed=1, batch_size=8) == sampled
    # one beam is greedy decoding
    greedy = infer()
    one = infer(**{"DECODER": "@decoding.Beam()", "decoding.Beam.beams": 1})
    assert one == greedy


def test_infer_of_nothing_writes_an_empty_file(job, tuned):
    (job.folder / "empty.txt").write_text("\n")
    job.ok("infer", "--artifact=tuned/artifact", "--input=empty.txt", "--output=empty.jsonl")
    assert (job.folder / "empty.jsonl").read_text() == ""


# ---- describe --------------------------------------------------------------------------------

# T5 1.1's parameters: the paper's table 4 less one prompt row.
SMALL, BASE, XXL = 76_961_152, 247_577_856, 11_135_332_352
EMBEDDINGS = 32_128 * 512
# 24 + 24 layers of 2 and 3 norms, and the two stacks' last ones, are on each of four devices whole
XXL_NORMS = (24 * 2 + 24 * 3 + 2) * 4096
XXL_ON_FOUR = XXL_NORMS + (XXL - XXL_NORMS) // 4


@pytest.mark.parametrize(
    ("flags", "frozen", "tuned"),
    [
        (["--gin_file=gin_configs/models/t5_1_1_xxl_prompt.gin"], XXL, 409_600),
        (["--gin_file=models/t5_1_1_base_prompt.gin", "--gin.PROMPT_LENGTH=20"], BASE, 20 * 768),
        # query and value of 24 attentions: rank 4, 512 -> 6 heads of 64
        (
            [
                "--gin_file=models/t5_1_1_small.gin",
                "--gin_file=methods/lora.gin",
                "--gin.LORA_RANK=4",
            ],
            SMALL,
            24 * 2 * 4 * (512 + 384),
        ),
        # keys and values of 24 attentions: 5 rows of 6 heads of 64
        (
            [
                "--gin_file=models/t5_1_1_small.gin",
                "--gin_file=methods/prefix.gin",
                "--gin.PREFIX_LENGTH=5",
                "--gin.prefix.Prefix.hidden=0",
            ],
            SMALL,
            24 * 2 * 5 * 384,
        ),
        # the MLP of three kinds of attention: rows, 512 -> 512, 512 -> 8 layers' keys and values
        (
            [
                "--gin_file=models/t5_1_1_small.gin",
                "--gin_file=methods/prefix.gin",
                "--gin.PREFIX_LENGTH=5",
            ],
            SMALL,
            3 * (5 * 512 + (512 + 1) * 512 + (512 + 1) * 2 * 8 * 384),
        ),
        (["--gin_file=models/t5_1_1_small.gin", "--gin_file=methods/full.gin"], 0, SMALL),
        (
            [
                "--gin_file=models/t5_1_1_small.gin",
                "--gin_file=methods/full.gin",
                "--gin.TUNED_LEAVES=('token_embedder/.*', 'decoder/logits_dense/.*')",
            ],
            SMALL - 2 * EMBEDDINGS,
            2 * EMBEDDINGS,
        ),
    ],
)
def test_describe_counts(job, flags, frozen, tuned):
    facts = json.loads(job.ok("describe", *flags).out)
    assert (facts["frozen_parameters"], facts["tuned_parameters"]) == (frozen, tuned)
    assert facts["tuned_fraction"] == pytest.approx(tuned / (frozen + tuned))


@pytest.mark.parametrize(
    ("flags", "held"),
    [
        ([], 4 * XXL),
        (["--gin.FROZEN_DTYPE='bfloat16'"], 2 * XXL),
        # logits and embedding are cut, and of each layer all but its norms
        (["--gin.MESH={'data': 2, 'model': 4}"], XXL_ON_FOUR * 4),
    ],
)
def test_describe_counts_the_bytes_on_a_device(job, flags, held):
    flags = [
        "--gin_file=models/t5_1_1_xxl_prompt.gin",
        "--gin_file=runs/prompt_finetune.gin",
        *flags,
    ]
    facts = json.loads(job.ok("describe", *flags).out)
    assert facts["frozen_bytes_per_device"] == held


@pytest.mark.parametrize(
    ("flags", "slots"),
    [
        # P_e [100, 4096] is not factored (100 < 128): a second moment for each, and two stand-ins
        # of one number for rows and columns, and the step
        (["--gin_file=models/t5_1_1_xxl_prompt.gin"], 409_600 + 3),
        # [150, 4096] is: 150 row means, 4096 column means, one stand-in, and the step
        (
            ["--gin_file=models/t5_1_1_xxl_prompt.gin", "--gin.PROMPT_LENGTH=150"],
            150 + 4096 + 2,
        ),
    ],
)
def test_describe_counts_the_bytes_of_optimizer_slots(job, flags, slots):
    facts = json.loads(job.ok("describe", *flags).out)
    # beside them: the schedule's step, the run's, the skipped ones, the best one's three values,
    # and the checksum's two numbers
    assert facts["checkpoint_bytes"] == 4 * (facts["tuned_parameters"] + slots + 8)
    assert facts["artifact_bytes"] == 4 * facts["tuned_parameters"]


# ---- convert ---------------------------------------------------------------------------------


def test_a_tuned_model_becomes_a_backbone(job, tuned):
    job.ok("convert", "--artifact=tuned/artifact", "--output=converted")
    predicted = _loaded(job, "tuned/artifact").predict(TEXTS, batch_size=8)
    lengths = {"input_length": 40, "output_length": 4, "batch_size": 8}
    plain = _loaded(job, None, "converted").predict(TEXTS, **lengths)
    assert plain == predicted
    original = _loaded(job, None, "backbone").predict(TEXTS, **lengths)
    assert original != predicted
    # it is a backbone like any other: a prompt can be trained on it, but not its parent's used
    job.train("on_converted", INITIAL_CHECKPOINT_PATH="converted", TRAIN_STEPS=1, EVAL_TASKS=[])
    flags = ["--gin_file=runs/evaluate.gin", "--gin_file=reviews.gin"]
    done = job.run("evaluate", *flags, "--artifact=on_converted/artifact", "--backbone=backbone")
    assert done.status == 2 and "fingerprint" in done.err


def test_a_part_of_the_model_and_its_backbone_become_a_backbone(job):
    macros = {"DROPOUT_RATE": 0.0, "EVAL_TASKS": [], "TRAIN_STEPS": 2}
    job.train("part", method="full", **PART, **macros)
    (name,) = tiny_run.tensors(job.folder / "part" / "artifact")
    assert name == "theta/decoder/logits_dense/kernel"
    job.ok("convert", "--artifact=part/artifact", "--output=from_part")
    old = tiny_run.load_file(job.folder / "backbone" / "params.safetensors")
    new = tiny_run.load_file(job.folder / "from_part" / "params.safetensors")
    changed = [name for name in old if (old[name] != new[name]).any()]
    assert old.keys() == new.keys() and changed == ["decoder/logits_dense/kernel"]


def test_convert_leaves_other_folders_alone(job, tuned):
    (job.folder / "mine").mkdir()
    (job.folder / "mine" / "thesis.txt").write_text("years of work")
    done = job.run("convert", "--artifact=tuned/artifact", "--output=mine")
    assert done.status == 2 and "mine is there already" in done.err
    assert [file.name for file in (job.folder / "mine").iterdir()] == ["thesis.txt"]


# ---- a method of a user's own ----------------------------------------------------------------


def test_a_method_in_a_file_of_its_own(job):
    (job.folder / "slide.py").write_text(SLIDE)
    (job.folder / "slide.gin").write_text(SLIDE_GIN)
    files = [f"--gin_file={name}" for name in ("tiny.gin", "slide.gin", "reviews.gin")]
    trained = job.process("train", *files, MODEL_DIR="slid", EVAL_EXAMPLES=2, DROPOUT_RATE=0.0)
    assert trained.status == 0, trained.err
    reports = [line for line in tiny_run.metrics(job.folder / "slid") if line["kind"] == "train"]
    assert reports[-1]["loss"] < reports[0]["loss"]
    shapes = {k: v.shape for k, v in tiny_run.tensors(job.folder / "slid" / "artifact").items()}
    assert shapes == {"encoder/by": (2, 32), "decoder/by": (2, 32)}
    (job.folder / "import.gin").write_text("import slide\n")
    flags = ["--gin_file=runs/evaluate.gin", "--gin_file=reviews.gin", "--artifact=slid/artifact"]
    refused = job.process("evaluate", *flags)
    assert (refused.status, refused.out) == (2, "")
    (line,) = refused.err.splitlines()
    assert line.startswith("error: slid/artifact/artifact.json: slide.Slide is not ours")
    done = job.process("evaluate", *flags, "--gin_file=import.gin", EVAL_EXAMPLES=2, BATCH_SIZE=8)
    assert done.status == 0, done.err
    facts = json.loads((job.folder / "slid" / "artifact" / "artifact.json").read_text())
    assert done.result["metrics"] == pytest.approx(facts["metrics"])
