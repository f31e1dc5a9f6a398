"""Batches of examples of about one length: none lost, none too long, few lengths, least padding."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_tuning_jax import buckets

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
