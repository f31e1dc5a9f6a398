"""Vocabulary by hand; its equality with seqio's is in test_seqio.py."""

import copy

import pytest
import tiny_vocabulary

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Vocabulary(tiny_vocabulary.train(tmp_path_factory.mktemp("vocabulary")), extra_ids=10)


def test_t5_ids(shared):
    t5 = Vocabulary(shared / "data/vocab/cc_all.32000.sentencepiece.model")
    assert (t5.pieces, t5.extra_ids, t5.vocab_size) == (32000, 100, 32100)
    text = "This is a test of prompt tuning."
    assert t5.encode(text) == [100, 19, 3, 9, 794, 13, 9005, 23668, 5]
    assert t5.decode([100, 19, 3, 9, 794, 13, 9005, 23668, 5, 1, 0, 0]) == text
    assert t5.piece(19) == "▁is"
    assert t5.encode("<extra_id_0> is <extra_id_99>") == [32099, 19, 32000]
    assert (t5.sentinel(0), t5.sentinel(99)) == (32099, 32000)


def test_text_comes_back(tiny):
    text = "a good cat was on the mat."
    ids = tiny.encode(text)
    assert tiny.eos_id not in ids
    assert tiny.decode(ids) == text
    assert "".join(map(tiny.piece, ids)).replace("▁", " ").strip() == text


def test_decode_stops_at_the_first_eos_and_skips_padding(tiny):
    good, bad = tiny.encode("good"), tiny.encode("bad")
    assert tiny.decode([*good, tiny.eos_id, *bad]) == "good"
    assert tiny.decode([tiny.pad_id, *good, tiny.pad_id, tiny.pad_id]) == "good"


def test_ids_beyond_the_vocabulary_read_as_unknown(tiny):
    good = tiny.encode("good")
    assert tiny.decode([*good, tiny.vocab_size + 7]) == tiny.decode([*good, tiny.unk_id])


def test_sentinels_count_down_from_the_last_id(tiny):
    assert [tiny.sentinel(i) for i in (0, 9)] == [tiny.vocab_size - 1, tiny.pieces]
    assert tiny.piece(tiny.sentinel(3)) == "▁<extra_id_3>"
    with pytest.raises(UserError, match="no sentinel 10"):
        tiny.sentinel(10)


def test_equal_by_content(tiny, tmp_path):
    copied = tmp_path / "copy.model"
    with open(tiny.model_file, "rb") as file:
        copied.write_bytes(file.read())
    same = Vocabulary(str(copied), extra_ids=10)
    assert same == tiny and hash(same) == hash(tiny)
    assert Vocabulary(str(copied), extra_ids=9) != tiny
    # gin copies what it passes on.
    assert copy.deepcopy(tiny).encode("a cat") == tiny.encode("a cat")


def test_bad_files(tmp_path):
    with pytest.raises(UserError, match=r"missing.model: No such file"):
        Vocabulary(str(tmp_path / "missing.model"))
    (tmp_path / "text.model").write_text("no model at all")
    with pytest.raises(UserError, match=r"text.model: no SentencePiece model"):
        Vocabulary(str(tmp_path / "text.model"))
    with pytest.raises(UserError, match=r"pad, eos, unk are \(3, 1, 0\)"):
        Vocabulary(tiny_vocabulary.train(tmp_path, pad_id=3, unk_id=0, bos_id=2))
