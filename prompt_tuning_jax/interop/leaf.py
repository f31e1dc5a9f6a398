"""Somebody's checkpoint as arrays that are read in the pieces that are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

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

    def whole(self) -> np.ndarray:
        """All values."""
        return self.read((slice(None),) * len(self.shape))


class Checkpoint(NamedTuple):
    """A checkpoint that was found and not yet read.

    path: where it is, as the user says it; leaves: by T5X's names, layers one by one
    ("encoder/layers_0/…") or stacked ("encoder/layers/…", the layer first); config: None where the
    files do not tell; vocabulary: the SentencePiece model beside it and its number of sentinels;
    fingerprint: what its values should have.
    """

    path: str
    leaves: dict[str, Leaf]
    config: T5Config | None = None
    vocabulary: tuple[str, int] | None = None
    fingerprint: str | None = None
