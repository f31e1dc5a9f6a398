"""The index of the largest number of a row, against numpy's."""

import numpy as np
import pytest

from prompt_tuning_jax.largest import argmax


@pytest.mark.parametrize("shape", [(7,), (3, 11), (2, 3, 5)])
def test_it_is_numpys(shape):
    # few values, so that most rows have their largest more than once
    x = np.random.RandomState(0).randint(-3, 3, (20, *shape)).astype(np.float32)
    assert np.array_equal(argmax(x), np.argmax(x, -1))


def test_infinities_and_nans_give_an_index():
    x = np.array([[-np.inf, -np.inf], [0.0, np.inf], [np.nan, 1.0]], np.float32)
    assert argmax(x).tolist() == [0, 1, 1]
