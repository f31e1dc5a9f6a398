"""evaluate on several tasks with one model, on splits without labels, and for the leaderboard."""

import json

import leaderboard_format
import numpy as np
import pytest
import tiny_run

from prompt_tuning_jax import tasks

BACKBONE = "--backbone=backbone"
LENGTHS = {"TASK_FEATURE_LENGTHS": "{'inputs': 40, 'targets': 16}", "BATCH_SIZE": 8}
TWO_TASKS = """
from __gin__ import dynamic_registration
from prompt_tuning_jax.tasks import text_files

MIXTURE_OR_TASK_NAME = {@films/text_files.Text(): 1.0, @plays/text_files.Text(): 3.0}

text_files.Text.train = "train.jsonl"
text_files.Text.label_words = {"0": "good", "1": "bad"}
films/text_files.Text:
  name = "films"
  validation = "validation.jsonl"
plays/text_files.Text:
  name = "plays"
  validation = "train.jsonl"
  metrics = ["exact_match", "accuracy"]
"""
PAIRS = [
    {"premise": f"a {word} film", "hypothesis": "it was long .", "idx": number}
    for number, word in enumerate(["good", "dull", "fine", "bad", "long"])
]
# A line of each other official test file, and what identifies its answers.
UNLABELLED = {
    "BoolQ": ({"question": "is it a film", "passage": "it is a film .", "idx": 4}, [4]),
    "COPA": (
        {"premise": "it rains", "choice1": "a", "choice2": "b", "question": "cause", "idx": 0},
        [0],
    ),
    "WiC": ({"word": "play", "sentence1": "a play", "sentence2": "they play", "idx": 9}, [9]),
    "MultiRC": (
        {
            "idx": 2,
            "passage": {
                "text": "it rains .",
                "questions": [
                    {
                        "question": "does it",
                        "idx": 5,
                        "answers": [{"text": "yes", "idx": 7}, {"text": "no", "idx": 8}],
                    }
                ],
            },
        },
        [(2, 5, 7), (2, 5, 8)],
    ),
    "ReCoRD": (
        {
            "idx": 3,
            "passage": {"text": "the cat sat .", "entities": [{"start": 4, "end": 6}]},
            "qas": [{"query": "a @placeholder sat", "idx": 11}, {"query": "it", "idx": 12}],
        },
        [11, 12],
    ),
    "WSC": (
        {
            "text": "the cat sat and it was fine .",
            "target": {
                "span1_text": "the cat",
                "span1_index": 0,
                "span2_text": "it",
                "span2_index": 4,
            },
            "idx": 6,
        },
        [6],
    ),
}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    job = tiny_run.Job(tmp_path_factory.mktemp("evaluate"))
    (job.folder / "two_tasks.gin").write_text(TWO_TASKS)
    for name in ("RTE", "CB"):
        (job.folder / name).mkdir()
        lines = "".join(json.dumps(pair) + "\n" for pair in PAIRS)
        (job.folder / name / "test.jsonl").write_text(lines)
    return job


