"""Every kind of bad input: one line that names it, exit status 2, and nothing changed on disk."""

import contextlib
import hashlib
import json
import pathlib
import resource
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import tiny_run
from safetensors.numpy import save

from prompt_tuning_jax import backbones, t5

AGAIN = tuple(tiny_run.training())  # MODEL_DIR=run, which is there
NEW = (*AGAIN, "--gin.MODEL_DIR=new")
EVALUATE = ("--gin_file=runs/evaluate.gin", "--gin_file=reviews.gin", "--artifact=run/artifact")
FREE_TEXT = ("--gin.text_files.Text.label_words=None",)
UNSCORED_TASKS = """
from prompt_tuning_jax.tasks.text_files import Text
unscored = Text("unscored", train="train.jsonl", validation="validation.jsonl", metrics=[])
"""


@dataclass
class Case:
    """A command, what is wrong with it or with the folder, and parts of what it must say."""

    id: str
    flags: tuple[str, ...]
    said: tuple[str, ...]
    prepare: Callable[[tiny_run.Job], None] = lambda job: None
    command: str = "train"
    base: tuple[str, ...] = NEW


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


# ---- how the folder is spoilt ------------------------------------------------------------------


def _write(name: str, text: str | bytes) -> Callable:
    def prepare(job):
        (job.folder / name).parent.mkdir(exist_ok=True)
        (job.folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return prepare


def _spoil(change: Callable, sign: bool = True) -> Callable:
    """Changes the artifact's tensors, and its checksum with them if `sign`."""

    def prepare(job):
        artifact = job.folder / "run" / "artifact"
        tensors = tiny_run.tensors(artifact)
        change(tensors)
        content = save(tensors)
        (artifact / "tuned.safetensors").write_bytes(content)
        if sign:
            facts = json.loads((artifact / "artifact.json").read_text())
            facts["sha256"] = hashlib.sha256(content).hexdigest()
            (artifact / "artifact.json").write_text(json.dumps(facts))

    return prepare


def _not_a_number(tensors):
    tensors["shared/prompt"][0, 1, 2] = np.nan


def _longer(tensors):
    tensors["shared/prompt"] = np.zeros((1, 5, 32), np.float32)


def _replaced(**changes) -> Callable:
    """Changes values of artifact.json; None takes them away."""

    def prepare(job):
        file = job.folder / "run" / "artifact" / "artifact.json"
        facts = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))

    return prepare


def _another_backbone(name: str, **sizes) -> Callable:
    def prepare(job):
        config = t5.T5Config(**tiny_run.CONFIG.architecture() | sizes)
        theta = tiny_run.random_theta(seed=1, config=config)
        (job.folder / name).unlink(missing_ok=True)
        backbones.write(str(job.folder / name), "another", config, theta, tiny_run.vocabulary())

    return prepare


def _cut_backbone(job):
    folder = job.folder / "cut"
    shutil.copytree(job.folder / "backbone", folder)
    content = (folder / "params.safetensors").read_bytes()
    (folder / "params.safetensors").write_bytes(content[:-100])


def _without(path: str) -> Callable:
    def prepare(job):
        with contextlib.suppress(NotADirectoryError):
            shutil.rmtree(job.folder / path)
        (job.folder / path).unlink(missing_ok=True)

    return prepare


