"""Questions and answers: T5's text by hand, SQuAD's and MRQA's files, and wrong ones."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_tuning_jax import scoring, tasks
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import qa
from prompt_tuning_jax.tasks.nested import JsonFile

QUESTION = {"id": "q1", "question": "Who's it?", "answers": [{"text": "Ann."}, {"text": "Ann"}]}


def squad(*questions, context="It's  Ann\n(b. 1990)."):
    paragraph = {"context": context, "qas": list(questions)}
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [paragraph]}]}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_squad(tmp_path):
    write(tmp_path / "squad/dev-v1.1.json", squad(QUESTION))
    task = tasks.get("squad")
    (example,) = task.examples("validation", str(tmp_path))
    # Punctuation has spaces around it, and one space stands for many.
    assert example == {
        "idx": 0,
        "inputs": "question: Who ' s it ? context: It ' s Ann ( b . 1990 ) . ",
        "targets": "Ann . ",
        "answers": ["Ann . ", "Ann"],
        "id": "q1",
    }
    assert scoring.score(task, [example], ["ann"]) == {"em": 100.0, "f1": 100.0}
    assert scoring.score(task, [example], ["Ann Lee"]) == {"em": 0.0, "f1": pytest.approx(200 / 3)}
    assert task.source.splits == ("train", "validation")
    assert "taskless_squad" not in tasks.names()


def test_questions_in_the_order_of_their_names(tmp_path):
    write(tmp_path / "squad/dev-v1.1.json", squad(*(QUESTION | {"id": name} for name in "bca")))
    examples = tasks.get("squad").examples("validation", str(tmp_path))
    assert [example["id"] for example in examples] == ["a", "b", "c"]


def test_spaces_and_punctuation_are_those_of_re2():
    assert qa.padded("a\u00a0b\x0bc\td") == "a\u00a0b\x0bc d"
    assert qa.padded("«a»—$5.00_") == "«a»— $ 5 . 00 _ "


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_padding_adds_spaces_alone(text):
    padded = qa.padded(text)
    for space in " \t\n\f\r":
        text, padded = text.replace(space, ""), padded.replace(space, "")
    assert padded == text
    assert qa.padded(qa.padded(text)) == qa.padded(text)


MRQA_LINES = [
    {"header": {"dataset": "DROP", "split": "dev"}},
    {
        "context": "  Ann sat. ",
        "qas": [
            {"qid": "a", "question": " Who sat?", "answers": ["Ann"], "detected_answers": []},
            {"qid": "b", "question": "Who?", "answers": ["Ann", "she"]},
        ],
    },
]


@pytest.mark.parametrize(
    ("name", "file", "split"),
    [
        ("mrqa_drop", "mrqa/dev/DROP.jsonl.gz", "validation"),
        ("mrqa_bio_asq", "BioASQ.jsonl", "validation"),
        ("mrqa_trivia_qa", "mrqa/train/TriviaQA-web.jsonl", "train"),
    ],
)
def test_mrqa(tmp_path, name, file, split):
    content = "".join(json.dumps(line) + "\n" for line in MRQA_LINES)
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode()) if file.endswith("gz") else content.encode())
    assert tasks.get(name).examples(split, str(tmp_path)) == [
        {
            "idx": 0,
            "inputs": "question: Who sat ? context: Ann sat . ",
            "targets": "Ann",
            "answers": ["Ann"],
            "id": "a",
        },
        {
            "idx": 1,
            "inputs": "question: Who ? context: Ann sat . ",
            "targets": "Ann",
            "answers": ["Ann", "she"],
            "id": "b",
        },
    ]


def test_sets_of_mrqa():
    found = {name for name in tasks.names() if name.startswith("mrqa_")}
    assert found == {f"mrqa_{name}" for name in {**qa.MRQA_OUT_OF_DOMAIN, **qa.MRQA_IN_DOMAIN}}
    # Domains out of training have test files alone.
    for name in qa.MRQA_OUT_OF_DOMAIN:
        assert tasks.get(f"mrqa_{name}").source.splits == ("validation",)
    for name in qa.MRQA_IN_DOMAIN:
        assert tasks.get(f"mrqa_{name}").source.splits == ("train", "validation")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"data": [', r"dev-v1\.1\.json: no JSON \(Expecting value: line 1"),
        ("[]", r"dev-v1\.1\.json: no JSON object with a field 'data'"),
        ({"version": "1.1"}, r"dev-v1\.1\.json: no list 'data'; it has version"),
        ({}, r"dev-v1\.1\.json: no list 'data'; it has nothing"),
        ('{"data": ' + "[" * 100_000, r"dev-v1\.1\.json: no JSON \(maximum recursion depth"),
        ('{"data": ' + "7" * 5000 + "}", r"dev-v1\.1\.json: no JSON \(Exceeds the limit"),
        ({"data": []}, r"task squad, split 'validation': no examples in .*/dev-v1\.1\.json$"),
        ({"data": ["a"]}, r'json, data\[0\]: no object but "a"'),
        ({"data": [{"title": "t"}]}, r"json, data\[0\]: no list 'paragraphs'; it has title"),
        (
            squad({"id": "q1", "question": "Who?"}),
            r"data\[0\], paragraphs\[0\], qas\[0\]: no list 'answers'; it has id, question",
        ),
        (
            squad(QUESTION, QUESTION | {"question": None}),
            r"qas\[1\]: no field 'question', which a question needs",
        ),
        (squad(QUESTION, context=None), r"qas\[0\]: no field 'context'"),
        (squad(QUESTION | {"answers": []}), r"qas\[0\]: no answers"),
        (squad(QUESTION | {"id": 7}), r"qas\[0\]: field 'id' is no text but 7"),
        (squad(QUESTION | {"question": True}), r"field 'question' is no text but true"),
        (squad(QUESTION | {"answers": [{"start": 1}]}), r"answers\[0\]: no field 'text'"),
    ],
)
def test_wrong_files_of_squad(tmp_path, content, message):
    write(tmp_path / "dev-v1.1.json", content)
    with pytest.raises(UserError, match=message):
        tasks.get("squad").examples("validation", str(tmp_path))


def test_wrong_answers_of_mrqa(tmp_path):
    lines = [{"context": "a", "qas": [{"qid": "q", "question": "b", "answers": ["c", 5]}]}]
    write(tmp_path / "BioASQ.jsonl", json.dumps(lines[0]))
    with pytest.raises(UserError, match=r"jsonl:1, qas\[0\], answers\[1\] is no text but 5"):
        tasks.get("mrqa_bio_asq").examples("validation", str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain text", r"DROP\.jsonl\.gz: Not a gzipped file"),
        (gzip.compress(b'{"header": {}}\n')[:-9], r"DROP\.jsonl\.gz: Compressed file ended"),
        (gzip.compress(b"\xff\n"), r"DROP\.jsonl\.gz:1: not UTF-8 text"),
    ],
    ids=["no gzip", "cut short", "no text"],  # a gzip's bytes tell the time
)
def test_damaged_gzip(tmp_path, content, message):
    (tmp_path / "DROP.jsonl.gz").write_bytes(content)
    with pytest.raises(UserError, match=message):
        tasks.get("mrqa_drop").examples("validation", str(tmp_path))


def test_json_file_may_be_gzipped(tmp_path):
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"rows": [{"a": 1}]}'))
    assert list(JsonFile(str(path), "rows").records()) == [{"a": 1, "_at": f"{path}, rows[0]"}]


def test_xquad(shared):
    task = tasks.get("xquad_en")
    examples = task.examples("validation", str(shared / "data/xquad_en"))
    assert len(examples) == 1190
    assert examples[0]["inputs"].startswith(
        "question: How many points did the Panthers defense surrender ? context: The Panthers"
    )
    right = [example["targets"] for example in examples]
    assert scoring.score(task, examples, right) == {"em": 100.0, "f1": 100.0}
