"""Stateless random numbers: published values of Philox, values of TensorFlow, TensorFlow itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_tuning_jax.tasks import stateless

SEEDS = st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 2)


# Known answers of Random123 (Salmon et al.), of counter and key; the last are digits of pi.
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox(counter, key, words):
    assert list(stateless.philox(*counter, *key)) == words
    arrays = np.repeat(np.array(counter, np.uint64)[:, None], 3, axis=1)
    assert np.stack(stateless.philox(*arrays, *key)).tolist() == [[word] * 3 for word in words]


# What TensorFlow 2.21 gives for the seed (1, 2).
def test_values_of_tensorflow():
    uniform = [0.84406042, 0.19204533, 0.99622321, 0.1603874, 0.27199018, 0.649346]
    assert stateless.uniform((1, 2), 6).tolist() == np.float32(uniform).tolist()
    # 0.16 0.19 0.27 0.65 0.84 0.99
    assert stateless.permutation((1, 2), 6).tolist() == [3, 1, 4, 5, 0, 2]
    seeds = [
        [7464880146280614444, 1591045637757961278],
        [-1057468755545501549, 2524363516007002203],
    ]
    assert stateless.split((1, 2), 2).tolist() == seeds
    assert stateless.split((1, 2), 6)[:2].tolist() == seeds


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


# Up to 64 numbers are drawn one block at a time, more of them at once.
@settings(deadline=None)
@given(seed=SEEDS, size=st.integers(0, 200))
def test_tensorflows_numbers(tf, seed, size):
    theirs = tf.constant(seed, tf.int64)
    uniform = stateless.uniform(seed, size)
    expected = tf.random.stateless_uniform([size], theirs).numpy()
    assert uniform.dtype == expected.dtype
    np.testing.assert_array_equal(uniform, expected)
    split = stateless.split(seed, size)
    expected = tf.random.split(theirs, size).numpy()
    assert split.dtype == expected.dtype
    np.testing.assert_array_equal(split, expected)


def test_seeds_of_32_bits(tf):
    for seed in [(0, 0), (-1, 5), (2**31 - 1, -(2**31))]:
        theirs = tf.random.stateless_uniform([9], tf.constant(seed, tf.int32))
        np.testing.assert_array_equal(stateless.uniform(seed, 9), theirs)


@pytest.mark.parametrize("size", [0, 1, 2, 63, 64, 65, 567, 60_000])
def test_seqios_shuffle(size):
    seqio = pytest.importorskip("seqio")
    for seed in [(94043, 94044), (-7, 2**62)]:
        order = stateless.permutation(seed, size)
        theirs = seqio.stateless_shuffle(np.arange(size), np.array(seed, np.int64))
        np.testing.assert_array_equal(order, theirs)
    # of so many numbers of 23 bits some are equal, so that their order counts
    assert (len(np.unique(stateless.uniform(seed, size))) < size) == (size == 60_000)
