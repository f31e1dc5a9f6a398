"""For tests of span corruption: T5's sentinels, seqio's seeds, and our own functions in a row."""

import dataclasses
import itertools
import json
import pathlib

import numpy as np

from prompt_tuning_jax.tasks import objectives, pretraining, stateless
from prompt_tuning_jax.tasks.corpora import Stream
from prompt_tuning_jax.tasks.task import Task
from prompt_tuning_jax.windows import Windows

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


class Tokenised(Ids):
    """A vocabulary of documents that are tokens already, as lines of JSON."""

    def encode(self, text):
        return json.loads(text)["targets"]


@dataclasses.dataclass(frozen=True)
class Lines:
    """A shard: a file's lines."""

    name: str

    def texts(self):
        return pathlib.Path(self.name).open()


class Corpus(Stream):
    splits = ("train",)

    def shards(self, split, data_dir=None):
        return [Lines(data_dir)]

    def origin(self, split, data_dir=None):
        return data_dir

    def describe(self):
        return {}


def windows(file, objective, lengths, size=T5_SIZE, together=128):
    """Tokenised documents, {"targets": ids} a line, read and packed as a corpus is."""
    task = Task("tokenised", Corpus(together=together), None, objective=objective)
    for some, _ in Windows(task, "train", Tokenised(size), lengths, str(file)).read():
        yield from some


def t5s_examples(file, lengths, seed, size=T5_SIZE):
    """What T5's span corruption makes of tokenised documents by seqio's seed; our functions."""
    packed = windows(file, objectives.SpanCorruption(), lengths, size)
    # of `seed` T5 draws which part of a longer document it takes, of `seed` + 2 nothing
    for window, pair in zip(packed, seqio_seeds(seed + 4), strict=False):
        yield pretraining.denoise(window, pair, Ids(size))
