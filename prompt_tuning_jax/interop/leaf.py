"""One array of somebody's checkpoint, read in the pieces that are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Leaf(NamedTuple):
    """shape, and read(index) -> the values there; index is a tuple of slices, one an axis."""

    shape: tuple[int, ...]
    read: Callable[[tuple[slice, ...]], np.ndarray]
