"""Objectives: cases by hand, T5's own golden examples, and properties of every mask and split.

tests/parity/test_t5_objectives.py has them against T5's functions.
"""

import itertools
import json

import numpy as np
import pytest
import tiny_vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st
from t5_examples import T5_SIZE, Ids, runs, seqio_seeds, t5s_examples

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import pretraining, stateless
from prompt_tuning_jax.vocabulary import Vocabulary

SEEDS = st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 2)


def joined(inputs, targets, vocabulary):
    """The document: each sentinel of the inputs replaced by what follows it in the targets."""
    sentinels = {vocabulary.sentinel(i) for i in range(vocabulary.extra_ids)}
    spans, current = {}, None
    for token in map(int, targets):
        if token in sentinels:
            current = token
            spans[current] = []
        else:
            spans[current].append(token)
    return [t for token in map(int, inputs) for t in spans.get(token, [token])]


def test_corrupt_by_hand():
    ids = np.array([11, 12, 13, 14, 15, 16], np.int32)
    mask = np.array([False, False, True, True, False, True])
    inputs, targets = pretraining.corrupt(ids, mask, Ids(100, 8))
    assert inputs.tolist() == [11, 12, 99, 15, 98]
    assert targets.tolist() == [99, 13, 14, 98, 16]


def test_a_real_vocabulary_gives_its_last_ids_as_sentinels(tmp_path):
    vocabulary = Vocabulary(tiny_vocabulary.train(tmp_path), extra_ids=4)
    ids, mask = np.array([3, 4, 5], np.int32), np.array([False, True, False])
    inputs, _ = pretraining.corrupt(ids, mask, vocabulary)
    assert inputs.tolist() == [3, vocabulary.vocab_size - 1, 5]


def test_more_spans_than_sentinels():
    mask = np.tile([False, True], 3)
    with pytest.raises(UserError, match="3 spans of a document of 6 tokens.*2 sentinels"):
        pretraining.corrupt(np.arange(6, dtype=np.int32), mask, Ids(100, 2))


# The first two are T5's own numbers for its usual lengths (512 -> 568 and 114); the third follows
# by hand: 53 tokens have 8 noise tokens (7.95) in 3 spans, so 53 - 8 + 3 + 1 = 49 > 48.
@pytest.mark.parametrize(
    ("inputs_length", "expected"), [(512, (568, 114)), (1024, (1137, 229)), (48, (52, 12))]
)
def test_lengths(inputs_length, expected):
    assert pretraining.span_corruption_lengths(inputs_length) == expected


def test_the_last_span_is_the_documents_end_where_one_is_enough():
    # 20 tokens have 3 noise tokens, one span: no choice is left
    mask = pretraining.random_spans_noise_mask(20, [(0, 0), (0, 1)])
    assert mask.tolist() == [False] * 17 + [True] * 3


# (length, seeds) -> what t5 0.9.4 draws at its usual density and span length: starts and ends of
# the noise spans. test_t5_objectives.py has many more.
T5S_SPANS = {
    (60, ((1, 2), (3, 4))): [[14, 18], [53, 56], [58, 60]],
    (80, ((94047, 94048), (-5, 2**40))): [[3, 4], [38, 45], [68, 69], [77, 80]],
}


@pytest.mark.parametrize(("length", "seeds"), T5S_SPANS)
def test_mask_of_t5s_seeds(length, seeds):
    mask = pretraining.random_spans_noise_mask(length, seeds)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    assert edges.reshape(-1, 2).tolist() == T5S_SPANS[length, seeds]


def test_more_spans_than_there_is_room_for():
    # 3 tokens, 2 noise (1.5 to even) in spans of 1: 2 spans, of which the one kept token allows 1
    mask = pretraining.random_spans_noise_mask(3, [(0, 0), (0, 1)], 0.5, 1.0)
    assert mask.tolist() == [False, True, True]


@pytest.mark.parametrize("ids", [[], [7]])
def test_a_document_that_has_nothing_to_corrupt(ids):
    inputs, targets = pretraining.span_corruption(
        ids, np.random.default_rng(0), Ids(T5_SIZE), {"inputs": 8, "targets": 8}
    )
    # what is kept is one sentinel of the targets
    assert (inputs.tolist(), targets.tolist()) == (ids, [T5_SIZE - 1] * len(ids))


def test_all_masks_are_equally_likely():
    # 7 tokens, 4 noise in 2 spans: 3 ways for the noise, 2 for the 3 others
    draws = 6000
    seen: dict[tuple, int] = {}
    for seeds in stateless.split((0, 0), 2 * draws).reshape(draws, 2, 2):
        mask = tuple(pretraining.random_spans_noise_mask(7, seeds, 0.5, 2.0).tolist())
        seen[mask] = seen.get(mask, 0) + 1
    assert len(seen) == 6
    # a share of 1/6 has a standard deviation of 0.0048
    assert np.allclose(np.array(list(seen.values())) / draws, 1 / 6, atol=0.025)


