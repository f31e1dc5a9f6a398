"""From tokens to batches: those of training as a function of the step, those of an evaluation.

Batches have the names and values of seqio's EncDecFeatureConverter (`packing.batch`). numpy alone.
"""

import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from prompt_tuning_jax import buckets, data, packing
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.window_stream import WindowStream
from prompt_tuning_jax.windows import Windows

# What `packing.batch` makes: encoder_input_tokens [B,T], decoder_target_tokens [B,U], …; int32.
Batch = dict[str, np.ndarray]

# What random numbers are for; part of their seed beside the run's.
_ORDER, _MIXTURE, _OBJECTIVE, _K_SHOT = range(4)
# Examples over which a mixture's rates hold exactly.
_BLOCK = 1 << 16
# Examples whose lengths choose the shapes of batches.
_SAMPLE = 2048


class TrainingBatches:
    """Batches of one task or of a mixture; each is a function of seed and step alone.

    Examples come in epochs: each example of a task once in an order of its own, then each once in
    another order; those of a corpus as `WindowStream` has them. In a mixture the tasks take turns
    at random; over every 65,536 examples their numbers are exactly as the rates say (to the nearest
    whole number, and at least one).

    A batch is as long as its longest example, or packed, rounded up to one of `shapes`; which
    examples it has does not depend on that. A corpus's windows are all as long as can be.
    """

    def __init__(
        self,
        mixture: Sequence[tuple[data.TokenSet | Windows, float | str]],
        batch_size: int,
        seed: int,
        k_shot: int | None = None,
        pack: bool = False,
        multiple: int = 1,
        prompt_rows: int = 0,
    ):
        """
        Args:
          mixture: the training sets and their rates: numbers relative to one another, or
            "proportional" for the number of examples, which a corpus does not tell. One task has
            any rate.
          batch_size: B, over all hosts.
          seed: not negative.
          k_shot: train on so many examples of each label (of each task with free text), which the
            seed chooses; None for all.
          pack: several examples to a row of at most lengths["inputs"] tokens.
          multiple: what the number of rows is divided by: devices, microbatches, hosts.
          prompt_rows: the encoder rows that a method puts before each example.

        Raises:
          UserError: a rate that is no positive number, a negative seed, k_shot below 1, of a corpus
            or more than there are examples of a label, or a corpus to pack.
        """
        if seed < 0:
            raise UserError(f"seed {seed}: must not be negative")
        self._lengths = mixture[0][0].lengths
        self._batch_size = batch_size
        self._seed = seed
        self._pack, self._multiple, self._prompt_rows = pack, multiple, prompt_rows
        self._drawn: list[_Epochs | _Windowed] = []
        rates = []
        for number, (found, rate) in enumerate(mixture):
            order = [seed, _ORDER, number]
            if isinstance(found, Windows):
                if k_shot is not None:
                    raise UserError(f"k_shot {k_shot}: task {found.task.name} has no labels")
                if pack:
                    raise UserError(f"PACK: task {found.task.name}'s windows fill their rows")
                self._drawn.append(_Windowed(found, order))
                rates.append(_rate(found.task.name, rate, None))
            else:
                few = [seed, _K_SHOT, number]
                indices = np.arange(len(found)) if k_shot is None else _few(found, k_shot, few)
                self._drawn.append(_Epochs(found, indices, order))
                rates.append(_rate(found.task.name, rate, len(indices)))
        longest = np.max([drawn.longest for drawn in self._drawn], 0)
        self._full = packing.full(batch_size, longest, self._lengths)
        # counts[task]: its examples in each block.
        self._counts = _apportion(rates, _BLOCK)
        # Consecutive steps stay in the same block.
        self._turns = functools.lru_cache(2)(self._deal)

    @functools.cached_property
    def shapes(self) -> tuple[packing.Shape, ...]:
        """The shapes of batches, the cheapest first, chosen by the lengths of the first ones.

        Packed, a batch that fits none of them, which is rare, has a row for each example.
        """
        if any(isinstance(drawn, _Windowed) for drawn in self._drawn):
            return (self._full,)
        steps = min(max(_SAMPLE // self._batch_size, 8), 64)
        sample = [packing.lengths(self._pairs(step)) for step in range(steps)]
        return packing.plan(
            sample,
            self._full,
            row=self._lengths["inputs"] if self._pack else 0,
            multiple=self._multiple,
            prompt_rows=self._prompt_rows,
        )

    def batch(self, step: int, process_index: int = 0, process_count: int = 1) -> Batch:
        """The batch of a step, or one host's rows of it, in the order of `process_index`.

        Every host draws the examples of all, to know the batch's shape. A corpus has one shape, so
        that a host's objectives are drawn for its own rows alone; but it reads and tokenises what
        the others do: where a window begins depends on all documents before it.
        """
        if self.shapes == (self._full,) and not self._pack:
            first, size = _rows_of(self._full.rows, process_index, process_count)
            pairs = self._pairs(step, first, size)
            return packing.batch(pairs, self._full._replace(rows=size), np.arange(size))
        pairs = self._pairs(step)
        shape, rows = packing.place(packing.lengths(pairs), self.shapes, self._full)
        prompts = [0] * len(pairs) if self._pack else None
        first, size = _rows_of(shape.rows, process_index, process_count)
        whole = packing.batch(pairs, shape, rows, prompts)
        return {name: array[first : first + size] for name, array in whole.items()}

    def _pairs(self, step: int, row: int = 0, rows: int | None = None) -> list[packing.Pair]:
        first = step * self._batch_size + row
        size = self._batch_size if rows is None else rows
        return [self._draw(position) for position in range(first, first + size)]

    def examples(self, step: int) -> dict[str, list[int]]:
        """The step's examples by "TASK/SPLIT": their numbers in the split, a corpus's windows'."""
        found: dict[str, list[int]] = {}
        first = step * self._batch_size
        for task, drawn in map(self._place, range(first, first + self._batch_size)):
            of = self._drawn[task]
            found.setdefault(of.name, []).append(of.number(drawn))
        return found

    def _place(self, position: int) -> tuple[int, int]:
        """Of the run's `position`-th example: its task, and how many of it were drawn before."""
        block, place = divmod(position, _BLOCK)
        tasks, earlier = self._turns(block)
        task = int(tasks[place])
        return task, block * int(self._counts[task]) + int(earlier[place])

    def _draw(self, position: int) -> packing.Pair:
        task, drawn = self._place(position)
        return self._drawn[task].pair(drawn, [self._seed, _OBJECTIVE, position])

    def _deal(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Whose turn each position of a block is, and how many turns it had in the block before."""
        rng = np.random.default_rng([self._seed, _MIXTURE, block])
        tasks = rng.permutation(np.repeat(np.arange(len(self._counts)), self._counts))
        earlier = np.empty_like(tasks)
        for task, count in enumerate(self._counts):
            earlier[tasks == task] = np.arange(count)
        return tasks, earlier


class _Epochs:
    """Examples in epochs, each of which has an order of its own."""

    def __init__(self, token_set: data.TokenSet, indices: np.ndarray, seed: Sequence[int]):
        """indices: the examples to draw from, int64 [examples]."""
        self._token_set, self._indices, self._seed = token_set, indices, seed
        # tokens of the longest inputs and targets that may be drawn
        self.longest = token_set.sizes[indices].max(0)
        self.name = f"{token_set.task.name}/{token_set.split}"
        # Consecutive steps stay in the same epochs.
        self._order = functools.lru_cache(2)(self._shuffle)

    def number(self, drawn: int) -> int:
        """Which example is the `drawn`-th of the run."""
        epoch, rank = divmod(drawn, len(self._indices))
        return int(self._order(epoch)[rank])

    def pair(self, drawn: int, seed: Sequence[int]) -> packing.Pair:
        """As `TokenSet.pair`, of the `drawn`-th example of the run."""
        return self._token_set.pair(self.number(drawn), seed)

    def _shuffle(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([*self._seed, epoch]).permutation(self._indices)


class _Windowed:
    """A corpus's windows, as `_Epochs`."""

    def __init__(self, windows: Windows, seed: Sequence[int]):
        self._windows, self._stream = windows, WindowStream(windows, seed)
        self.longest = np.array([windows.lengths["inputs"], windows.lengths["targets"]])
        self.name = f"{windows.task.name}/{windows.split}"

    def number(self, drawn: int) -> int:
        return drawn

    def pair(self, drawn: int, seed: Sequence[int]) -> packing.Pair:
        return data.pair(self._windows, np.zeros(0, np.int32), self._stream.window(drawn), seed)


class EvaluationSet:
    """A split in batches of examples of about one length, filled up with rows of zeros.

    The inputs of a batch are as long as its longest, rounded up to one of a few lengths
    (`buckets`); all targets are as long as the split's longest. An objective draws the same for
    every evaluation.
    """

    def __init__(self, token_set: data.TokenSet, batch_size: int):
        self.token_set = token_set
        self._batch_size = batch_size
        sizes = token_set.sizes
        self._full = packing.full(batch_size, sizes.max(0), token_set.lengths)
        allowed = buckets.lengths(token_set.lengths["inputs"])
        self._parts = buckets.by_length(sizes[:, 0], batch_size, allowed)

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._parts)

    def batches(
        self, process_index: int = 0, process_count: int = 1
    ) -> Iterator[tuple[Batch, np.ndarray]]:
        """Yields each `batch` and the indices of its real rows' examples; these come first."""
        for number, (indices, _) in enumerate(self._parts):
            yield self.batch(number, process_index, process_count), indices

    def batch(self, number: int, process_index: int = 0, process_count: int = 1) -> Batch:
        """One batch, or one host's rows of it, in the order of `process_index`."""
        indices, width = self._parts[number]
        first, size = _rows_of(self._batch_size, process_index, process_count)
        pairs = [
            self.token_set.pair(index, [_OBJECTIVE, index])
            for index in indices[first : first + size]
        ]
        shape = self._full._replace(rows=size, inputs=width)
        return packing.batch(pairs, shape, np.arange(len(pairs)))


def _rows_of(batch_size: int, process_index: int, process_count: int) -> tuple[int, int]:
    """First row and number of rows of a host."""
    size, rest = divmod(batch_size, process_count)
    if rest:
        raise UserError(f"batch size {batch_size} does not divide among {process_count} processes")
    return process_index * size, size


def _few(token_set: data.TokenSet, k_shot: int, seed: Sequence[int]) -> np.ndarray:
    """Indices of so many examples of each label."""
    task = token_set.task
    labels: dict[str, list[int]] = {}
    for index, example in enumerate(token_set.examples):
        label = example["targets"] if task.label_words else "any label"
        labels.setdefault(label, []).append(index)
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for label, indices in sorted(labels.items()):
        if not 1 <= k_shot <= len(indices):
            raise UserError(
                f"k_shot {k_shot}: task {task.name} allows 1 to {len(indices)}, the number of "
                f"its examples of '{label}'"
            )
        chosen += rng.permutation(indices)[:k_shot].tolist()
    return np.sort(chosen)


def _rate(name: str, rate: float | str, examples: int | None) -> float:
    if rate == "proportional":
        if examples is None:
            raise UserError(
                f"task {name}: the size of a corpus is not known, so its rate is a number and not "
                "'proportional'"
            )
        return examples
    if not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise UserError(f"task {name}: rate {rate!r} is no positive number and not 'proportional'")
    return rate


def _apportion(rates: Sequence[float], total: int) -> np.ndarray:
    """Whole numbers, at least 1, that sum to `total` and are as near the rates as can be."""
    shares = np.asarray(rates) / np.sum(rates) * total
    counts = np.maximum(np.floor(shares).astype(np.int64), 1)
    # What rounding down left over goes to the largest remainders.
    left = total - int(counts.sum())
    if left > 0:
        counts[np.argsort(counts - shares, kind="stable")[:left]] += 1
    else:
        counts[np.argmax(counts)] += left
    return counts
