"""SuperGLUE's leaderboard files line by line: made-up examples, and the official test files."""

import json
import logging

import leaderboard_format
import pytest

from prompt_tuning_jax import tasks
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import leaderboard
from prompt_tuning_jax.tasks.sources import Generated
from prompt_tuning_jax.tasks.task import Task, same_text

YES_NO = ("False", "True")
PAIR = ("entailment", "not_entailment")


def task_of(name, words=(), postprocess=same_text):
    """A task by name and label words alone: more is not asked of it."""
    source = Generated("made_up", lambda split: ())
    return Task(name, source, lambda record: [], label_words=words, postprocess=postprocess)


# What the leaderboard's sample submission has for two examples.
@pytest.mark.parametrize(
    ("name", "words", "predictions", "file", "labels"),
    [
        ("boolq", YES_NO, ["True", "False"], "BoolQ.jsonl", ["true", "false"]),
        (
            "cb",
            ("entailment", "contradiction", "neutral"),
            ["neutral", "contradiction"],
            "CB.jsonl",
            ["neutral", "contradiction"],
        ),
        ("copa", ("choice1", "choice2"), ["choice2", "choice1"], "COPA.jsonl", [1, 0]),
        ("rte", PAIR, ["not_entailment", "entailment"], "RTE.jsonl", [*PAIR[::-1]]),
        ("wic", YES_NO, ["False", "True"], "WiC.jsonl", ["false", "true"]),
        ("axb", PAIR, ["entailment", "not_entailment"], "AX-b.jsonl", [*PAIR]),
        ("axg", PAIR, ["entailment", "entailment"], "AX-g.jsonl", ["entailment"] * 2),
    ],
)
@pytest.mark.parametrize(
    "prefix", ["super_glue_", "taskless_super_glue_", "sentinel_taskless_super_glue_"]
)
def test_a_line_an_example(prefix, name, words, predictions, file, labels):
    task = task_of(prefix + name, words)
    assert leaderboard.file_name(task) == file
    lines = leaderboard.lines(task, [{"idx": 5}, {"idx": "3"}], predictions)
    want = [{"idx": 5, "label": labels[0]}, {"idx": 3, "label": labels[1]}]
    assert [json.loads(line) for line in lines] == want
    assert leaderboard_format.ids(file, "\n".join([*lines, ""])) == [5, 3]


def test_wsc_is_a_referent_made_into_a_label():
    def mentions(text, example):
        return int(example["referent"] in text)

    task = task_of("super_glue_wsc", postprocess=mentions)
    examples = [{"idx": 0, "referent": "Mark"}, {"idx": 1, "referent": "Pete"}]
    lines = leaderboard.lines(task, examples, ["Mark", "Mark"])
    assert lines == ['{"idx": 0, "label": "True"}', '{"idx": 1, "label": "False"}']
    assert leaderboard_format.ids("WSC.jsonl", "\n".join([*lines, ""])) == [0, 1]


def test_multirc_has_the_nesting_of_its_data():
    places = [(0, 0, 0), (0, 0, 1), (0, 1, 2), (4, 9, 3)]
    examples = [
        {"idx": dict(zip(("paragraph", "question", "answer"), place, strict=True))}
        for place in places
    ]
    task = task_of("super_glue_multirc", YES_NO)
    lines = leaderboard.lines(task, examples, ["True", "False", "True", "True"])
    answers = [
        [{"idx": 0, "label": 1}, {"idx": 1, "label": 0}],
        [{"idx": 2, "label": 1}],
        [{"idx": 3, "label": 1}],
    ]
    assert [json.loads(line) for line in lines] == [
        {
            "idx": 0,
            "passage": {
                "questions": [{"idx": 0, "answers": answers[0]}, {"idx": 1, "answers": answers[1]}]
            },
        },
        {"idx": 4, "passage": {"questions": [{"idx": 9, "answers": answers[2]}]}},
    ]
    assert leaderboard_format.ids("MultiRC.jsonl", "\n".join([*lines, ""])) == places


def test_record_has_a_line_a_query_with_its_text():
    examples = [{"idx": {"passage": 7, "query": query}} for query in (2, 2, 1)]
    task = task_of("super_glue_record")
    lines = leaderboard.lines(task, examples, ["New Zealand", "Samoa", 'the "Ē" line'])
    assert [json.loads(line) for line in lines] == [
        {"idx": 2, "label": "New Zealand"},
        {"idx": 1, "label": 'the "Ē" line'},
    ]
    assert leaderboard_format.ids("ReCoRD.jsonl", "\n".join([*lines, ""])) == [2, 1]


def test_what_is_no_label_becomes_the_first_one_and_is_counted(caplog):
    examples = [{"idx": idx} for idx in range(4)]
    with caplog.at_level(logging.WARNING):
        lines = leaderboard.lines(
            task_of("super_glue_boolq", YES_NO), examples, ["", "true", "True", "True True"]
        )
    labels = [json.loads(line)["label"] for line in lines]
    assert labels == ["false", "false", "true", "false"]
    assert caplog.messages == [
        'BoolQ.jsonl: 3 of 4 predictions are no label and were written as "false"'
    ]


@pytest.mark.parametrize("name", ["glue_rte", "reviews", "super_glue_proportional"])
def test_other_tasks_have_no_file(name):
    with pytest.raises(UserError, match=f"task {name}: the SuperGLUE leaderboard has no file"):
        leaderboard.file_name(task_of(name))


@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("super_glue_boolq", "BoolQ/test.jsonl"),
        ("taskless_super_glue_cb", "CB/test.jsonl"),
        ("super_glue_rte", "RTE/test.jsonl"),
        ("super_glue_wic", "WiC/test.jsonl"),
        ("super_glue_axb", "AX-b/AX-b.jsonl"),
    ],
)
def test_official_test_files(shared, name, official):
    folder = shared / "data" / "superglue"
    task = tasks.get(name)
    examples = task.examples("test", str(folder))
    # predictions of every kind, invalid ones among them
    words = [*task.label_words, "neither"]
    predictions = [words[number % len(words)] for number in range(len(examples))]
    lines = leaderboard.lines(task, examples, predictions)
    want = [int(json.loads(line)["idx"]) for line in (folder / official).read_text().splitlines()]
    file = leaderboard.file_name(task)
    assert leaderboard_format.ids(file, "\n".join([*lines, ""])) == want