GOOD = '{"text": "a good film", "label": 0}\n'
CASES = [
    # ---- gin ----
    Case("no gin file", ("--gin_file=absent.gin",), ("no gin file absent.gin",)),
    Case(
        "binary gin file",
        ("--gin_file=bad.gin",),
        ("bad.gin", "not a text file"),
        _write("bad.gin", b"A = '\xff\xfe'\n"),
    ),
    Case(
        "gin syntax",
        ("--gin_file=bad.gin",),
        ("bad.gin:2", "gin syntax"),
        _write("bad.gin", "\nTRAIN_STEPS = = 1\n"),
    ),
    Case(
        "unknown gin macro",
        ("--gin_file=bad.gin",),
        ("bad.gin:1", "TRAIN_STEP;", "did you mean TRAIN_STEPS?"),
        _write("bad.gin", "TRAIN_STEP = 10\n"),
    ),
    Case(
        "unknown gin function",
        ("--gin.PROMPT_START=@prompt_init.Unifrom()",),
        ("prompt_init has no Unifrom; did you mean Uniform?",),
    ),
    Case(
        "unknown gin parameter",
        ("--gin.prompt.Prompt.lenght=3",),
        ("no parameter lenght; did you mean length?",),
    ),
    Case("override that nothing reads", ("--gin.TRAIN_STEP=10",), ("TRAIN_STEPS?",)),
    Case("missing values", (), ("--gin.MIXTURE_OR_TASK_NAME=…",), base=("--gin_file=tiny.gin",)),
    # ---- data ----
    Case(
        "no data file",
        ("--gin.text_files.Text.train=absent.jsonl",),
        ("data file absent.jsonl: No such file",),
    ),
    Case(
        "no JSON",
        (),
        ("train.jsonl:2: no JSON",),
        _write("train.jsonl", GOOD + "{'text': 'single quotes'}\n"),
    ),
    Case(
        "no field",
        (),
        ("train.jsonl:3: no field 'text'", "'review: {text}'", "it has review, label"),
        _write("train.jsonl", GOOD * 2 + '{"review": "a", "label": 0}\n'),
    ),
    Case(
        "label outside the words",
        (),
        ("validation.jsonl:2: label '2'", "0, 1"),
        _write("validation.jsonl", GOOD + '{"text": "a", "label": 2}\n'),
    ),
    Case(
        "no text file",
        (),
        ("train.jsonl", "not UTF-8"),
        _write("train.jsonl", GOOD.encode() + b'{"text": "\xff", "label": 0}\n'),
    ),
    Case(
        "empty training split",
        (),
        ("task reviews, split 'train'", "empty"),
        _write("train.jsonl", "\n"),
    ),
    Case(
        "empty validation split",
        (),
        ("task reviews, split 'validation'", "empty"),
        _write("validation.jsonl", ""),
    ),
    Case("no such split", ("--gin.EVAL_SPLIT=test",), ("no split 'test'", "train, validation")),
    Case(
        "unlabelled split",
        (
            "--gin.EVAL_TASKS=['glue_sst2']",
            "--gin.EVAL_SPLIT=test",
            "--gin.DATA_DIR=.",
            "--gin.TASK_FEATURE_LENGTHS={'inputs': 40, 'targets': 12}",
        ),
        ("task glue_sst2", "no labels to score"),
        _write("SST-2/test.tsv", "index\tsentence\n0\ta good film\n"),
    ),
    Case(
        "unknown task",
        ("--gin.MIXTURE_OR_TASK_NAME=super_glue_rtee",),
        ("no task 'super_glue_rtee'; did you mean super_glue_rte?",),
        base=(*tiny_run.training()[:2], "--gin.PROMPT_LENGTH=4"),
    ),
    Case(
        "unknown evaluation task",
        ("--gin.EVAL_TASKS=['glue_sst']",),
        ("no task 'glue_sst'; did you mean glue_sst2?",),
    ),
    Case("evaluation tasks that are no list", ("--gin.EVAL_TASKS='glue_sst2'",), ("EVAL_TASKS",)),
    Case("no task", ("--gin.EVAL_TASKS=[7]",), ("7 is no task",)),
    Case(
        "an evaluation task twice",
        ("--gin.EVAL_TASKS=[@text_files.Text(), @text_files.Text()]",),
        ("task reviews is there 2 times",),
    ),
    Case("an empty mixture", ("--gin.MIXTURE_OR_TASK_NAME={}",), ("MIXTURE_OR_TASK_NAME",)),
    Case(
        "a rate that is none",
        ("--gin.MIXTURE_OR_TASK_NAME={@text_files.Text(): 0}",),
        ("task reviews: rate 0",),
    ),
    Case(
        "no task module",
        ("--gin.MIXTURE_OR_TASK_MODULE=absent_tasks", "--gin.EVAL_TASKS=['mine']"),
        ("absent_tasks",),
    ),
    Case(
        "a task that nothing scores",
        ("--gin.MIXTURE_OR_TASK_MODULE=unscored_tasks", "--gin.EVAL_TASKS=['unscored']"),
        ("task unscored", "no metric"),
        _write("unscored_tasks.py", UNSCORED_TASKS),
    ),
    Case("more shots than examples", ("--gin.K_SHOT=5",), ("k_shot 5", "1 to 4")),
    Case("no shots", ("--gin.K_SHOT=0",), ("k_shot 0",)),
    Case("a length is missing", ("--gin.TASK_FEATURE_LENGTHS={'inputs': 40}",), ("targets",)),
    Case("lengths that are none", ("--gin.TASK_FEATURE_LENGTHS=40",), ("TASK_FEATURE_LENGTHS",)),
    Case(
        "a length in words",
        ("--gin.TASK_FEATURE_LENGTHS={'inputs': 40, 'targets': 'four'}",),
        ("TASK_FEATURE_LENGTHS",),
    ),
    Case(
        "label words that do not fit",
        ("""--gin.text_files.Text.label_words={"0": "a good film", "1": "bad"}""",),
        ("label words need", "TASK_FEATURE_LENGTHS has 4"),
    ),
    # ---- numbers ----
    *(
        Case(f"{name} of 0", (f"--gin.{name}=0",), (name,))
        for name in (
            "TRAIN_STEPS",
            "BATCH_SIZE",
            "NUM_MICROBATCHES",
            "EVAL_PERIOD",
            "EVAL_BATCH_SIZE",
            "CHECKPOINT_PERIOD",
            "KEEP",
            "EARLY_STOPPING",
            "LOG_PERIOD",
        )
    ),
    Case("no examples to evaluate", ("--gin.EVAL_EXAMPLES=0",), ("0 examples of reviews",)),
    Case("microbatches that do not divide", ("--gin.NUM_MICROBATCHES=3",), ("BATCH_SIZE = 8",)),
    Case("a mesh of too many devices", ("--gin.MESH={'model': 64}",), ("MESH",)),
    Case("a mesh of unknown axes", ("--gin.MESH={'dta': 2}",), ("MESH = {'dta': 2}",)),
    Case("a mesh that is a number", ("--gin.MESH=2",), ("MESH = 2",)),
    Case("a negative seed", ("--gin.RANDOM_SEED=-1",), ("seed -1",)),
    Case("steps in words", ("--gin.TRAIN_STEPS=ten",), ("TRAIN_STEPS", "int")),
    # ---- prompt ----
    Case("prompt of length 0", ("--gin.PROMPT_LENGTH=0",), ("PROMPT_LENGTH = 0",)),
    Case("prompt of length -1", ("--gin.PROMPT_LENGTH=-1",), ("PROMPT_LENGTH = -1",)),
    Case("prompt of length x", ("--gin.PROMPT_LENGTH=x",), ("PROMPT_LENGTH", "int", "'x'")),
    Case(
        "prompt and inputs too long",
        ("--gin.MAX_ENCODER_LENGTH=43",),
        ("44 rows", "MAX_ENCODER_LENGTH is 43"),
    ),
    Case("ranking free text", ("--gin.DECODER=@decoding.Rank()", *FREE_TEXT), ("label words",)),
    # ---- backbone ----
    Case(
        "no backbone",
        ("--gin.INITIAL_CHECKPOINT_PATH=absent",),
        ("absent: no such backbone folder",),
    ),
    Case(
        "no built-in backbone",
        ("--gin.INITIAL_CHECKPOINT_PATH=builtin://dmeo",),
        ("no such built-in backbone",),
    ),
    Case("a folder that is no backbone", ("--gin.INITIAL_CHECKPOINT_PATH=run",), ("run: no",)),
    Case(
        "a backbone cut short",
        ("--gin.INITIAL_CHECKPOINT_PATH=cut",),
        ("cut/params.safetensors: cannot be read",),
        _cut_backbone,
    ),
    Case(
        "a backbone of other sizes",
        ("--gin.INITIAL_CHECKPOINT_PATH=wide",),
        ("wide: another architecture", "mlp_dim = 96 there, 64 asked"),
        _another_backbone("wide", mlp_dim=96),
    ),
    # ---- artifact ----
    Case(
        "no artifact",
        ("--gin.INITIAL_ARTIFACT=absent",),
        ("absent: no artifact there",),
    ),
    Case(
        "an artifact of another backbone",
        ("--backbone=other",),
        ("run/artifact", "it belongs to backbone", "fingerprint"),
        _another_backbone("other"),
        "evaluate",
        EVALUATE,
    ),
    Case(
        "an artifact of another width",
        ("--backbone=wide",),
        ("run/artifact", "emb_dim = 48 there, 32 asked"),
        _another_backbone("wide", emb_dim=48),
        "infer",
        ("--artifact=run/artifact", "--input=tiny.gin", "--output=out.jsonl"),
    ),
    Case(
        "starting from an artifact of another backbone",
        (
            "--gin.INITIAL_ARTIFACT=run/artifact",
            "--gin.INITIAL_CHECKPOINT_PATH=other",
        ),
        ("run/artifact", "it belongs to backbone", "fingerprint"),
        _another_backbone("other"),
    ),
    Case(
        "starting from an artifact of another width",
        (
            "--gin.INITIAL_ARTIFACT=run/artifact",
            "--gin.INITIAL_CHECKPOINT_PATH=wide",
            "--gin.EMBED_DIM=48",
        ),
        ("run/artifact", "emb_dim = 32, not 48"),
        _another_backbone("wide", emb_dim=48),
    ),
    Case(
        "starting from an artifact of another length",
        (
            "--gin.INITIAL_ARTIFACT=run/artifact",
            "--gin.PROMPT_LENGTH=7",
        ),
        ("run/artifact", "misshapen tensors: shared/prompt ((1, 4, 32), wanted (1, 7, 32))"),
    ),
    *(
        Case(
            f"an artifact with {what}",
            (),
            ("run/artifact", *said),
            _spoil(change, sign),
            "evaluate",
            EVALUATE,
        )
        for what, change, sign, said in (
            ("a missing tensor", dict.clear, True, ("missing tensors: shared/prompt",)),
            (
                "an extra tensor",
                lambda tensors: tensors.update({"shared/more": np.zeros(3, np.float32)}),
                True,
                ("extra tensors: shared/more",),
            ),
            ("NaN", _not_a_number, True, ("shared/prompt has NaN",)),
            ("a misshapen tensor", _longer, True, ("misshapen tensors: shared/prompt",)),
            ("other values", lambda t: t["shared/prompt"].fill(0), False, ("checksum",)),
        )
    ),
    Case(
        "an artifact cut short",
        (),
        ("run/artifact/tuned.safetensors: cannot be read",),
        _write("run/artifact/tuned.safetensors", b"\x10"),
        "evaluate",
        EVALUATE,
    ),
    *(
        Case(f"artifact.json: {what}", (), ("artifact.json", said), change, "evaluate", EVALUATE)
        for what, said, change in (
            ("no JSON", "not an artifact", _write("run/artifact/artifact.json", "{")),
            ("a list", "not an artifact", _write("run/artifact/artifact.json", "[]")),
            ("another format", "format 99", _replaced(format=99)),
            ("no method", "method", _replaced(method=None)),
            ("no fingerprint", "fingerprint", _replaced(backbone={"path": "x", "config": {}})),
            (
                "a method of nobody",
                "import absent_methods in a gin file first",
                _replaced(method={"class": "absent_methods.Mine", "settings": {}}),
            ),
            (
                "a method that is none",
                "is not a Method",
                _replaced(method={"class": "prompt_tuning_jax.losses.Loss", "settings": {}}),
            ),
        )
    ),
    # ---- MODEL_DIR ----
    *(
        Case(
            f"another {what}",
            (flag,) if flag else (),
            ("run holds a run of another configuration", *said),
            prepare,
            base=AGAIN,
        )
        for what, flag, said, prepare in (
            ("method", "--gin.PROMPT_LENGTH=5", ("method.settings.length: 4 -> 5",), None),
            ("rate", "--gin.LEARNING_RATE=0.1", ("base_learning_rate: 0.3 -> 0.1",), None),
            ("batch", "--gin.BATCH_SIZE=4", ("batch_size: 8 -> 4",), None),
            ("seed", "--gin.RANDOM_SEED=1", ("random_seed: 0 -> 1",), None),
            ("dropout", "--gin.DROPOUT_RATE=0.0", ("dropout_rate: 0.1 -> 0.0",), None),
            ("precision", "--gin.ACTIVATION_DTYPE=bfloat16", ("dtype",), None),
            ("number of shots", "--gin.K_SHOT=2", ("k_shot: None -> 2",), None),
            ("evaluation", "--gin.EVAL_EXAMPLES=3", ("eval_examples: None -> 3",), None),
            ("decoder", "--gin.DECODER=@decoding.Rank()", ("decoder",), None),
            ("selection", "--gin.text_files.Text.metrics=['exact_match']", ("exact_match",), None),
            (
                "length",
                "--gin.TASK_FEATURE_LENGTHS={'inputs': 41, 'targets': 4}",
                ("lengths.inputs: 40 -> 41",),
                None,
            ),
            (
                "template",
                "--gin.text_files.Text.inputs='{text}'",
                ("examples.reviews/train",),
                None,
            ),
            (
                "set of label words",
                """--gin.text_files.Text.label_words={"0": "bad", "1": "good"}""",
                ("label_words.reviews: ['good', 'bad'] -> ['bad', 'good']",),
                None,
            ),
            ("training set", "", ("examples.reviews/train",), _write("train.jsonl", GOOD * 8)),
            (
                "backbone",
                "--gin.INITIAL_CHECKPOINT_PATH=other",
                ("backbone: 'backbone' -> 'other'",),
                _another_backbone("other"),
            ),
            (
                "backbone in the same place",
                "",
                ("fingerprint",),
                _another_backbone("backbone"),
            ),
        )
        for prepare in [prepare or (lambda job: None)]
    ),
    Case(
        "settings.json is damaged",
        (),
        ("settings.json",),
        _write("run/settings.json", "{"),
        base=AGAIN,
    ),
    Case("settings.json is a list", (), ("run",), _write("run/settings.json", "[1]"), base=AGAIN),
    Case(
        "checkpoints of something else",
        (),
        ("run holds checkpoints of something else",),
        _without("run/settings.json"),
        base=AGAIN,
    ),
    Case(
        "a damaged checkpoint",
        (),
        ("run/checkpoints/4: no sound checkpoint",),
        _without("run/checkpoints/4/default/_METADATA"),
        base=AGAIN,
    ),
    Case("MODEL_DIR is a file", ("--gin.MODEL_DIR=train.jsonl",), ("MODEL_DIR is a file",)),
    Case("MODEL_DIR is in a file", ("--gin.MODEL_DIR=train.jsonl/run",), ("train.jsonl",)),
    # ---- the other commands ----
    Case(
        "describe without a method",
        (),
        ("method",),
        command="describe",
        base=("--gin_file=tiny.gin",),
    ),
    Case(
        "evaluate without lengths",
        (),
        ("TASK_FEATURE_LENGTHS",),
        command="evaluate",
        base=(*EVALUATE[:2], "--backbone=backbone"),
    ),
    Case("evaluate without anything", (), ("--artifact",), command="evaluate", base=EVALUATE[:2]),
    Case(
        "predictions into a file",
        ("--output=train.jsonl",),
        ("train.jsonl is a file",),
        command="evaluate",
        base=EVALUATE,
    ),
    Case(
        "evaluate by ranking free text",
        ("--gin.DECODER=@decoding.Rank()", *FREE_TEXT, "--output=out"),
        ("label words",),
        command="evaluate",
        base=EVALUATE,
    ),
    Case(
        "batches of none",
        ("--gin.BATCH_SIZE=0",),
        ("BATCH_SIZE",),
        command="evaluate",
        base=EVALUATE,
    ),
    *(
        Case(
            f"infer: {what}",
            ("--input=texts.jsonl", "--output=out.jsonl", *flags),
            said,
            _write("texts.jsonl", content),
            "infer",
            ("--artifact=run/artifact",),
        )
        for what, content, flags, said in (
            ("no JSON", 'one\n{"inputs": "two"}\n{"inputs"\n', (), ("texts.jsonl:3: not JSON",)),
            ("no inputs", '{"text": "one"}\n', (), ("texts.jsonl:1", '"inputs"', "['text']")),
            ("no text", b"one\n\xff\n", (), ("texts.jsonl:", "not UTF-8")),
            ("no length", "one\n", ("--gin.INPUT_LENGTH=0",), ("input length 0",)),
            ("no batch", "one\n", ("--gin.BATCH_SIZE=0",), ("BATCH_SIZE",)),
            ("nowhere to write", "one\n", ("--output=absent/out.jsonl",), ("absent/out.jsonl",)),
            ("nothing to rank", "one\n", ("--gin.DECODER=@decoding.Rank()",), ("label words",)),
        )
    ),
    Case(
        "infer: no input",
        ("--input=absent.txt",),
        ("absent.txt: no such input file",),
        command="infer",
        base=("--artifact=run/artifact",),
    ),
    Case(
        "convert a prompt",
        ("--output=converted",),
        ("shared/prompt is no part of θ",),
        command="convert",
        base=("--artifact=run/artifact",),
    ),
]


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
    done = job.run("train", *NEW, *flags, "--gin.EVAL_TASKS=[]")
    assert done.status == 2 and done.err.startswith("error: step 1: the loss is nan")


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
