"""What a user waits for: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
import sys
import time

from tqdm import tqdm


class Progress(contextlib.AbstractContextManager):
    """Counts `total` units. On a terminal a bar with rate and time left; else a line at most every
    `seconds`, to standard error either way. `note(text)` prints a line without breaking the bar.

    patience: seconds before anything is said, so that nothing is of what takes less."""

    def __init__(
        self,
        title: str,
        total: int,
        start: int = 0,
        unit: str = "step",
        seconds: float = 10,
        patience: float = 0,
    ):
        self.patience = patience
        self.title, self.total, self.unit, self.seconds = title, total, unit, seconds
        self.done, self.first, self.facts = start, start, ""
        self.began = self.said = time.monotonic()
        self.bar = None
        if sys.stderr.isatty():
            options = {"initial": start, "desc": title, "unit": unit, "delay": patience}
            self.bar = tqdm(total=total, dynamic_ncols=True, **options)

    def update(self, count: int = 1, facts: str = "") -> None:
        """`count` more units are done; `facts` ("loss 0.123") stands beside them."""
        self.done += count
        self.facts = facts or self.facts
        if self.bar is not None:
            self.bar.set_postfix_str(self.facts, refresh=False)
            self.bar.update(count)
            return
        elapsed = max(time.monotonic() - self.began, 1e-9)
        due = time.monotonic() - self.said >= self.seconds or self.done == self.total
        if due and elapsed >= self.patience:
            self.said = time.monotonic()
            rate = (self.done - self.first) / elapsed
            left = (self.total - self.done) / rate if rate else float("inf")
            self.note(
                f"{self.title}: {self.done}/{self.total} {self.unit}s, {rate:.2f}/s, "
                f"{_clock(elapsed)} gone, {_clock(left)} left {self.facts}".rstrip()
            )

    def note(self, text: str) -> None:
        """A line of its own."""
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def __exit__(self, *error) -> None:
        if self.bar is not None:
            self.bar.close()


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
