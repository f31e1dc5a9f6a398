"""The built-in micro-world: its downstream tasks, and its corpus as pre-training objectives.

Every downstream task is there for two worlds of other words and topics: `demo_qa` is of the town,
`demo_qa_sea` of the sea.
"""

import functools
import itertools
import random
from collections.abc import Callable, Iterator

from prompt_tuning_jax.tasks import metrics, pretraining, salient
from prompt_tuning_jax.tasks.classification import classification
from prompt_tuning_jax.tasks.demo import questions
from prompt_tuning_jax.tasks.demo.documents import documents, lists
from prompt_tuning_jax.tasks.sources import Generated
from prompt_tuning_jax.tasks.task import Example, Task, with_twins

DOCUMENTS = {"train": 200_000, "validation": 1000}
# What a task's name ends with, by world.
_ENDINGS = {"town": "", "sea": "_sea"}
ENTAILMENT = ("entailment", "not_entailment")
COMMITMENT = ("entailment", "contradiction", "neutral")


def _corpus(made: Callable[[random.Random], Iterator[str]], split: str) -> Iterator[dict]:
    texts = made(random.Random(f"corpus {split}"))
    return ({"text": text} for text in itertools.islice(texts, DOCUMENTS[split]))


def _source(name: str, make: questions.Make, world: str) -> Generated:
    records = functools.partial(questions.records, make, world)
    return Generated(f"demo {name} {world}", records, ("train", "validation", "test"))


def _labelled(
    name: str, make: questions.Make, fields: tuple[str, ...], words: tuple[str, ...]
) -> list[Task]:
    return [
        classification(f"demo_{name}{ending}", _source(name, make, world), name, fields, words)
        for world, ending in _ENDINGS.items()
    ]


def _open(name: str, make: questions.Make, inputs: Callable[[dict], str]) -> list[Task]:
    def example(record: dict) -> list[Example]:
        answers = record["answers"]
        return [{"inputs": inputs(record), "targets": answers[0], "answers": answers}]

    return [
        Task(
            name=f"demo_{name}{ending}",
            source=_source(name, make, world),
            format=example,
            metrics=(metrics.exact_match,),
            selection=("exact_match",),
        )
        for world, ending in _ENDINGS.items()
    ]


def _marked(record: dict) -> list[Example]:
    # an objective makes inputs and targets of it each time that it is drawn
    return [{"inputs": "", "targets": record["text"]}]


def _unmarked(record: dict) -> list[Example]:
    return [{"inputs": "", "targets": salient.unmarked(record["text"])}]


def _pretraining(name: str, made, objective, format=_marked) -> Task:
    return Task(
        name=f"demo_{name}",
        source=Generated(f"demo {made.__name__}", functools.partial(_corpus, made)),
        format=format,
        selection=("teacher_forced_accuracy",),
        objective=objective,
    )


DOWNSTREAM = (
    *_labelled("sentiment", questions.sentiment, ("sentence",), ("negative", "positive")),
    *_open(
        "qa",
        questions.open_question,
        lambda record: f"qa question: {record['question']} context: {record['context']}",
    ),
    *_labelled("boolq", questions.yes_no_question, ("passage", "question"), ("no", "yes")),
    *_labelled("rte", questions.entailment, ("hypothesis", "premise"), ENTAILMENT),
    *_labelled("cb", questions.commitment, ("hypothesis", "premise"), COMMITMENT),
    *_labelled(
        "copa",
        questions.cause_or_effect,
        ("choice1", "choice2", "premise", "question"),
        ("choice1", "choice2"),
    ),
    *_open("wsc", questions.pronoun, lambda record: f"wsc text: {record['text']}"),
)
TASKS = with_twins(*DOWNSTREAM) | {
    task.name: task
    for task in (
        _pretraining("lists_salient_spans", lists, salient.span_corruption),
        _pretraining("salient_spans", documents, salient.span_corruption),
        _pretraining("prefix_lm", documents, salient.prefix_lm),
        _pretraining("span_corruption", documents, pretraining.span_corruption, _unmarked),
    )
}
