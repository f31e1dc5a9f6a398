"""The devices and the host at work at once: batches made ahead, results read one behind."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Made = TypeVar("Made")
Result = TypeVar("Result")


def ahead(make: Callable[[int], Made], steps: Iterable[int], depth: int = 2) -> Generator[Made]:
    """`make(step)` for each of `steps`, in order, at most `depth` of them made before they are
    asked for; `make` runs in one thread, and what it raises is raised here, in its step's turn.

    Closing the iterator (`contextlib.closing`) ends the thread.
    """
    rest = iter(steps)
    thread = ThreadPoolExecutor(1, "prefetch")
    try:
        queue = collections.deque(thread.submit(make, s) for s in itertools.islice(rest, depth))
        while queue:
            made = queue.popleft().result()
            queue.extend(thread.submit(make, s) for s in itertools.islice(rest, 1))
            yield made
    finally:
        thread.shutdown(cancel_futures=True)


def one_behind(results: Iterable[Result]) -> Generator[Result]:
    """The same results, each once the next is there too: what asks the devices for one as it makes
    it has then queued the next while this one is read."""
    before: collections.deque[Result] = collections.deque()
    for result in results:
        before.append(result)
        if len(before) > 1:
            yield before.popleft()
    yield from before
