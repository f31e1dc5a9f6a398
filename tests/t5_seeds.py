"""For tests of span corruption: T5's sentinels, runs of a mask, the seeds that seqio hands out."""

import itertools

import numpy as np

from prompt_tuning_jax.tasks import stateless

T5_SIZE = 32100  # T5's 32,000 pieces and 100 sentinels


class Ids:
    """Only the sentinels of a vocabulary, which is all that objectives ask for."""

    def __init__(self, vocab_size, extra_ids=100):
        self.vocab_size, self.extra_ids = vocab_size, extra_ids

    def sentinel(self, index):
        return self.vocab_size - 1 - index


def runs(mask):
    """How many runs of True there are."""
    padded = np.concatenate([[False], mask])
    return int(np.sum(padded[1:] & ~padded[:-1]))


def seqio_seeds(first):
    """The seeds that a `seqio.map_over_dataset` gives element after element, from its first on.

    They are the words of tf.data's random datasets of the seeds `first` and `first + 1`: of a
    Philox with the key that stands for "no global seed" in TensorFlow.
    """
    for block in itertools.count():
        words = [stateless.philox(block, 0, first + i, 0, 87654321, 0) for i in (0, 1)]
        yield from zip(*words, strict=True)
