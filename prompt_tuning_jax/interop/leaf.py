"""Somebody's checkpoint as arrays that are read in the pieces that are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prompt_tuning_jax import int8
from prompt_tuning_jax.t5 import T5Config


class Leaf(NamedTuple):
    """shape, and read(index) -> the values there; index is a tuple of slices, one an axis."""

    shape: tuple[int, ...]
    read: Callable[[tuple[slice, ...]], np.ndarray]

    @classmethod
    def of(cls, array: np.ndarray) -> Leaf:
        """An array that is in memory."""
        return cls(tuple(array.shape), lambda index: np.asarray(array[index]))

    def permuted(self, *axes: int) -> Leaf:
        """As numpy's transpose(axes)."""

        def read(index):
            back = [slice(None)] * len(axes)
            for new, old in enumerate(axes):
                back[old] = index[new]
            return self.read(tuple(back)).transpose(axes)

        return Leaf(tuple(self.shape[old] for old in axes), read)

    def joined(self, axis: int) -> Leaf:
        """[…,H,K,…] -> […,H*K,…]: `axis` and the one behind it as one."""
        heads, width = self.shape[axis : axis + 2]
        shape = (*self.shape[:axis], heads * width, *self.shape[axis + 2 :])

        def read(index):
            start, stop, _ = index[axis].indices(heads * width)
            first, last = start // width, -(-stop // width)
            both = slice(first, last), slice(None)
            values = self.read((*index[:axis], *both, *index[axis + 1 :]))
            # [...,last-first,K,...] -> [...,(last-first)*K,...]
            values = values.reshape(*values.shape[:axis], -1, *values.shape[axis + 2 :])
            cut = slice(start - first * width, stop - first * width)
            return values[(slice(None),) * axis + (cut,)]

        return Leaf(shape, read)

    def scaled(self, factor: float) -> Leaf:
        """Every value times `factor`, float32."""
        return Leaf(self.shape, lambda index: np.asarray(self.read(index), np.float32) * factor)

    def cast(self, dtype: np.dtype) -> Leaf:
        """Every value in another dtype."""
        return Leaf(self.shape, lambda index: np.asarray(self.read(index)).astype(dtype))

    def quantised(self, axis: int) -> tuple[Leaf, Leaf]:
        """int8.quantise's values and scale. Each piece is read once, whole along `axis`."""
        axis %= len(self.shape)
        before, after = self.shape[:axis], self.shape[axis + 1 :]
        held: dict[str, tuple[np.ndarray, np.ndarray]] = {}

        def both(index):
            whole = (*index[:axis], slice(None), *index[axis + 1 :])
            if str(whole) not in held:
                held[str(whole)] = int8.quantise(self.read(whole), axis)
            return held[str(whole)]

        def values(index):
            return both(index)[0][(slice(None),) * axis + (index[axis],)]

        return Leaf(self.shape, values), Leaf((*before, 1, *after), lambda index: both(index)[1])

    def times(self, scale: Leaf) -> Leaf:
        """int8 values and their scale -> what they stand for, float32."""

        def read(index):
            channels = zip(index, scale.shape, strict=True)
            own = tuple(slice(None) if size == 1 else part for part, size in channels)
            return int8.floats(self.read(index), scale.read(own))

        return Leaf(self.shape, read)

    def whole(self) -> np.ndarray:
        """All values."""
        return self.read((slice(None),) * len(self.shape))


class Checkpoint(NamedTuple):
    """A checkpoint that was found and not yet read.

    path: where it is, as the user says it; leaves: by T5X's names, layers one by one
    ("encoder/layers_0/…") or stacked ("encoder/layers/…", the layer first); config: None where the
    files do not tell; vocabulary: the SentencePiece model beside it and its number of sentinels;
    fingerprint: what its values should have; quantised: where they are held in int8, what these
    should have, `fingerprint` being that of the values that they were made from.
    """

    path: str
    leaves: dict[str, Leaf]
    config: T5Config | None = None
    vocabulary: tuple[str, int] | None = None
    fingerprint: str | None = None
    quantised: str | None = None
