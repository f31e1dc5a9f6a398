"""A vocabulary of one's own: the sample, T5's special ids, the command, what is refused."""

import itertools
import json
import random
import re

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from test_windows import Listed

from prompt_tuning_jax import launch, vocabulary
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.demo.documents import documents
from prompt_tuning_jax.train_vocabulary import sample
from prompt_tuning_jax.vocabulary import Vocabulary


def texts(count=400, seed=0):
    # no character too rare to become a piece, and no letters that only z*.txt is to bring
    made = (text for text in documents(random.Random(seed)) if not re.search("[_/]|zz", text))
    return list(itertools.islice(made, count))


shards_of_sizes = st.lists(st.lists(st.integers(1, 40), max_size=6), min_size=1, max_size=5)


@given(shards_of_sizes, st.integers(1, 300), st.integers(0, 9))
def test_a_sample_is_as_large_as_asked_or_everything(sizes, characters, seed):
    shards = [Listed(f"{n}", ["x" * size for size in shard]) for n, shard in enumerate(sizes)]
    found = list(sample(shards, characters, seed))
    assert found == list(sample(shards, characters, seed))
    total, longest = sum(map(sum, sizes)), max(sum(sizes, [0]))
    size = sum(map(len, found))
    assert min(total, characters) <= size < characters + longest


def test_a_sample_is_of_all_shards_and_reads_no_more():
    shards = [Listed(f"{n}", [f"{n}" * 10] * 1000) for n in range(4)]
    found = list(sample(shards, 400, 0))
    assert sorted(found) == sorted(f"{n}" * 10 for n in range(4) for _ in range(10))
    assert [shard.seen for shard in shards] == [10] * 4
    # what short shards have not the others give
    for shard in shards[1:3]:
        shard.documents = shard.documents[:1]
    found = list(sample(shards, 400, 0))
    assert sorted(found) == sorted([*["0" * 10, "3" * 10] * 19, "1" * 10, "2" * 10])


def test_t5s_special_ids_and_the_same_bytes_each_time(tmp_path):
    content = vocabulary.train(texts(), 300)
    assert content == vocabulary.train(texts(), 300)
    (tmp_path / "own.model").write_bytes(content)
    plain = sentencepiece.SentencePieceProcessor(model_proto=content)
    assert plain.piece_size() == 300
    assert (plain.pad_id(), plain.eos_id(), plain.unk_id(), plain.bos_id()) == (0, 1, 2, -1)
    own = Vocabulary(str(tmp_path / "own.model"), 100)
    assert (own.pieces, own.vocab_size, own.sentinel(0)) == (300, 400, 399)
    for text in texts(20, seed=1):
        assert own.decode(own.encode(text)) == text


def test_bytes_spell_what_no_piece_does(tmp_path):
    for pieces, fallback in ((300, False), (500, True)):
        content = vocabulary.train(texts(), pieces, byte_fallback=fallback)
        (tmp_path / "own.model").write_bytes(content)
        own = Vocabulary(str(tmp_path / "own.model"), 10)
        assert (own.unk_id in own.encode("漢字")) is not fallback
        if fallback:
            assert own.decode(own.encode("漢字")) == "漢字"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts()))
    (tmp_path / "b.txt").write_text("\n\n".join(texts(200, seed=2)))
    (tmp_path / "zebra.txt").write_text("zzzebra " * 200)
    return tmp_path


def run(capsys, *argv):
    status = launch.main("train_vocabulary", argv)
    return status, capsys.readouterr().err


def test_the_command(folder, capsys):
    argv = ("--files=*.*", "--gin.VALIDATION_FILES=z*.txt", "--gin.PIECES=200")
    status, said = run(capsys, *argv, "--output=out/own.model")
    assert status == 0, said
    assert "200 pieces of 600 documents" in said and "out/own.model" in said
    own = Vocabulary("out/own.model", 0)
    assert own.pieces == 200
    assert not any("zz" in own.piece(token) for token in range(200))
    assert run(capsys, *argv, "--output=out/again.model")[0] == 0
    assert (folder / "out" / "again.model").read_bytes() == (
        folder / "out" / "own.model"
    ).read_bytes()
    assert run(capsys, *argv, "--output=out/less.model", "--gin.CHARACTERS=20000")[0] == 0
    assert (folder / "out" / "less.model").read_bytes() != (
        folder / "out" / "again.model"
    ).read_bytes()


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--gin.PIECES=100000"], "Vocabulary size too high (100000)"),
        (["--gin.PIECES=5"], "Vocabulary size is smaller than required_chars"),
        (["--gin.PIECES=0"], "PIECES = 0"),
        (["--gin.CHARACTERS=0"], "CHARACTERS = 0"),
        (["--gin.CHARACTER_COVERAGE=2.0"], "CHARACTER_COVERAGE = 2.0"),
        (["--output=."], ". is a folder"),
        (["--files=absent/*"], "absent/*: no such file"),
        (["--files=empty.txt"], "no text in empty.txt"),
        (["--files=broken.jsonl"], "broken.jsonl:1: no JSON"),
        (["--tfds=c4/en"], "the one or the other"),
    ],
)
def test_what_is_refused_in_one_line(folder, capsys, argv, said):
    (folder / "empty.txt").write_text("\n \n")
    (folder / "broken.jsonl").write_text("{")
    before = sorted(folder.iterdir())
    status, err = run(capsys, "--files=[ab].*", "--output=own.model", *argv)
    error = err.splitlines()[-1]
    assert status == 2 and error.startswith("error: ") and said in error
    assert sorted(folder.iterdir()) == before


def test_a_vocabulary_of_real_text(shared, tmp_path, capsys):
    file = shared / "data/corpus/c4/c4_train.jsonl"
    argv = [f"--files={file}", f"--output={tmp_path / 'c4.model'}", "--gin.PIECES=4000"]
    assert run(capsys, *argv)[0] == 0
    own = Vocabulary(str(tmp_path / "c4.model"), 100)
    held_out = (shared / "data/corpus/c4/c4_validation.jsonl").read_text().splitlines()
    held_out = [json.loads(line)["text"] for line in held_out]
    ids = np.concatenate([own.encode(text) for text in held_out])
    assert (ids == own.unk_id).mean() < 0.005
    assert sum(map(len, held_out)) / len(ids) > 3.3  # characters a token


def test_a_wrong_setting_of_sentencepiece():
    with pytest.raises(UserError, match="300 pieces cannot be made"):
        vocabulary.train(texts(), 300, character_coverage=7.0)
