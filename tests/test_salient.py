"""Objectives that go by a document's marks, on documents written by hand."""

import collections

import numpy as np
import pytest

from prompt_tuning_jax import backbones
from prompt_tuning_jax.tasks import salient
from prompt_tuning_jax.vocabulary import Vocabulary

LENGTHS = {"inputs": 32, "targets": 16}
DOCUMENT = "anna is a baker. ben is a farmer. list. ben[ farmer], anna[ baker]. so[ we have it]"


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary(*backbones.find("builtin://demo").vocabulary)


def _pair(objective, text, vocabulary, lengths=LENGTHS, seed=0):
    ids = vocabulary.encode(text)
    return objective(ids, np.random.default_rng(seed), vocabulary, lengths)


def test_all_marked_spans_are_in_the_targets(vocabulary):
    inputs, targets = _pair(salient.span_corruption, DOCUMENT, vocabulary)
    first, second, third, last = (vocabulary.sentinel(i) for i in range(4))
    told = vocabulary.encode("anna is a baker. ben is a farmer. list. ben")
    comma, stop = vocabulary.encode("ben, ben.")[1::2]
    anna, so = vocabulary.encode("anna so")
    assert inputs.tolist() == [*told, first, comma, anna, second, stop, so, third]
    farmer, baker = vocabulary.encode("farmer baker")
    we_have_it = vocabulary.encode("we have it")
    # what T5's span corruption says: spans led by sentinels; the one at the text's end is the last
    assert targets.tolist() == [first, farmer, second, baker, third, *we_have_it]
    assert last not in targets
    assert inputs.dtype == targets.dtype == np.int32


def test_a_prefix_ends_where_a_marked_span_begins(vocabulary):
    found = collections.Counter(
        tuple(map(vocabulary.decode, _pair(salient.prefix_lm, DOCUMENT, vocabulary, seed=seed)))
        for seed in range(300)
    )
    whole = "anna is a baker. ben is a farmer. list. ben"
    assert set(found) == {
        (whole, "farmer, anna baker. so we have it"),
        (f"{whole} farmer, anna", "baker. so we have it"),
        (f"{whole} farmer, anna baker. so", "we have it"),
    }
    # one as likely as another
    assert min(found.values()) > 70


@pytest.mark.parametrize(("room", "rest"), [(7, "baker. so we have it"), (6, "we have it")])
def test_a_prefix_leaves_a_rest_that_fits_with_its_eos(vocabulary, room, rest):
    lengths = {"inputs": 32, "targets": room}
    rests = {
        vocabulary.decode(_pair(salient.prefix_lm, DOCUMENT, vocabulary, lengths, seed)[1])
        for seed in range(50)
    }
    assert rest in rests
    assert all(len(vocabulary.encode(text)) < room for text in rests)


def test_where_no_rest_fits_the_last_is_cut(vocabulary):
    lengths = {"inputs": 32, "targets": 3}
    inputs, targets = _pair(salient.prefix_lm, DOCUMENT, vocabulary, lengths)
    assert vocabulary.decode(inputs).endswith("anna baker. so")
    assert vocabulary.decode(targets) == "we have"


def test_a_document_without_its_marks():
    assert salient.unmarked("a[ b], c[ d].") == "a b, c d."
