"""TensorFlow's stateless random numbers, in numpy: what T5's preprocessors draw from a seed.

A seed is two integers, as seqio hands them out. Philox 4x32-10 (Salmon et al. 2011, "Parallel
random numbers: as easy as 1, 2, 3", table 2) makes of it the key and the counter of a second
Philox, whose words are the numbers. Tested against TensorFlow on a CPU, number for number.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

Seed = Sequence[int] | np.ndarray

_LOW = 0xFFFFFFFF
# The key that TensorFlow mixes a seed with.
_MIXING_KEY = 0x3EC8F720, 0x02461E29
# Python's integers are faster than arrays for so few blocks.
_FEW_BLOCKS = 16


def split(seed: Seed, count: int) -> np.ndarray:
    """New seeds of one, int64 [count, 2]: `tf.random.split` of an int64 seed.

    The first rows are the same for every count.
    """
    return _words(seed, 4 * count).view(np.int64).reshape(count, 2)


def uniform(seed: Seed, size: int) -> np.ndarray:
    """Numbers in [0, 1), float32 [size]: `tf.random.stateless_uniform([size], seed)`."""
    # 23 random bits are the fraction of a float in [1, 2)
    floats = (_words(seed, size) & 0x7FFFFF | 0x3F800000).view(np.float32)
    return floats - np.float32(1)


def permutation(seed: Seed, size: int) -> np.ndarray:
    """The order that `seqio.stateless_shuffle` brings `size` values into, int64 [size]."""
    # of equal numbers TensorFlow, too, takes the first first
    return np.argsort(uniform(seed, size), kind="stable")


def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: int, k1: int) -> tuple[Any, Any, Any, Any]:
    """Philox 4x32-10: four random words of a counter's words and a key's.

    The counter's words are integers below 2**32, or uint64 arrays of one shape, or both.
    """
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & _LOW, (a >> 32) ^ c3 ^ k1, a & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    return c0, c1, c2, c3


def _words(seed: Seed, count: int) -> np.ndarray:
    """The first `count` words of a seed, uint32."""
    k0, k1, c2, c3 = philox(*_halves(seed[0]), *_halves(seed[1]), *_MIXING_KEY)
    blocks = -(-count // 4)
    if blocks <= _FEW_BLOCKS:
        rows: Any = [philox(block, 0, c2, c3, k0, k1) for block in range(blocks)]
    else:
        columns = philox(np.arange(blocks, dtype=np.uint64), 0, c2, c3, k0, k1)
        rows = np.stack(columns, axis=1)
    return np.asarray(rows, np.uint32).reshape(-1)[:count]


def _halves(number: int) -> tuple[int, int]:
    """The low and the high 32 bits of one of 64."""
    return int(number) & _LOW, int(number) >> 32 & _LOW
