"""Corpora out of files and TFDS: what is a document, what is held out, and what errors say."""

import gzip
import json
import os
import pathlib
import shutil

import pytest
import tfds_corpus
from hypothesis import given
from hypothesis import strategies as st

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import corpora, objectives

NOVEL = "\ufeffChapter one\r\n\r\n\r\nIt rained,\r\nand it rained.\n \t\nThe end"


def corpus(**settings):
    return corpora.Corpus("own", corpora.Texts(**settings), objectives.PrefixLM())


def texts(source, split="train", data_dir=None):
    """The split's documents by the last part of their shard's name."""
    shards = source.shards(split, data_dir)
    return {pathlib.Path(shard.name).name: list(shard.texts()) for shard in shards}


def write(path: pathlib.Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


@pytest.mark.parametrize("name", ["a.txt", "a", "a.txt.gz"])
def test_documents_of_a_text(tmp_path, name):
    path = write(tmp_path / name, NOVEL)
    found = {d: texts(corpus(train=path, document=d).source)[name] for d in corpora.DOCUMENTS}
    assert found["line"] == ["Chapter one", "It rained,", "and it rained.", "The end"]
    assert found["paragraph"] == ["Chapter one", "It rained,\r\nand it rained.", "The end"]
    assert found["file"] == [NOVEL.strip("\ufeff")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "c4-train.00000-of-01024.json.gz"])
def test_documents_of_json_lines(tmp_path, name):
    records = [{"text": " one\n\ntwo ", "url": "x"}, {"text": "three"}, {"text": "\n"}]
    path = write(tmp_path / name, "".join(json.dumps(record) + "\n\n" for record in records))
    assert texts(corpus(train=path).source)[name] == ["one\n\ntwo", "three"]
    write(tmp_path / name, json.dumps({"content": "four", "text": "five"}))
    assert texts(corpus(train=path, field="content").source)[name] == ["four"]


def test_files_by_patterns_and_what_is_held_out(tmp_path):
    for name in ("b.txt", "a.txt", "c.txt", "deep/d.txt", "e.md"):
        write(tmp_path / name, name)
    task = corpus(
        train=[f"{tmp_path}/**/*.txt", f"{tmp_path}/a*", f"{tmp_path}/./b.txt"],
        validation=f"{tmp_path}/[bz].txt",
    )
    assert list(texts(task.source)) == ["a.txt", "c.txt", "d.txt"]
    assert list(texts(task.source, "validation")) == ["b.txt"]
    assert task.source.splits == ("train", "validation")
    records = list(task.source.records("validation"))
    assert records == [{"text": "b.txt", "_at": f"{tmp_path}/b.txt"}]


@given(st.text(st.sampled_from("ab \n"), max_size=200), st.integers(1, 50), st.integers(1, 20))
def test_pieces_lose_nothing(text, chunk, longest):
    chunks = [text[start : start + chunk] for start in range(0, len(text), chunk)]
    found = list(corpora.pieces(chunks, longest))
    assert all(0 < len(piece) <= longest and piece == piece.strip() for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())
    words = [word for word in text.split() if len(word) <= longest]
    if len(words) == len(text.split()):  # no word was cut
        assert [word for piece in found for word in piece.split()] == words


def test_a_file_of_one_line_is_read_in_pieces(tmp_path):
    words = " ".join(f"word{number}" for number in range(30_000))  # 288,889 characters
    path = write(tmp_path / "a.txt", words)
    found = texts(corpus(train=path, document="file").source)["a.txt"]
    assert len(found) == 5 and max(map(len, found)) <= corpora.LONGEST
    assert " ".join(found) == words


def test_a_changed_file_has_another_state(tmp_path):
    path = pathlib.Path(write(tmp_path / "a.txt", "text " * 100_000))

    def state(file=path):
        return corpora.TextShard(str(file), "file", "text").state()

    before = state()
    os.utime(path, (1, 1))
    copy = shutil.copy(path, tmp_path / "b.txt")
    assert state() == before == state(copy)
    write(path, "text " * 99_999 + "next ")
    assert state() != before
    write(path, "text " * 100_001)
    assert state() != before
    small = write(tmp_path / "c.txt", "x" * 5000)
    before = state(small)
    write(tmp_path / "c.txt", "x" * 2500 + "y" + "x" * 2499)
    assert state(small) != before


@pytest.mark.parametrize(
    "settings, said",
    [
        ({}, ("corpus: give", "TRAIN_FILES", "TFDS_NAME")),
        ({"train": "a.txt", "tfds": "c4/en"}, ("the one or the other",)),
        ({"train": "a.txt", "document": "page"}, ("'page'", "line, paragraph, file")),
        ({"train": "a.txt", "together": 0}, ("together = 0",)),
        ({"train": "a.txt", "shuffled": 0}, ("shuffled = 0",)),
    ],
)
def test_a_wrong_setting(settings, said):
    with pytest.raises(UserError) as error:
        corpus(**settings)
    assert all(part in str(error.value) for part in said)


