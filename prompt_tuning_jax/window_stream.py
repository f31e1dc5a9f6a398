"""Training's windows of a corpus without end, shuffled; the n-th is a function of the seed and n.

Each epoch reads the shards in an order of its own. The windows of consecutive documents make a
block, of so many windows or up to the end of the epoch, and are in random order inside it: that is
all that is in memory, with the block before and the one after, which a thread prepares. Where each
block began is written down in the cache folder, so that a run goes on without reading again what
it has had; without that file it reads again, to the same end.
"""

import bisect
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence

import numpy as np

from prompt_tuning_jax import cache, strict_json
from prompt_tuning_jax.progress import Progress
from prompt_tuning_jax.windows import Position, Windows

# What random numbers are for; part of their seed.
_SHARDS, _BLOCK = range(2)


@dataclasses.dataclass(frozen=True)
class Block:
    """Windows `first` and following, in the order of training."""

    first: int
    windows: list[np.ndarray]

    @property
    def end(self) -> int:
        """The first window of the next block."""
        return self.first + len(self.windows)


class WindowStream:
    """The windows of a split in the order of training."""

    def __init__(self, windows: Windows, seed: Sequence[int], cache_dir: str | None = None):
        """
        Args:
          windows: of what.
          seed: not negative; numbers that the order goes by.
          cache_dir: where blocks' beginnings are kept, None for the default (`cache.folder`).
        """
        self._windows, self._seed = windows, list(seed)
        facts = [windows.digest(), windows.made_by(), windows.source.shuffled, self._seed]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        self._file = cache.folder(cache_dir) / "corpora" / f"{digest[:32]}.json"
        # where each block begins, as far as is known
        self._starts = self._known()
        self._kept = self._starts[-1].window
        # what goes on from a place, so that no shard is read from its beginning for each block
        self._open: tuple[Position | None, Iterator] = None, iter(())
        # one thread: a block is built after the one before it
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "windows")
        self._blocks = functools.lru_cache(3)(self._submit)

    def window(self, number: int) -> np.ndarray:
        """The `number`-th window, int32.

        Raises:
          UserError: the corpus cannot be read, or has no text.
        """
        index = bisect.bisect_right(self._starts, number, key=lambda start: start.window) - 1
        block = self._blocks(index).result()
        if number >= block.end:
            index, block = self._far(index, number)
        place = number - block.first
        # not at once: who looks at the first rows alone shall not wait for the next block
        if place >= len(block.windows) // 4:
            self._blocks(index + 1)
        return block.windows[place]

    def _far(self, index: int, number: int) -> tuple[int, Block]:
        """The block of a window beyond what is known, and its place: all before it is read."""
        name = f"{self._windows.task.name}: reading again"
        block = self._blocks(index).result()
        with Progress(name, number, start=block.first, unit="window", patience=5) as progress:
            while number >= block.end:
                progress.update(block.end - progress.done)
                index += 1
                block = self._blocks(index).result()
        return index, block

    def _submit(self, index: int) -> concurrent.futures.Future[Block]:
        return self._thread.submit(self._read, index)

    def _read(self, index: int) -> Block:
        start = self._starts[index]
        windows, end = self._rest(start)
        if not windows:  # the block before ended with its epoch
            start = end
            windows, end = self._rest(start)
        if not windows:
            raise self._windows.empty()
        if index + 1 == len(self._starts):
            self._starts.append(end)
            self._keep()
        rng = np.random.default_rng([*self._seed, _BLOCK, start.window])
        return Block(start.window, [windows[i] for i in rng.permutation(len(windows))])

    def _rest(self, start: Position) -> tuple[list[np.ndarray], Position]:
        """A block's windows in the order of reading, none at an epoch's end; where the next is."""
        place, reader = self._open
        if place != start:
            rng = np.random.default_rng([*self._seed, _SHARDS, start.epoch])
            reader = self._windows.read(start, rng.permutation(len(self._windows.shards)))
        windows: list[np.ndarray] = []
        for more, following in reader:
            windows += more
            if len(windows) >= self._windows.source.shuffled:
                self._open = following, reader
                return windows, following
        return windows, Position(start.window + len(windows), start.epoch + 1)

    def _known(self) -> list[Position]:
        """What the file has, or the beginning alone where it has nothing sound."""
        beginning = [Position()]
        try:
            mark, starts = strict_json.loads(self._file.read_bytes())
            sound = mark == _mark(starts)  # a place that is wrong would give other windows
            return [Position(*start) for start in starts] if sound else beginning
        except (OSError, TypeError, ValueError):
            return beginning

    def _keep(self) -> None:
        """Writes down what is known, not more often than every so many windows."""
        last = self._starts[-1].window
        if last - self._kept < self._windows.source.shuffled:
            return
        starts = [dataclasses.astuple(start) for start in self._starts]
        try:
            cache.write(self._file, json.dumps([_mark(starts), starts]).encode())
        except OSError as error:
            # only speed is lost
            logging.getLogger(__name__).warning("where blocks begin was not kept: %s", error)
        self._kept = last


def _mark(starts: Sequence[Sequence[int]]) -> str:
    """By what damaged places are known for it."""
    return hashlib.sha256(json.dumps(starts).encode()).hexdigest()
