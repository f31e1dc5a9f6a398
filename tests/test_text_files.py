"""A user's own files as tasks: what is read, and what a wrong file is told."""

import csv
import gzip
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.lines import TextFile
from prompt_tuning_jax.tasks.text_files import Text


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def fields_of(path, **settings):
    """The records without their places."""
    records = list(TextFile(path, **settings).records())
    return [{name: value for name, value in r.items() if name != "_at"} for r in records]


# One line of text as each format may hold it; categories Cs are no text at all.
line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\t\x00"))
solid = line.filter(lambda text: text.strip())
anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all examples of a property: each writes its file anew."""
    return tmp_path_factory.mktemp("lines")


@given(records=st.lists(st.dictionaries(line, anything | st.integers() | st.booleans())))
def test_jsonl_round_trip(folder, records):
    records = [{k: v for k, v in record.items() if k != "_at"} for record in records]
    content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    assert fields_of(write(folder, "a.jsonl", content)) == records


@given(rows=st.lists(st.tuples(solid, line)))
def test_tsv_round_trip(folder, rows):
    content = "\ufeffa\tb\r\n" + "".join(f"{a}\t{b}\r\n" for a, b in rows)
    assert fields_of(write(folder, "a.tsv", content)) == [{"a": a, "b": b} for a, b in rows]


@given(rows=st.lists(st.tuples(anything, anything)))
def test_csv_round_trip(folder, rows):
    content = io.StringIO(newline="")
    csv.writer(content, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    path = write(folder, "a.csv", content.getvalue())
    assert fields_of(path) == [{"a": a, "b": b} for a, b in rows]


@given(rows=st.lists(st.tuples(st.sampled_from(["0", "1", "good"]), line)))
def test_label_text_round_trip(folder, rows):
    path = write(folder, "a.txt", "".join(f"{label} {text}\n" for label, text in rows))
    expected = [{"label": label, "text": text} for label, text in rows]
    assert fields_of(path, format="label_text") == expected


def test_line_separators_within_a_text_stay(tmp_path):
    text = "one\x85two\u2028three\x0bfour\rfive"
    path = write(tmp_path, "a.txt", f"0 {text}\n")
    assert fields_of(path, format="label_text") == [{"label": "0", "text": text}]


def test_named_columns(tmp_path):
    path = write(tmp_path, "a.tsv", '1\tsays "so\n0\tno\n')
    assert fields_of(path, fields=("y", "x")) == [
        {"y": "1", "x": 'says "so'},
        {"y": "0", "x": "no"},
    ]


def test_gzipped_files(tmp_path):
    for name, content in (("a.jsonl.gz", '{"t": "é"}\n'), ("a.tsv.gz", "t\né\n")):
        path = write(tmp_path, name, gzip.compress(content.encode()))
        assert fields_of(path) == [{"t": "é"}]


def test_short_rows_are_left_out_where_asked(tmp_path):
    path = write(tmp_path, "a.tsv", "a\tb\n1\t2\n3\n\n4\t5\n")
    assert fields_of(path) == [{"a": "1", "b": "2"}, {"a": "3"}, {"a": "4", "b": "5"}]
    assert fields_of(path, skip_short=True) == [
        {"a": "1", "b": "2", "idx": 0},
        {"a": "4", "b": "5", "idx": 2},
    ]


def test_places_count_lines_and_not_records(tmp_path):
    path = write(tmp_path, "a.csv", 'a,b\n\n1,"two\nlines"\n2,x\n')
    assert [record["_at"] for record in TextFile(path).records()] == [f"{path}:4", f"{path}:5"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": \n', r"a\.jsonl:2: no JSON \(Expecting value"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl:1: no JSON \(maximum recursion depth exceeded"),
        ("a.jsonl", '["text"]\n', r'a\.jsonl:1: no JSON object with fields, but \["text"\]'),
        ("a.tsv", "a\tb\n1\t2\t3\n", r"a\.tsv:2: 3 columns, but 2 names for them: a, b"),
        ("a.csv", "a,a\n1,2\n", r"a\.csv: two columns of the same name in a, a"),
        ("a.csv", 'a,b\n1,"x"y\n', r"a\.csv:2: no CSV"),
        ("a.csv", 'a,b\n1,"never closed\n', r"a\.csv:2: no CSV"),
        ("a.csv", b"a,b\n1,\xff\n", r"a\.csv:2: not UTF-8"),
        ("a.txt", "0 a\n", r"a\.txt: unknown format 'txt'; there are jsonl, tsv, csv, label_text"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        list(TextFile(write(tmp_path, name, content)).records())


def test_label_without_text(tmp_path):
    path = write(tmp_path, "a.txt", "0 fine\n1\n")
    with pytest.raises(UserError, match=r"a\.txt:2: no text after the label '1'"):
        list(TextFile(path, "label_text").records())


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.jsonl: No such file"):
        list(TextFile(str(tmp_path / "nowhere.jsonl")).records())


def test_task_from_jsonl(tmp_path):
    content = (
        '{"t": "so good", "stars": 5, "ok": true}\n{"t": "so {bad}", "stars": 1, "ok": false}\n'
    )
    task = Text(
        "reviews",
        train=write(tmp_path, "a.jsonl", content),
        inputs="{{review}} {t} ({stars})",
        targets="{ok}",
        label_words={"False": "bad", True: "good"},
    )
    assert task.label_words == ("bad", "good")
    assert task.examples("train") == [
        {"idx": 0, "inputs": "{review} so good (5)", "targets": "good"},
        {"idx": 1, "inputs": "{review} so {bad} (1)", "targets": "bad"},
    ]
    assert [task.postprocess(text, {}) for text in ("bad", "good", "Good")] == [0, 1, -1]
    assert task.source.splits == ("train",)


def test_column_names_are_taken_as_they_are(tmp_path):
    path = write(tmp_path, "a.csv", "Class Index,a.b,a[0]\n3,x,y\n")
    task = Text("t", validation=path, inputs="{a.b}{a[0]}", targets="{Class Index}")
    assert task.examples("validation") == [{"idx": 0, "inputs": "xy", "targets": "3"}]
    assert task.label_words == ()
    assert task.postprocess("anything", {}) == "anything"


def test_words_alone_may_be_given(tmp_path):
    path = write(tmp_path, "a.tsv", "text\tlabel\na\tyes\n")
    task = Text("t", train=path, label_words=("no", "yes"), metrics=("accuracy", "mean_2class_f1"))
    assert task.label_words == ("no", "yes")
    assert task.selection == ("accuracy", "mean_2class_f1")
    assert task.examples("train")[0]["targets"] == "yes"


@pytest.mark.parametrize(
    ("record", "settings", "message"),
    [
        ({"label": 1}, {}, r":1: no field 'text', which template '\{text\}' needs; it has label"),
        ({"text": None, "label": 1}, {}, r":1: no field 'text'"),
        (
            {"text": "\udfff", "label": 1},
            {},
            r":1: field 'text' has half a character, .*udfff",
        ),
        ({"text": ["a"], "label": 1}, {}, r""":1: field 'text' is no text but \["a"\]"""),
        ({"text": "a"}, {}, r":1: no field 'label', which template '\{label\}' needs; it has text"),
        (
            {"text": "a", "label": 2},
            {"label_words": {"0": "bad", "1": "good"}},
            r":1: label '2' is not one of label_words 0, 1",
        ),
    ],
)
def test_bad_records(tmp_path, record, settings, message):
    task = Text("t", train=write(tmp_path, "a.jsonl", json.dumps(record)), **settings)
    with pytest.raises(UserError, match=r"a\.jsonl" + message):
        task.examples("train")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": None}, "task t: name a file for train, validation or test"),
        ({"train": "a.dat"}, "a.dat: unknown format 'dat'"),
        ({"format": "xml"}, "unknown format 'xml'"),
        ({"inputs": "{text"}, "template '{text': a brace that is no {field}; write it twice"),
        ({"targets": "{}"}, "template '{}': a brace"),
        ({"metrics": ("f1",)}, "no metric 'f1' for 0 label words; there are accuracy, exact_match"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Text("t", **{"train": "a.jsonl", **settings})


def test_split_that_is_not_there_or_empty(tmp_path):
    task = Text("t", train=write(tmp_path, "a.jsonl", "\n"))
    with pytest.raises(UserError, match="task t has no split 'validation'; it has train"):
        task.examples("validation")
    with pytest.raises(UserError, match=r"task t, split 'train': no examples in .*/a\.jsonl"):
        task.examples("train")


def test_mrpc_with_its_mark_and_quotes(shared):
    path = str(shared / "data/mrpc/msr_paraphrase_train.txt")
    template = "mrpc sentence1: {#1 String} sentence2: {#2 String}"
    words = {"0": "not_equivalent", "1": "equivalent"}
    task = Text("mrpc", path, format="tsv", inputs=template, targets="{Quality}", label_words=words)
    examples = task.examples("train")
    assert len(examples) == 4076
    assert examples[0]["targets"] == "equivalent"
    assert examples[0]["inputs"].startswith(
        'mrpc sentence1: Amrozi accused his brother, whom he called "the'
    )


def test_ag_news(shared):
    path = str(shared / "data/agnews/test.csv")
    task = Text("ag", test=path, inputs="{Title}. {Description}", targets="{Class Index}")
    examples = task.examples("test")
    assert len(examples) == 7600
    assert {example["targets"] for example in examples} == {"1", "2", "3", "4"}
