"""SuperGLUE's leaderboard files: predictions under the names and in the lines that it takes.

A line is {"idx": …, "label": …}; MultiRC nests a paragraph's questions and answers. Sources: the
sample line and the FAQ (super.gluebenchmark.com/faq) that jiant-dev/jiant-dev#108 quotes, and what
the benchmark's own toolkit writes (nyu-mll/jiant: jiant/evaluate.py of 1.x, and
`BENCHMARK_SUBMISSION_FILENAMES` in jiant/scripts/benchmarks/benchmarks.py of 2.x).
"""

import json
import logging
from collections.abc import Iterable, Sequence

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import sentinel
from prompt_tuning_jax.tasks.task import Example, LabelId, Task

_FILES = {
    "super_glue_boolq": "BoolQ.jsonl",
    "super_glue_cb": "CB.jsonl",
    "super_glue_copa": "COPA.jsonl",
    "super_glue_multirc": "MultiRC.jsonl",
    "super_glue_record": "ReCoRD.jsonl",
    "super_glue_rte": "RTE.jsonl",
    "super_glue_wic": "WiC.jsonl",
    "super_glue_wsc": "WSC.jsonl",
    "super_glue_axb": "AX-b.jsonl",
    "super_glue_axg": "AX-g.jsonl",
}
# The labels by label id, where they are not the task's label words.
_LABELS: dict[str, tuple] = {
    "super_glue_boolq": ("false", "true"),
    "super_glue_copa": (0, 1),
    "super_glue_multirc": (0, 1),
    "super_glue_wic": ("false", "true"),
    "super_glue_wsc": ("False", "True"),
}


def check(tasks: Iterable[Task]) -> None:
    """UserError where the leaderboard has no file for a task, or one for two of them."""
    taken: dict[str, str] = {}
    for task in tasks:
        other = taken.setdefault(file_name(task), task.name)
        if other != task.name:
            raise UserError(
                f"tasks {other} and {task.name} have one leaderboard file, {file_name(task)}: "
                "evaluate one of them"
            )


def file_name(task: Task) -> str:
    """What the leaderboard calls a task's file; a twin has its task's.

    Raises:
      UserError: it is no task of SuperGLUE.
    """
    name = _untwinned(task)
    if name not in _FILES:
        raise UserError(
            f"task {task.name}: the SuperGLUE leaderboard has no file for it, but for "
            f"{', '.join(_FILES)}; leave --leaderboard out"
        )
    return _FILES[name]


def lines(task: Task, examples: Sequence[Example], predictions: Sequence[str]) -> list[str]:
    """A leaderboard file's lines, in the order of the examples.

    A text that is no label word is counted in a warning and becomes the first label. WSC's label is
    what `task.postprocess` makes of a text; of ReCoRD, whose label is the text, each query's first
    prediction counts.

    Args:
      task: one that has a file.
      examples: a whole split.
      predictions: a text for each.
    """
    name = _untwinned(task)
    if name == "super_glue_record":
        answers: dict[int, str] = {}
        for example, text in zip(examples, predictions, strict=True):
            answers.setdefault(int(example["idx"]["query"]), text)
        return [_line(idx, label) for idx, label in answers.items()]
    label_id = LabelId(task.label_words) if task.label_words else task.postprocess
    ids = [label_id(text, example) for text, example in zip(predictions, examples, strict=True)]
    known = _LABELS.get(name, task.label_words)
    invalid = sum(number < 0 for number in ids)
    if invalid:
        logging.getLogger(__name__).warning(
            "%s: %d of %d predictions are no label and were written as %s",
            *(file_name(task), invalid, len(ids), json.dumps(known[0])),
        )
    labels = [known[max(number, 0)] for number in ids]
    if name == "super_glue_multirc":
        return _paragraphs(examples, labels)
    # AX-b's official file has its numbers as text
    return [_line(int(e["idx"]), label) for e, label in zip(examples, labels, strict=True)]


def _paragraphs(examples: Sequence[Example], labels: Sequence) -> list[str]:
    """MultiRC's lines, {"idx", "passage": {"questions": [{"idx", "answers": [answer]}]}}."""
    paragraphs: dict[int, dict[int, list[dict]]] = {}
    for example, label in zip(examples, labels, strict=True):
        idx = {part: int(number) for part, number in example["idx"].items()}
        questions = paragraphs.setdefault(idx["paragraph"], {})
        answers = questions.setdefault(idx["question"], [])
        answers.append({"idx": idx["answer"], "label": label})
    return [
        json.dumps(
            {
                "idx": paragraph,
                "passage": {
                    "questions": [
                        {"idx": question, "answers": answers}
                        for question, answers in questions.items()
                    ]
                },
            }
        )
        for paragraph, questions in paragraphs.items()
    ]


def _line(idx: int, label) -> str:
    return json.dumps({"idx": idx, "label": label})


def _untwinned(task: Task) -> str:
    return task.name.removeprefix(sentinel.PREFIX).removeprefix("taskless_")