@pytest.mark.parametrize("objective", [objectives.PrefixLM, len, "span_corruption"])
def test_an_objective_that_is_none(objective):
    with pytest.raises(UserError, match=r"write @objectives.SpanCorruption\(\)"):
        corpora.Corpus("own", corpora.Texts("a.txt"), objective)


@pytest.mark.parametrize(
    "patterns, said",
    [
        ({"train": "{}/*.md"}, ("split 'train'", "/*.md: no such file")),
        ({"train": "{}"}, ("is a folder: write", "/*")),
        ({"train": "{}/*", "validation": "{}/*"}, ("every file is held out",)),
        ({"train": "{}/*", "validation": "{}/b*"}, ("split 'validation'", "/b*: no such file")),
    ],
)
def test_files_that_are_not_there(tmp_path, patterns, said):
    write(tmp_path / "a.txt", "a")
    task = corpus(**{split: text.format(tmp_path) for split, text in patterns.items()})
    with pytest.raises(UserError) as error:
        task.source.shards("train")
    assert all(part in str(error.value) for part in said)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.jsonl", '{"text": "a"}\n\n{"text"\n', "a.jsonl:3: no JSON"),
        ("a.jsonl", '{"text": "a"}\n["text"]\n', "a.jsonl:2: no JSON object"),
        ("a.jsonl", '{"url": "a"}\n', "a.jsonl:1: no field 'text', which a corpus needs; it has"),
        ("a.jsonl", '{"text": "a"}\n{"text": 7}\n', "a.jsonl:2: field 'text' is no text but 7"),
        ("a.txt", b"fine\nnot \xff\n", "a.txt:2: not UTF-8"),
        ("a.txt.gz", b"no gzip", "a.txt.gz: Not a gzipped file"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        texts(corpus(train=str(path)).source)
    assert said in str(error.value)


# ---- TFDS ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("tfds")
    splits = {"train": [f"text number {n}" for n in range(20)], "validation": ["a", "b", "\n"]}
    tfds_corpus.prepare(folder, splits, shards=3)
    return folder


def test_each_file_of_tfds_is_a_shard(tfds_folder):
    import tensorflow_datasets as tfds  # as TFDS itself reads it, from one end to the other

    source = corpus(tfds="own_corpus/en:1.0.0").source
    found = texts(source, data_dir=str(tfds_folder))
    assert [len(documents) for documents in found.values()] == [7, 6, 7]
    builder = tfds.builder_from_directory(tfds_folder / "own_corpus" / "en" / "1.0.0")
    whole = [r["text"].decode() for r in tfds.as_numpy(builder.as_dataset(split="train"))]
    assert [text for documents in found.values() for text in documents] == whole
    assert sorted(whole) == sorted(f"text number {n}" for n in range(20))
    held_out = texts(source, "validation", str(tfds_folder))
    assert sorted(sum(held_out.values(), [])) == ["a", "b"]
    states = {shard.state() for shard in source.shards("train", str(tfds_folder))}
    assert len(states) == 3


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"tfds": "c4/en"}, ("TFDS's c4/en", "it is not in", "/c4/en/", "prepare it")),
        ({"tfds": "no_corpus/en"}, ("TFDS's no_corpus/en", "not found")),
        ({"tfds": "own_corpus/en", "field": "txt"}, ("no field 'txt'; it has text, url",)),
    ],
)
def test_what_tfds_has_not(tfds_folder, settings, said):
    with pytest.raises(UserError) as error:
        corpus(**settings).source.shards("train", str(tfds_folder))
    assert all(part in str(error.value) for part in said) and "\n" not in str(error.value)


def test_a_split_that_tfds_has_not(tmp_path):
    tfds_corpus.prepare(tmp_path, {"train": ["a"]}, shards=1)
    with pytest.raises(UserError, match="its splits are train"):
        corpus(tfds="own_corpus/en").source.shards("validation", str(tmp_path))


# ---- real data -------------------------------------------------------------------------------


def test_real_corpora(shared):
    folder = shared / "data" / "corpus"
    c4 = texts(corpus(train=str(folder / "c4" / "c4_train.jsonl")).source)["c4_train.jsonl"]
    assert len(c4) == 1000
    for document in corpora.DOCUMENTS:
        name = "Bennet_Babylon_1902.txt"
        novel = str(folder / "english_novels" / name)
        found = texts(corpus(train=novel, document=document).source)[name]
        words = pathlib.Path(novel).read_text("utf-8-sig").split()
        assert [word for text in found for word in text.split()] == words
        assert max(map(len, found)) <= corpora.LONGEST