def _lines(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def _predictions(file) -> list[str]:
    return [line["prediction"] for line in _lines(file.read_text())]


# ---- several tasks ---------------------------------------------------------------------------


def test_each_task_of_a_mixture_and_their_average(job):
    files = ["--gin_file=runs/evaluate.gin", "--gin_file=two_tasks.gin"]
    done = job.ok("evaluate", *files, BACKBONE, "--output=both", **LENGTHS)
    films, plays, both = _lines(done.out)
    assert (films["task"], films["examples"]) == ("films", 6)
    assert (plays["task"], plays["examples"]) == ("plays", 8)
    scores = {}
    for task, rows in (("films", tiny_run.VALIDATION), ("plays", tiny_run.TRAIN)):
        words = _predictions(job.folder / "both" / f"{task}.jsonl")
        right = [word == tiny_run.LABELS[row[1]] for word, row in zip(words, rows, strict=True)]
        scores[task] = 100 * np.mean(right)
    assert films["metrics"]["accuracy"] == pytest.approx(scores["films"])
    assert plays["metrics"]["accuracy"] == pytest.approx(scores["plays"])
    assert both == {
        "task": "mixture",
        "split": "validation",
        "examples": 14,
        "metrics": {"films": films["metrics"], "plays": plays["metrics"]},
        "average": pytest.approx((scores["films"] + scores["plays"]) / 2),
    }
    # the same as one by one
    alone = job.ok(
        "evaluate", *files, BACKBONE, MIXTURE_OR_TASK_NAME="@films/text_files.Text()", **LENGTHS
    )
    assert _lines(alone.out) == [films]


# ---- splits without labels -------------------------------------------------------------------


def test_a_split_without_labels_is_predicted_and_not_scored(job):
    flags = [BACKBONE, "--task=super_glue_rte", "--data_dir=.", "--split=test"]
    done = job.process("evaluate", *flags, "--output=out", **LENGTHS)
    assert done.status == 0, done.err
    assert done.result == {"task": "super_glue_rte", "split": "test", "examples": 5, "metrics": {}}
    assert "super_glue_rte: split test has no labels, so it was only predicted" in done.err
    lines = _lines((job.folder / "out" / "super_glue_rte.jsonl").read_text())
    assert [line["idx"] for line in lines] == [0, 1, 2, 3, 4]
    assert all(line["targets"] == "" and "prediction" in line for line in lines)
    refused = job.run("evaluate", *flags, **LENGTHS)
    assert refused.status == 2 and "no labels to score predictions by" in refused.err


# ---- the leaderboard -------------------------------------------------------------------------


def test_leaderboard_files_of_a_mixture(job):
    flags = [BACKBONE, "--data_dir=.", "--split=test", "--leaderboard=upload", "--output=texts"]
    names = ("super_glue_rte", "taskless_super_glue_cb")
    ranked = {"DECODER": "@decoding.Rank()", "MIXTURE_OR_TASK_NAME": dict.fromkeys(names, 1)}
    done = job.ok("evaluate", *flags, **ranked, **LENGTHS)
    assert done.result["metrics"] == {name: {} for name in names}
    assert done.result["average"] is None
    assert sorted(file.name for file in (job.folder / "upload").iterdir()) == [
        "CB.jsonl",
        "RTE.jsonl",
    ]
    for name, file in zip(names, ("RTE.jsonl", "CB.jsonl"), strict=True):
        text = (job.folder / "upload" / file).read_text()
        assert leaderboard_format.ids(file, text) == [0, 1, 2, 3, 4]
        labels = [line["label"] for line in _lines(text)]
        assert labels == _predictions(job.folder / "texts" / f"{name}.jsonl")


def test_leaderboard_files_of_the_benchmark(job):
    for name, (line, _) in UNLABELLED.items():
        (job.folder / name).mkdir()
        (job.folder / name / "test.jsonl").write_text(json.dumps(line) + "\n")
    flags = [BACKBONE, "--data_dir=.", "--split=test", "--leaderboard=whole"]
    done = job.ok("evaluate", *flags, "--task=super_glue_proportional", **LENGTHS)
    assert done.result["task"] == "super_glue_proportional" and done.result["average"] is None
    assert set(done.result["metrics"]) == set(tasks.mixtures()["super_glue_proportional"])
    pairs = {"RTE": [0, 1, 2, 3, 4], "CB": [0, 1, 2, 3, 4]}
    wanted = pairs | {name: ids for name, (_, ids) in UNLABELLED.items()}
    assert {file.stem for file in (job.folder / "whole").iterdir()} == set(wanted)
    for name, ids in wanted.items():
        text = (job.folder / "whole" / f"{name}.jsonl").read_text()
        assert leaderboard_format.ids(f"{name}.jsonl", text) == ids


def test_predictions_that_are_no_label(job):
    flags = [BACKBONE, "--data_dir=.", "--split=test", "--leaderboard=greedy"]
    done = job.process("evaluate", *flags, "--task=super_glue_rte", **LENGTHS)
    assert done.status == 0, done.err
    # a random model writes no label word
    assert 'RTE.jsonl: 5 of 5 predictions are no label and were written as "entailment"' in done.err
    lines = _lines((job.folder / "greedy" / "RTE.jsonl").read_text())
    assert lines == [{"idx": number, "label": "entailment"} for number in range(5)]
