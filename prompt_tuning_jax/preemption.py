"""SIGTERM, by which clusters take a machine away: the run ends after the step that it is at."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from prompt_tuning_jax import hosts

STATUS = 128 + signal.SIGTERM  # 143, as a shell says of a process that SIGTERM ended


class Stopped(Exception):
    """The run was told to end, and what it would go on from is saved."""


class Stop:
    """Whether the run has been told to end; of several processes, whether any has."""

    def __init__(self) -> None:
        self.told = False

    def at(self, step: int) -> bool:
        """Whether this step is the run's last; asked once before each step is taken."""
        if hosts.several():
            return hosts.stops(step)
        return self.told


@contextlib.contextmanager
def watched(first: int) -> Iterator[Stop]:
    """Within: SIGTERM does not end the process, but is told. first: the step before those asked.

    In the main thread; elsewhere Python takes no signals, and SIGTERM ends the process. Where there
    are several processes JAX takes it, and tells the others.
    """
    stop = Stop()

    def tell(number, frame) -> None:
        stop.told = True

    if hosts.several():
        hosts.share_sigterm(first)
        yield stop
        return
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, tell)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
