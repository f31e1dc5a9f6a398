"""MultiRC and ReCoRD: questions on a passage that have several answers, one example an answer.

Each `…_records` flattens a line of the official file into the records of the TensorFlow dataset,
each `…_examples` makes T5's text of such a record.
"""

import re
from collections.abc import Hashable, Iterator

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.classification import FieldsToText
from prompt_tuning_jax.tasks.lines import number_of, text_of
from prompt_tuning_jax.tasks.nested import each, inside, texts_of
from prompt_tuning_jax.tasks.task import Example

MULTIRC_WORDS = ("False", "True")
_MULTIRC = FieldsToText("multirc", ("question", "answer", "paragraph"), MULTIRC_WORDS)
_BOLD = re.compile("</?b>")
# A news text ends in bullet points, each after this line; "." is added where a stop is missing.
_HIGHLIGHT = "\n@highlight\n"
_HIGHLIGHT_AFTER_STOP = re.compile(f"""([.?!"']){_HIGHLIGHT}""")


def multirc_records(row: dict) -> Iterator[dict]:
    """A line of MultiRC's file: a paragraph, its questions, and the answers to judge."""
    passage = inside(row, "passage")
    for asked in each(passage, "questions"):
        for answer in each(asked, "answers"):
            yield {
                "paragraph": text_of(passage, "text", "multirc"),
                "question": text_of(asked, "question", "multirc"),
                "answer": text_of(answer, "text", "multirc"),
                "label": answer.get("label"),
                "idx": {
                    "paragraph": number_of(row, "idx", "multirc"),
                    "question": number_of(asked, "idx", "multirc"),
                    "answer": number_of(answer, "idx", "multirc"),
                },
                "_at": answer["_at"],
            }


def multirc_examples(record: dict) -> list[Example]:
    """The text without its HTML; "idx" is {"paragraph", "question", "answer"}."""
    idx = _numbers(record, "paragraph", "question", "answer")
    (example,) = _MULTIRC({name: value for name, value in record.items() if name != "idx"})
    inputs = _BOLD.sub("", example["inputs"].replace("<br>", " "))
    return [{**example, "inputs": inputs, "idx": idx}]


def question(example: Example) -> Hashable:
    """The question that an answer of MultiRC belongs to."""
    return example["idx"]["paragraph"], example["idx"]["question"]


def record_records(row: dict) -> Iterator[dict]:
    """A line of ReCoRD's file: a passage with entities, and queries; no answers in the test split.

    Entities are given as spans, their last character included; entities and answers are sorted
    and each is there once.

    Raises:
      UserError: a line lacks something, or an entity is no part of the passage.
    """
    passage = inside(row, "passage")
    text = text_of(passage, "text", "record")
    entities = set()
    for span in each(passage, "entities"):
        start, end = (number_of(span, name, "record") for name in ("start", "end"))
        if not 0 <= start <= end < len(text):
            raise UserError(
                f"{span['_at']}: characters {start} to {end} are no part of the passage's "
                f"{len(text)}"
            )
        entities.add(text[start : end + 1])
    for query in each(row, "qas"):
        given = each(query, "answers") if "answers" in query else ()
        yield {
            "passage": text,
            "query": text_of(query, "query", "record"),
            "entities": sorted(entities),
            "answers": sorted({text_of(answer, "text", "record") for answer in given}),
            "idx": {
                "passage": number_of(row, "idx", "record"),
                "query": number_of(query, "idx", "record"),
            },
            "_at": query["_at"],
        }


def record_examples(record: dict) -> list[Example]:
    """An example for each right answer, each with all of them; "idx" is {"passage", "query"}."""
    entities, answers = texts_of(record, "entities"), texts_of(record, "answers")
    passage = _HIGHLIGHT_AFTER_STOP.sub(r"\1 ", text_of(record, "passage", "record"))
    passage = passage.replace(_HIGHLIGHT, ". ")
    inputs = (
        f"record query: {text_of(record, 'query', 'record')} "
        f"entities: {', '.join(entities)} passage: {passage}"
    )
    idx = _numbers(record, "passage", "query")
    return [
        {"idx": idx, "inputs": inputs, "targets": answer, "answers": answers}
        for answer in answers or [""]
    ]


def record_prediction(text: str, example: Example) -> dict:
    """The text itself: `groups.of_first` wants it so."""
    return {"value": text}


def record_target(example: Example) -> dict:
    """All right answers, and the query that they are for."""
    group = example["idx"]["passage"], example["idx"]["query"]
    return {"value": example["answers"], "group": group}


def _numbers(record: dict, *parts: str) -> dict[str, int]:
    idx = inside(record, "idx")
    return {part: number_of(idx, part, "idx") for part in parts}
