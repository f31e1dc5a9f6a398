"""Comparisons that are counted: what was compared, how much of it, and the largest difference."""

import numpy as np

SEEN: dict[str, tuple[int, float]] = {}


def note(kind: str, count: int = 1, difference: float = 0.0) -> None:
    """`count` more things of a kind were compared, with the largest difference among them."""
    before, largest = SEEN.get(kind, (0, 0.0))
    SEEN[kind] = before + count, max(largest, difference)


def apart(ours, theirs) -> float:
    """The largest difference of two arrays, relative to the reference's largest value."""
    theirs = np.asarray(theirs)
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


def close(kind: str, ours, theirs, tolerance: float, count: int = 1) -> None:
    """Asserts that two arrays are within `tolerance` of each other (`apart`), and notes it."""
    found = apart(ours, theirs)
    note(kind, count, found)
    assert found <= tolerance, f"{kind}: {found}"


def rows(kind: str, ours, theirs, tolerance: float) -> None:
    """As `close`, for every row by itself."""
    for own, wanted in zip(ours, theirs, strict=True):
        close(kind, own, wanted, tolerance)


def same(kind: str, ours: list, theirs: list) -> None:
    """Asserts that two lists are equal, and notes their length."""
    note(kind, len(theirs))
    assert ours == theirs
