"""A training step's examples in rows: several to a row (packing) or one (bucketing), in few shapes.

A step has the same examples however they lie, so that a batch keeps its meaning; what varies is the
shape, and every new shape is compiled. `plan` chooses a few shapes from the lengths of some of the
run's own batches, `place` gives each batch the cheapest that holds it. Both look at lengths alone,
so every host finds the same. numpy alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

# Row lengths are multiples of this: few shapes, whole vectors.
MULTIPLE = 8
# A row of so many encoder rows costs twice what it would without attention between its rows. T5 1.1
# small multiplies as much at 3072, and its softmax comes to it.
ATTENTION = 2048
# What a target token costs in input tokens: one attention more and the logits.
TARGET = 1.5
# A shape must save this part of a run's cost to be worth compiling, and there are at most so many.
WORTH, SHAPES = 0.005, 8

Pair = tuple[np.ndarray, np.ndarray]  # inputs and targets of an example, with their EOS


class Shape(NamedTuple):
    """R rows of T input and U target tokens, in each at most G segments (examples)."""

    rows: int
    inputs: int
    targets: int
    segments: int

    def cost(self, prompt_rows: int = 0) -> float:
        """About what a step costs, in input tokens; a method puts `prompt_rows` before each
        segment."""
        row = self.inputs + self.segments * prompt_rows
        return self.rows * (row * (1 + row / ATTENTION) + TARGET * self.targets)


def full(batch_size: int, longest: np.ndarray, limits: Mapping[str, int]) -> Shape:
    """A row for each example; longest [2] are the longest inputs and targets, limits T and U."""
    inputs, targets = longest.tolist()
    return Shape(
        batch_size, _round(inputs, limits["inputs"]), _round(targets, limits["targets"]), 1
    )


def lengths(pairs: Sequence[Pair]) -> np.ndarray:
    """Input and target tokens of each example, int64 [B,2]."""
    return np.array([(len(inputs), len(targets)) for inputs, targets in pairs])


def place(lengths: np.ndarray, shapes: Sequence[Shape], full: Shape) -> tuple[Shape, np.ndarray]:
    """The first of `shapes` that holds a batch, else `full`, and the row of each example.

    lengths: input and target tokens of each example, int [B,2]; full: B rows, an example in each.
    """
    for shape in shapes:
        rows = fill(lengths, shape)
        if rows is not None:
            return shape, rows
    return full, np.arange(len(lengths))


def fill(lengths: np.ndarray, shape: Shape) -> np.ndarray | None:
    """The row of each of B examples of lengths [B,2], int64 [B], or None where they do not fit.

    The longest come first, each into the emptiest row, which gives all rows about the same number
    of segments; where that fails, into the fullest that has room, which fills rows tightest.
    """
    if shape.segments == 1:
        alone = len(lengths) <= shape.rows and (lengths <= shape[1:3]).all()
        return np.arange(len(lengths)) if alone else None
    capacity = shape.rows * np.array(shape[1:4])
    if (lengths.sum(0) > capacity[:2]).any() or len(lengths) > capacity[2]:
        return None
    order = np.argsort(-lengths[:, 0], kind="stable").tolist()
    tokens = lengths.tolist()
    for way in (1, -1):
        rows = np.zeros(len(lengths), np.int64)
        # what each row has left
        inputs, targets, segments = ([n] * shape.rows for n in shape[1:4])
        for example in order:
            i, t = tokens[example]
            fits = [
                row
                for row in range(shape.rows)
                if inputs[row] >= i and targets[row] >= t and segments[row]
            ]
            if not fits:
                break
            row = max(fits, key=lambda row: way * inputs[row])
            rows[example] = row
            inputs[row] -= i
            targets[row] -= t
            segments[row] -= 1
        else:
            return rows
    return None


def plan(
    sample: Sequence[np.ndarray],
    full: Shape,
    *,
    row: int = 0,
    multiple: int = 1,
    prompt_rows: int = 0,
) -> tuple[Shape, ...]:
    """At most SHAPES shapes for batches like those of `sample`, the cheapest first.

    Args:
      sample: input and target tokens of each example of some batches, int [B,2] each.
      full: B rows of the longest example's lengths.
      row: input tokens that a row of several examples may have; 0: each example has its own row.
      multiple: what the number of rows is divided by (devices, microbatches).
      prompt_rows: what a method puts before each segment.
    """
    wanted = [
        [*(_packed(s, full, row, multiple, prompt_rows) if row else _bucketed(s, full))]
        for s in sample
    ]
    candidates = sorted({full, *(shape for options in wanted for shape in options)})
    shapes = np.array(candidates)
    # holds[candidate, batch]: as many rows as one of the batch's options, and none shorter
    holds = np.zeros((len(candidates), len(sample)), bool)
    for number, options in enumerate(wanted):
        for option in options:
            holds[:, number] |= (shapes[:, 0] == option.rows) & (shapes >= option).all(1)
    price = np.array([shape.cost(prompt_rows) for shape in candidates])
    chosen = {_roomy(sample, full, row, multiple)} if row else {full}
    now = np.full(len(sample), min(shape.cost(prompt_rows) for shape in chosen))
    while len(chosen) < SHAPES:
        with_it = np.where(holds, np.minimum(price[:, None], now), now)
        best = int(np.argmin(with_it.sum(1)))
        if now.sum() - with_it[best].sum() < WORTH * with_it[best].sum():
            break
        now = with_it[best]
        chosen.add(candidates[best])
    return tuple(sorted(chosen, key=lambda shape: (shape.cost(prompt_rows), shape)))


def _bucketed(lengths: np.ndarray, full: Shape) -> Iterator[Shape]:
    """The shape of a batch that is padded to its longest example."""
    inputs, targets = (_round(n, limit) for n, limit in zip(lengths.max(0), full[1:3], strict=True))
    yield Shape(full.rows, inputs, targets, 1)


def _packed(
    lengths: np.ndarray, full: Shape, longest_row: int, multiple: int, prompt_rows: int
) -> Iterator[Shape]:
    """For several numbers of rows, the shortest rows that hold a batch."""
    total, longest = int(lengths[:, 0].sum()), int(lengths[:, 0].max())
    # more rows than total / longest would not be shorter, fewer than total / T would not do
    fewest, most = -(-total // longest_row), -(-total // longest) + 1
    numbers = {_up(n, multiple) for n in np.linspace(fewest, most, 8).astype(int).tolist()}
    for rows in sorted(n for n in numbers if n <= full.rows):
        even = -(-full.rows // rows)
        # segments cost nothing but where each brings rows of its own
        for segments in (even, even + 1, even + 2) if prompt_rows else (2 * even + 2,):
            start = _round(max(longest, -(-total // rows)), longest_row)
            for inputs in range(start, longest_row + MULTIPLE, MULTIPLE):
                shape = Shape(rows, min(inputs, longest_row), int(lengths[:, 1].sum()), segments)
                found = fill(lengths, shape)
                if found is not None:
                    targets = int(np.bincount(found, lengths[:, 1]).max())
                    yield shape._replace(targets=_up(targets, MULTIPLE))
                    break


def _roomy(sample: Sequence[np.ndarray], full: Shape, row: int, multiple: int) -> Shape:
    """A shape that holds almost any batch: five standard deviations above the mean's tokens."""
    totals = np.array([lengths.sum(0) for lengths in sample])
    inputs, targets = totals.mean(0) + 5 * totals.std(0)
    rows = min(_up(int(inputs / row) + 1, multiple), full.rows)
    per_row = _up(int(targets / rows) + full.targets, MULTIPLE)
    return Shape(rows, row, per_row, -(-full.rows // rows) + 2)


def batch(
    pairs: Sequence[Pair],
    shape: Shape,
    rows: np.ndarray,
    prompts: Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """Examples in rows under seqio's EncDecFeatureConverter's names, int32, 0 where there is none.

    encoder_input_tokens [R,T]; decoder_target_tokens, decoder_input_tokens, decoder_loss_weights
    [R,U]. Packed as well {encoder,decoder}_{segment_ids,positions}, from 1 and from 0, a row's
    segments in the order of the examples, and prompt_ids [R,G], 0 where a row has fewer segments.

    Args:
      rows: the row of each example, int [B].
      prompts: the prompt of each example where they are packed, else None.
    """
    # the how-manyeth of its row each example is
    place = np.zeros(len(rows), np.int64)
    for row in range(shape.rows):
        place[rows == row] = np.arange(np.sum(rows == row))
    inputs, input_segments, input_positions = _lay([i for i, _ in pairs], rows, place, shape[:2])
    targets, segments, positions = _lay(
        [t for _, t in pairs], rows, place, (shape.rows, shape.targets)
    )
    before = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    made = {
        "encoder_input_tokens": inputs,
        "decoder_target_tokens": targets,
        "decoder_input_tokens": before,
        "decoder_loss_weights": (targets != 0).astype(np.int32),
    }
    if prompts is None:
        return made
    prompt_ids = np.zeros((shape.rows, shape.segments), np.int32)
    prompt_ids[rows, place] = prompts
    return made | {
        # a target's first token is predicted from 0, not from the last token of another example
        "decoder_input_tokens": np.where(positions == 0, 0, before),
        "encoder_segment_ids": input_segments,
        "decoder_segment_ids": segments,
        "encoder_positions": input_positions,
        "decoder_positions": positions,
        "prompt_ids": prompt_ids,
    }


def _lay(
    parts: Sequence[np.ndarray], rows: np.ndarray, place: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, segments and positions, int32 [R,T] each, of parts one after the other in their rows."""
    ids, segments, positions = (np.zeros(size, np.int32) for _ in range(3))
    ends = [0] * size[0]
    for part, row, nth in zip(parts, rows.tolist(), place.tolist(), strict=True):
        here = slice(ends[row], ends[row] + len(part))
        ids[row, here], segments[row, here] = part, nth + 1
        positions[row, here] = np.arange(len(part))
        ends[row] = here.stop
    return ids, segments, positions


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _round(length: int, limit: int) -> int:
    return min(_up(int(length), MULTIPLE), limit)
