"""Batches of examples of about one length: none lost, few lengths, least padding, same results."""

import itertools
import json

import contract
import jax
import numpy as np
import pytest
import small
import tiny_run
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_tuning_jax import buckets, data, packing, t5
from prompt_tuning_jax.decoding import Sample, keys
from prompt_tuning_jax.evaluate import Evaluation
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.predictor import Predictor
from prompt_tuning_jax.tasks import metrics
from prompt_tuning_jax.tasks.sources import Generated
from prompt_tuning_jax.tasks.task import Task

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def cost(batches, batch_size, total_at_full_length):
    """What `by_length` makes small: tokens computed and a price for each length."""
    widths = [width for _, width in batches]
    price = max(buckets.SHAPE_TOKENS, buckets.SHAPE_PART * total_at_full_length)
    return sum(widths) * batch_size + price * len(set(widths))


@given(sizes=SIZES, batch_size=st.integers(1, 9))
@settings(deadline=None)
def test_each_example_is_in_one_batch_that_is_long_enough(sizes, batch_size):
    sizes, allowed = np.array(sizes), buckets.lengths(40)
    batches = buckets.by_length(sizes, batch_size, allowed)
    seen = np.concatenate([examples for examples, _ in batches])
    assert sorted(seen.tolist()) == list(range(len(sizes)))
    assert sizes[seen].tolist() == sorted(sizes.tolist())
    # only the first may be short of examples
    assert [len(examples) for examples, _ in batches[1:]] == [batch_size] * (len(batches) - 1)
    for examples, width in batches:
        assert 1 <= len(examples) <= batch_size
        assert width in allowed and sizes[examples].max() <= width


@given(sizes=st.lists(st.integers(1, 600), min_size=1, max_size=12), seed=st.integers(0, 9))
@settings(deadline=None)
def test_no_other_lengths_cost_less(sizes, seed):
    batch_size, allowed = 40, np.array([64, 128, 300, 512, 600])
    rng = np.random.default_rng(seed)
    sizes = np.concatenate([rng.integers(1, size + 1, batch_size) for size in sizes])
    found = buckets.by_length(sizes, batch_size, allowed)
    longest = [sizes[examples].max() for examples, _ in found]
    needed = allowed[np.searchsorted(allowed, longest)]
    whole = batch_size * needed.sum()

    def with_ladder(ladder):
        return [(None, min(w for w in ladder if w >= need)) for need in needed]

    ladders = [
        ladder
        for count in range(1, 6)
        for ladder in itertools.combinations(allowed, count)
        if ladder[-1] >= needed[-1]
    ]
    best = min(cost(with_ladder(ladder), batch_size, whole) for ladder in ladders)
    assert cost(found, batch_size, whole) == best


def test_lengths_by_hand():
    assert buckets.lengths(40).tolist() == [8, 16, 24, 32, 40]
    assert buckets.lengths(21).tolist() == [8, 16, 21]
    assert buckets.lengths(2).tolist() == [2]
    assert buckets.halvings(512).tolist() == [16, 32, 64, 128, 256, 512]
    assert buckets.halvings(50).tolist() == [25, 50]
    assert buckets.halvings(1).tolist() == [1]


def test_few_examples_are_compiled_once_and_many_at_several_lengths():
    few = np.array([5, 60, 300, 500])
    assert [width for _, width in buckets.by_length(few, 2, buckets.lengths(512))] == [504, 504]
    many = np.repeat(few, 1000)
    widths = [width for _, width in buckets.by_length(many, 8, buckets.lengths(512))]
    assert sorted(set(widths)) == [8, 64, 304, 504]


def test_nothing_to_predict():
    assert buckets.by_length(np.zeros(0, np.int64), 4, buckets.halvings(64)) == []


# ---- what is predicted does not depend on it -------------------------------------------------

WORDS = ("a", "good", "film", "it", "rains")
TEXTS = [" ".join((WORDS * 3)[:n]) for n in (1, 15, 2, 4, 3, 6, 5, 9, 7)]
LENGTHS = {"inputs": 64, "targets": 5}


@pytest.fixture(scope="module")
def predictor():
    with tiny_run.quickly():
        yield Predictor(
            t5.T5(small.CONFIG),
            small.theta(),
            t5.EMPTY,
            contract.vocabulary(),
            contract.one_device(),
            {},
        )


@pytest.fixture
def many_lengths(monkeypatch):
    """As if nothing had to be compiled."""
    monkeypatch.setattr(buckets, "SHAPE_TOKENS", 0)
    monkeypatch.setattr(buckets, "SHAPE_PART", 0)


def padded(predictor):
    """Every text in one batch as long as can be, in their order -> token ids [n,5]."""
    ids = [[*predictor.vocabulary.encode(text), 1] for text in TEXTS]
    batch = {"encoder_input_tokens": small.padded(ids, LENGTHS["inputs"])}
    rng = keys(jax.random.key(0), np.arange(len(TEXTS)), len(TEXTS))
    return predictor.decode(DECODER, LENGTHS["targets"], batch, rng).tolist()


DECODER = Sample(temperature=3.0)


def test_predictions_of_texts(predictor, many_lengths, monkeypatch):
    widths = []
    decode = Predictor.decode

    def noted(self, decoder, length, batch, *more):
        widths.append(batch["encoder_input_tokens"].shape[1])
        return decode(self, decoder, length, batch, *more)

    wanted = [predictor.vocabulary.decode(row) for row in padded(predictor)]
    monkeypatch.setattr(Predictor, "decode", noted)
    said = predictor.predict(TEXTS, decoder=DECODER, input_length=64, output_length=5, batch_size=2)
    assert widths == sorted(widths) and set(widths) == {16, 32, 64}
    assert said == wanted
    assert len(set(said)) == len(said)


def test_predictions_of_an_evaluation(predictor, many_lengths, tmp_path):
    source = Generated("made up", lambda split: [{"inputs": t, "targets": "a"} for t in TEXTS])
    task = Task("made_up", source, lambda record: [record], metrics=(metrics.accuracy,))
    tokens = data.tokenise(task, "validation", predictor.vocabulary, LENGTHS, cache_dir=tmp_path)
    evaluation = Evaluation(
        tokens, batch_size=2, partitioner=predictor.partitioner, decoder=DECODER
    )
    assert len({width for _, width in evaluation._batches._parts}) > 2
    model = predictor.model, predictor.theta, predictor.tuned
    scores = evaluation.run(*model, tmp_path)
    lines = (tmp_path / "made_up.jsonl").read_text().splitlines()
    wanted = [predictor.vocabulary.decode(row) for row in padded(predictor)]
    assert [json.loads(line)["prediction"] for line in lines] == wanted
    # the loss of all examples in one padded batch
    pairs = [tokens.pair(index, [0]) for index in range(len(tokens))]
    batch = packing.batch(pairs, packing.Shape(len(pairs), 64, 5, 1), np.arange(len(pairs)))
    sums = Loss().sums(small.logits(predictor.theta, batch), batch)
    loss = float(sums.loss / sums.tokens)
    assert scores["teacher_forced_loss"] == pytest.approx(loss, rel=1e-5)
