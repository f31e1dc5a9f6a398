"""The fingerprint of a backbone: by what two are known for the same, wherever they lie.

Over T5X's names, shapes and fixed strided samples of each parameter's values, rounded to bfloat16:
layer by layer, and before any cast or quantisation, so that stacked, sharded, converted and
quantised forms of one model agree.
"""

from __future__ import annotations

import hashlib
from typing import Any

import ml_dtypes
import numpy as np
from flax import traverse_util

from prompt_tuning_jax import hosts
from prompt_tuning_jax.interop.leaf import Leaf

SAMPLES = 64  # values of each parameter


def of(theta: Any) -> str:
    """θ, a tree of arrays -> 16 hex digits."""
    samples = Samples()
    for path, leaf in traverse_util.flatten_dict(theta, sep="/").items():
        samples.add(path, leaf)
    return samples.fingerprint()


def of_leaves(leaves: dict[str, Leaf]) -> str:
    """The same of leaves that are read one after the other."""
    samples = Samples()
    for name, leaf in leaves.items():
        samples.add(name, leaf.whole())
    return samples.fingerprint()


class Samples:
    """The samples of parameters as they come by."""

    def __init__(self) -> None:
        # by the layer's own name: its shape and [SAMPLES] values
        self._of: dict[str, tuple[tuple[int, ...], np.ndarray]] = {}

    def add(self, name: str, values: Any) -> None:
        """A whole parameter, or a stack of layers ("encoder/layers/…")."""
        stacked = "/layers/" in name
        picks = _picks(values.shape[stacked:])
        # [L,SAMPLES] or [1,SAMPLES]
        rows = hosts.whole(values[(slice(None), *picks)] if stacked else values[picks][None])
        self._keep(name, values.shape[stacked:], rows)

    def watch(self, name: str, leaf: Leaf) -> Leaf:
        """The leaf, whose samples are added piece by piece as they are read.

        A process reads the pieces of its own devices; NaN stands for what others read.
        """
        stacked = "/layers/" in name
        picks = _picks(leaf.shape[stacked:])
        # [L,SAMPLES] or [1,SAMPLES]
        rows = np.full((leaf.shape[0] if stacked else 1, SAMPLES), np.nan, np.float32)
        self._keep(name, leaf.shape[stacked:], rows)

        def read(index):
            piece = leaf.read(index)
            bounds = [part.indices(size)[:2] for part, size in zip(index, leaf.shape, strict=True)]
            (first, last), *cut = bounds if stacked else [(0, 1), *bounds]
            inside = np.all(
                [(low <= p) & (p < high) for p, (low, high) in zip(picks, cut, strict=True)], 0
            )
            own = tuple(p[inside] - low for p, (low, _) in zip(picks, cut, strict=True))
            rows[first:last, inside] = piece[(slice(None), *own)] if stacked else piece[own]
            return piece

        return leaf._replace(read=read)

    def _keep(self, name: str, shape: tuple[int, ...], rows: np.ndarray) -> None:
        for i, row in enumerate(rows):
            self._of[name.replace("/layers/", f"/layers_{i}/")] = (shape, row)

    def fingerprint(self) -> str:
        """16 hex digits. Of several processes, all have added the same parameters."""
        digest = hashlib.sha256()
        paths = sorted(self._of)
        # [processes,parameters,SAMPLES]: what two have read is the same
        rows = hosts.gathered(np.stack([self._of[p][1] for p in paths]).astype(np.float32))
        for path, values in zip(paths, np.fmax.reduce(rows), strict=True):
            shape = self._of[path][0]
            digest.update(f"{path}{tuple(map(int, shape))}".encode())
            digest.update(values.astype(np.float32).astype(ml_dtypes.bfloat16).tobytes())
        return digest.hexdigest()[:16]


def _picks(shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return np.unravel_index(np.linspace(0, np.prod(shape) - 1, SAMPLES).astype(int), shape)
