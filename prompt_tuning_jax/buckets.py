"""Examples to predict in batches of about one length, so that little of them is padding.

Exact: padding is masked, so a prediction depends neither on it nor on the rest of the batch.
"""

import numpy as np

# Compiling one more length costs about as much as so many input tokens, or this part of them all.
SHAPE_TOKENS, SHAPE_PART = 1 << 14, 0.02


def lengths(limit: int, multiple: int = 8) -> np.ndarray:
    """Every length that a batch may have: multiples of 8 up to `limit`, and that."""
    return np.unique([*range(multiple, limit, multiple), limit])


def halvings(limit: int, least: int = 16) -> np.ndarray:
    """Few lengths, the same whatever is predicted: `limit`, its half, its quarter, …"""
    few = [limit]
    while few[-1] >= 2 * least:
        few.append(-(-few[-1] // 2))
    return np.array(few[::-1])


def by_length(
    examples: np.ndarray, batch_size: int, allowed: np.ndarray
) -> list[tuple[np.ndarray, int]]:
    """Batches as (the indices of their examples, their length), short examples first.

    Of the `allowed` lengths those are used that cost least: a batch's tokens, of which there are
    batch_size rows, and SHAPE_TOKENS or SHAPE_PART of all tokens for each length.

    Args:
      examples: tokens of each example, int [examples].
      batch_size: examples of a batch; the first, of the shortest, may have fewer.
      allowed: ascending, the last at least the longest example.
    """
    if not len(examples):
        return []
    order = np.argsort(examples, kind="stable")
    first = len(order) % batch_size or batch_size
    parts = np.split(order, range(first, len(order), batch_size))
    longest = np.array([examples[part[-1]] for part in parts])
    needed = allowed[np.searchsorted(allowed, longest)]
    widths, counts = np.unique(needed, return_counts=True)
    before = np.cumsum([0, *counts])
    price = max(SHAPE_TOKENS, SHAPE_PART * batch_size * int(widths @ counts))
    # cost[n]: of the batches that need one of the n shortest widths
    cost, start = np.zeros(len(widths) + 1), np.zeros(len(widths) + 1, np.int64)
    for n in range(1, len(widths) + 1):
        options = cost[:n] + (before[n] - before[:n]) * batch_size * widths[n - 1] + price
        start[n] = np.argmin(options)
        cost[n] = options[start[n]]
    chosen, n = [], len(widths)
    while n:
        chosen.append(widths[n - 1])
        n = start[n]
    ladder = np.array(chosen[::-1])
    return [
        (part, int(ladder[np.searchsorted(ladder, width)]))
        for part, width in zip(parts, needed, strict=True)
    ]
