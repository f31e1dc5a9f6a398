"""The built-in micro-world: its downstream tasks, and its corpus as pre-training objectives."""

import functools
import itertools
import random
from collections.abc import Iterator

from prompt_tuning_jax.tasks import metrics, pretraining
from prompt_tuning_jax.tasks.classification import FieldsToText
from prompt_tuning_jax.tasks.demo import questions
from prompt_tuning_jax.tasks.demo.documents import documents
from prompt_tuning_jax.tasks.sources import Generated
from prompt_tuning_jax.tasks.task import Example, LabelId, Task, with_twins

DOCUMENTS = {"train": 100_000, "validation": 1000}


def _corpus(split: str) -> Iterator[dict]:
    made = documents(random.Random(f"corpus {split}"))
    return ({"text": text} for text in itertools.islice(made, DOCUMENTS[split]))


def _labelled(
    name: str, make: questions.Make, fields: tuple[str, ...], words: tuple[str, ...]
) -> Task:
    return Task(
        name=f"demo_{name}",
        source=_downstream(name, make),
        format=FieldsToText(name, fields, words, {}),
        label_words=words,
        postprocess=LabelId(words),
        metrics=(metrics.accuracy,),
        selection=("accuracy",),
    )


def _downstream(name: str, make: questions.Make) -> Generated:
    records = functools.partial(questions.records, make)
    return Generated(f"demo {name}", records, ("train", "validation", "test"))


def _open_question(record: dict) -> list[Example]:
    inputs = f"qa question: {record['question']} context: {record['context']}"
    return [{"inputs": inputs, "targets": record["answers"][0], "answers": record["answers"]}]


def _document(record: dict) -> list[Example]:
    # an objective makes inputs and targets of it each time that it is drawn
    return [{"inputs": "", "targets": record["text"]}]


def _pretraining(name: str, objective) -> Task:
    return Task(
        name=f"demo_{name}",
        source=Generated("demo corpus", _corpus),
        format=_document,
        selection=("teacher_forced_accuracy",),
        objective=objective,
    )


TASKS = with_twins(
    _labelled("sentiment", questions.sentiment, ("sentence",), ("negative", "positive")),
    _labelled("boolq", questions.yes_no_question, ("passage", "question"), ("no", "yes")),
    Task(
        name="demo_qa",
        source=_downstream("qa", questions.open_question),
        format=_open_question,
        metrics=(metrics.exact_match,),
        selection=("exact_match",),
    ),
) | {
    task.name: task
    for task in (
        _pretraining("span_corruption", pretraining.span_corruption),
        _pretraining("prefix_lm", pretraining.prefix_lm),
    )
}
