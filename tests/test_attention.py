"""Attention over groups of keys: the softmax of all of them together, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_t5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_tuning_jax.attention import MASKED, Keys, attention, softmax


def scores(sizes, seed, scale):
    """Arrays [2,3,size], some of their values masked, but for the first group's first."""
    rng = np.random.default_rng(seed)
    parts = [scale * rng.standard_normal((2, 3, size)) for size in sizes]
    for part in parts:
        part[rng.random(part.shape) < 0.2] = MASKED
    parts[0][..., 0] = 0.0
    return tuple(jnp.asarray(part, jnp.float32) for part in parts)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([1, 2, 5]), min_size=1, max_size=3),
    st.integers(0, 2**16),
    st.sampled_from([1.0, 30.0]),
)
def test_groups_have_the_softmax_of_the_joined_scores(sizes, seed, scale):
    parts = scores(sizes, seed, scale)
    joined = np.concatenate(parts, -1).astype(np.float64)
    found = np.concatenate(softmax(parts), -1)
    np.testing.assert_allclose(found, numpy_t5.softmax(joined), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("sizes", [(4,), (3, 2), (1, 5, 2)])
def test_the_gradient_is_the_softmax_s(sizes):
    """J = diag(w) - w w^T, written out."""
    parts = scores(sizes, 1, 1.0)
    wanted = [
        np.random.default_rng(7 + size).standard_normal((2, 3, size)).astype(np.float32)
        for size in sizes
    ]

    def chosen(parts):
        return sum((w * part).sum() for w, part in zip(wanted, softmax(parts), strict=True))

    found = np.concatenate(jax.grad(chosen)(parts), -1)
    w = numpy_t5.softmax(np.concatenate(parts, -1).astype(np.float64))
    by_hand = w[..., :, None] * np.eye(sum(sizes)) - w[..., :, None] * w[..., None, :]
    by_hand = np.einsum("abij,abj->abi", by_hand, np.concatenate(wanted, -1))
    np.testing.assert_allclose(found, by_hand, atol=2e-6)


def test_keys_in_two_groups_are_keys_in_one():
    """All examples' own and those that all have; dropping is asked of each group's weights."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, n, 3, 4)).astype(np.float32) for n in (5, 6, 6))
    rows = rng.standard_normal((2, 7, 3, 4)).astype(np.float32)
    bias = rng.standard_normal((1, 3, 5, 6)).astype(np.float32)
    visible = rng.random((2, 5, 6)) < 0.7
    dropped = []

    def drop(weights):
        dropped.append(weights.shape)
        return weights

    found = attention(q, [Keys(k, v, bias, visible), Keys(rows[0], rows[1])], drop)
    s = np.einsum("bthk,bshk->bhts", q, k) + bias + np.where(visible[:, None], 0, MASKED)
    weights = numpy_t5.softmax(np.concatenate([s, np.einsum("bthk,shk->bhts", q, rows[0])], -1))
    both = np.concatenate([v, np.broadcast_to(rows[1], (2, 7, 3, 4))], 1)
    np.testing.assert_allclose(found, np.einsum("bhts,bshk->bthk", weights, both), atol=1e-5)
    assert dropped == [(2, 3, 5, 6), (2, 3, 5, 7)]
