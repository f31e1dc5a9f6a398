"""Questions on a context in T5's text, and the paper's transfer from SQuAD to other domains.

`squad` is T5's `squad_v010_allanswers`; `xquad_en` its professionally checked English subset;
`mrqa_{name}` are the sets of the MRQA 2019 shared task. All say "question: … context: …" and are
scored against all answers. There are no taskless twins: no text begins with a task's name.
"""

import re
import string
from collections.abc import Iterator

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import answers
from prompt_tuning_jax.tasks.lines import TextFile, text_of
from prompt_tuning_jax.tasks.nested import JsonFile, each, inside, texts_of
from prompt_tuning_jax.tasks.sources import Official, Tfds
from prompt_tuning_jax.tasks.task import Example, Source, Task

# RE2's [[:punct:]] and \s, which T5 says: ASCII, and no vertical tab.
_PUNCTUATION = re.compile(f"([{re.escape(string.punctuation)}])")
_SPACES = re.compile(r"[ \t\n\f\r]+")

_FIELDS = ("id", "question", "context", "answers")
_MRQA_FIELDS = ("qid", "question", "context", "answers")
# MRQA's files by TFDS's names. The paper evaluates on the domains out of training.
MRQA_OUT_OF_DOMAIN = {
    "bio_asq": "BioASQ",
    "drop": "DROP",
    "duo_rc": "DuoRC.ParaphraseRC",
    "race": "RACE",
    "relation_extraction": "RelationExtraction",
    "textbook_qa": "TextbookQA",
}
MRQA_IN_DOMAIN = {
    "news_qa": "NewsQA",
    "trivia_qa": "TriviaQA-web",
    "search_qa": "SearchQA",
    "hotpot_qa": "HotpotQA",
    "natural_questions": "NaturalQuestionsShort",
}


def padded(text: str) -> str:
    """Spaces around punctuation, one space for many: T5's text of questions, contexts, answers."""
    return _SPACES.sub(" ", _PUNCTUATION.sub(r" \1 ", text))


def examples(record: dict) -> list[Example]:
    """A question's example: the first answer is the target, "answers" are all, "id" its name.

    As `squad` of `t5.data.preprocessors`, and `mrqa` of google-research/prompt-tuning.

    Raises:
      UserError: the record lacks something, or has no answer.
    """
    question = padded(text_of(record, "question", "a question"))
    context = padded(text_of(record, "context", "a question"))
    # TFDS keeps SQuAD's answers as columns, their texts and their starts.
    given = inside(record, "answers") if isinstance(record.get("answers"), dict) else None
    texts = texts_of(given, "text") if given else texts_of(record, "answers")
    if not texts:
        raise UserError(f"{record['_at']}: no answers")
    right = [padded(text) for text in texts]
    return [
        {
            "inputs": _SPACES.sub(" ", f"question: {question} context: {context}"),
            "targets": right[0],
            "answers": right,
            "id": text_of(record, "qid" if "qid" in record else "id", "a question"),
        }
    ]


def right_answers(example: Example) -> list[str]:
    """What predictions are compared with."""
    return example["answers"]


def squad_records(article: dict) -> Iterator[dict]:
    """The questions of an article of SQuAD's file."""
    for paragraph in each(article, "paragraphs"):
        for asked in each(paragraph, "qas"):
            texts = [text_of(answer, "text", "an answer") for answer in each(asked, "answers")]
            yield {**asked, "context": paragraph.get("context"), "answers": texts}


def mrqa_records(row: dict) -> Iterator[dict]:
    """The questions of a line of MRQA's file; its first line is a header."""
    if "header" in row:
        return
    for asked in each(row, "qas"):
        yield {
            "qid": text_of(asked, "qid", "mrqa"),
            "question": text_of(asked, "question", "mrqa").strip(),
            "context": text_of(row, "context", "mrqa").strip(),
            "answers": texts_of(asked, "answers"),
            "_at": asked["_at"],
        }


def _mrqa(name: str, file: str, in_domain: bool) -> Task:
    """Out of its domains MRQA has test files alone, which are the validation split."""
    places: dict[str, tuple[str, ...]] = {"validation": ("dev/", "test/", "")}
    if in_domain:
        places = {"train": ("train/",), "validation": ("dev/",)}
    return _task(
        f"mrqa_{name}",
        Official(
            folders=("mrqa", "MRQA"),
            files={
                split: tuple(
                    TextFile(f"{place}{file}.jsonl{ending}")
                    for place in folders
                    for ending in ("", ".gz")
                )
                for split, folders in places.items()
            },
            tfds=Tfds(
                f"mrqa/{name}:1.0.0",
                tuple(places),
                {} if in_domain else {"validation": "test"},
                _MRQA_FIELDS,
            ),
            flatten=mrqa_records,
            sort_by="qid",
        ),
    )


def _task(name: str, source: Source) -> Task:
    return Task(
        name=name,
        source=source,
        format=examples,
        target=right_answers,
        metrics=(answers.squad,),
        selection=("em", "f1"),
    )


_ALL = (
    _task(
        "squad",
        Official(
            folders=("squad", "SQuAD"),
            files={
                "train": (JsonFile("train-v1.1.json", "data"),),
                "validation": (JsonFile("dev-v1.1.json", "data"),),
            },
            tfds=Tfds("squad/v1.1:3.0.0", ("train", "validation"), fields=_FIELDS),
            flatten=squad_records,
            sort_by="id",
        ),
    ),
    _task(
        "xquad_en",
        Official(
            folders=("xquad_en", "xquad", "XQuAD"),
            files={"validation": (JsonFile("xquad.en.json", "data"),)},
            tfds=Tfds("xquad/en:3.0.0", ("validation",), {"validation": "test"}, _FIELDS),
            flatten=squad_records,
            sort_by="id",
        ),
    ),
    *(_mrqa(name, file, in_domain=False) for name, file in MRQA_OUT_OF_DOMAIN.items()),
    *(_mrqa(name, file, in_domain=True) for name, file in MRQA_IN_DOMAIN.items()),
)
TASKS = {task.name: task for task in _ALL}