@settings(deadline=None)
@given(
    length=st.integers(2, 300),
    density=st.floats(0.05, 0.5),
    mean=st.floats(1.0, 6.0),
    seeds=st.tuples(SEEDS, SEEDS),
)
def test_mask_has_t5s_numbers_of_tokens_and_spans(length, density, mean, seeds):
    mask = pretraining.random_spans_noise_mask(length, seeds, density, mean)
    noise = min(max(int(np.rint(np.float32(length) * np.float32(density))), 1), length - 1)
    spans = max(int(np.rint(np.float32(noise) / np.float32(mean))), 1)
    assert mask.shape == (length,)
    assert mask.sum() == noise
    assert runs(mask) == min(spans, length - noise)
    assert not mask[0] and mask[-1]


@settings(deadline=None)
@given(
    ids=st.lists(st.integers(3, 30000), min_size=2, max_size=300), seed=st.integers(0, 2**32 - 1)
)
def test_span_corruption_keeps_every_token(ids, seed):
    vocabulary = Ids(T5_SIZE)
    inputs, targets = pretraining.span_corruption(
        ids, np.random.default_rng(seed), vocabulary, {"inputs": 512, "targets": 114}
    )
    assert joined(inputs, targets, vocabulary) == ids
    marks = [token for token in targets.tolist() if token >= T5_SIZE - 100]
    assert marks == [T5_SIZE - 1 - i for i in range(len(marks))]
    assert [token for token in inputs.tolist() if token >= T5_SIZE - 100] == marks


def test_a_long_document_fills_the_lengths_exactly():
    rng = np.random.default_rng(3)
    ids = np.arange(3, 3003)
    inputs, targets = pretraining.span_corruption(
        ids, rng, Ids(T5_SIZE), {"inputs": 512, "targets": 114}
    )
    assert (len(inputs), len(targets)) == (511, 113)
    window = joined(inputs, targets, Ids(T5_SIZE))
    assert window == list(range(window[0], window[0] + 568))
    starts = {
        pretraining.prefix_lm(ids, rng, Ids(T5_SIZE), {"inputs": 64, "targets": 64})[0][0]
        for _ in range(20)
    }
    assert len(starts) > 10


@settings(deadline=None)
@given(
    length=st.integers(1, 120),
    inputs=st.integers(8, 64),
    targets=st.integers(4, 64),
    seed=st.integers(0, 2**32 - 1),
)
def test_prefix_lm_splits_a_window_and_cuts_nothing(length, inputs, targets, seed):
    ids = np.arange(3, 3 + length)
    prefix, rest = pretraining.prefix_lm(
        ids, np.random.default_rng(seed), Ids(T5_SIZE), {"inputs": inputs, "targets": targets}
    )
    whole = [*prefix.tolist(), *rest.tolist()]
    assert whole == list(range(whole[0], whole[0] + min(length, inputs - 1)))
    assert len(rest) >= 1 and len(rest) <= max(targets - 1, 1)
    assert len(prefix) >= min(1, length - 1)


def test_prefix_lm_splits_uniformly():
    rng = np.random.default_rng(0)
    lengths = {"inputs": 64, "targets": 64}
    draws = [
        len(pretraining.prefix_lm(range(6), rng, Ids(T5_SIZE), lengths)[0]) for _ in range(5000)
    ]
    shares = np.bincount(draws, minlength=6) / 5000
    assert shares[0] == 0
    # a share of 1/5 has a standard deviation of 0.0057
    assert np.allclose(shares[1:], 0.2, atol=0.03)


def test_seqio_hands_out_these_seeds():
    seqio = pytest.importorskip("seqio")
    tf = pytest.importorskip("tensorflow")
    seed_of = seqio.map_over_dataset(num_seeds=1)(lambda element, seed: tf.stack(seed))
    with seqio.map_seed_manager(94043):
        first, second = (seed_of(tf.data.Dataset.range(9)) for _ in range(2))
    for dataset, number in ((first, 94043), (second, 94045)):
        expected = [tuple(map(int, seed)) for seed in dataset.as_numpy_iterator()]
        assert list(itertools.islice(seqio_seeds(number), 9)) == expected


def test_t5s_examples_of_three_small_documents(tmp_path):
    documents = [[*range(3, 80)], [80], [*range(3, 40)]]
    file = tmp_path / "documents.jsonl"
    file.write_text("".join(json.dumps({"targets": ids}) + "\n" for ids in documents))
    ours = list(t5s_examples(file, {"inputs": 48, "targets": 16}, 94043, size=100))
    # made by t5 0.9.4
    assert [targets.tolist() for _, targets in ours] == [
        [99, 14, 15, 16, 17, 98, 41, 42, 43, 97, 54],
        [99, 62, 63, 98, 76, 77, 78, 79, 97, 27, 28],
        [99, 38, 39],
    ]
    whole = [token for pair in ours for token in joined(*pair, Ids(100, 8))]
    assert whole == [token for document in documents for token in document]


def test_t5s_golden_examples(shared):
    """T5's first 20 examples of C4 at seqio's seed 94043, of the same documents."""
    folder = shared / "data/span_corruption"
    golden = [json.loads(line) for line in (folder / "golden_20.jsonl").open()]
    assert len(golden) == 20
    ours = t5s_examples(folder / "tokenized_500.jsonl", {"inputs": 1024, "targets": 1024}, 94043)
    for example, (inputs, targets) in zip(golden, ours, strict=False):
        assert inputs.tolist() == example["inputs"]
        assert targets.tolist() == example["targets"]
