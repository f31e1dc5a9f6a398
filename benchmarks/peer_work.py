"""The work that ours and the peers are measured at, and how: numpy alone, for any interpreter.

T5 1.1 small (Raffel et al. 2020; Shazeer 2020) in float32 with a prompt of P rows. Every peer is a
file `peer_NAME.py` that `peers.py` runs in a process of its own, so that peak memory, CPU seconds
and start are its own; `report` prints what it measured as a line of JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import time
from collections.abc import Callable

import numpy as np

D, H, K, F, L, V = 512, 6, 64, 1024, 8, 32128
EOS = 1


@dataclasses.dataclass(frozen=True)
class Work:
    """B examples of T input tokens, none of them padding, and U target tokens; P prompt rows, 0
    where there is no prompt."""

    what: str = "train"
    batch: int = 8
    inputs: int = 128
    targets: int = 16
    prompt: int = 100
    repeats: int = 5
    checkpoint: str = ""  # Hugging Face's; `peer_peft.py --what=checkpoint` writes it

    def tokens(self) -> tuple[np.ndarray, np.ndarray]:
        """Random tokens [B,T] and [B,U], the same for all peers."""
        draw = np.random.RandomState(0)
        inputs = draw.randint(3, 32000, (self.batch, self.inputs))
        return inputs, draw.randint(3, 32000, (self.batch, self.targets))

    def rows(self) -> np.ndarray:
        """The prompt [P,D], the same for all."""
        return np.random.RandomState(1).uniform(-0.5, 0.5, (self.prompt, D)).astype(np.float32)

    def products(self) -> dict[tuple[int, int, int, int], int]:
        """(n, rows, inner, columns) of each batch of n matrix products of a training step -> how
        often it is computed. The step is a forward pass and its gradient with respect to the
        activations alone: every product with a frozen weight once more, those between activations
        (in attention) twice more."""
        s, u = self.prompt + self.inputs, self.targets
        counts: dict[tuple[int, int, int, int], int] = {}

        def weight(rows, inner, columns, times):
            for key in ((1, rows, inner, columns), (1, rows, columns, inner)):
                counts[key] = counts.get(key, 0) + times

        def attention(queries, keys):
            for inner, columns, times in ((K, keys, 2), (keys, K, 2)):
                key = (self.batch * H, queries, inner, columns)
                counts[key] = counts.get(key, 0) + times * L
            # keys' and values' gradients
            key = (self.batch * H, keys, queries, K)
            counts[key] = counts.get(key, 0) + 2 * L

        encoder, decoder = self.batch * s, self.batch * u
        weight(encoder, D, H * K, (3 + 2) * L)  # query key value; cross-attention's key and value
        weight(encoder, H * K, D, L)
        weight(encoder, D, F, 2 * L)
        weight(encoder, F, D, L)
        weight(decoder, D, H * K, (3 + 1) * L)
        weight(decoder, H * K, D, 2 * L)
        weight(decoder, D, F, 2 * L)
        weight(decoder, F, D, L)
        weight(decoder, D, V, 1)
        attention(s, s)
        attention(u, u)
        attention(u, s)
        return counts

    def flops(self) -> float:
        """Floating-point operations of a training step's matrix products."""
        return float(sum(2 * np.prod(k) * count for k, count in self.products().items()))


def arguments() -> argparse.ArgumentParser:
    """A parser of `Work`'s fields, each an option."""
    parser = argparse.ArgumentParser()
    for field in dataclasses.fields(Work):
        parser.add_argument(
            f"--{field.name}", type=type(field.default), default=field.default, help="see Work"
        )
    return parser


def work_of(given: argparse.Namespace) -> Work:
    return Work(**{field.name: getattr(given, field.name) for field in dataclasses.fields(Work)})


def seconds(call: Callable[[], object], repeats: int) -> dict[str, float]:
    """Of `repeats` calls after one that warms up: median, best, and user CPU seconds a call."""
    call()
    times, before = [], os.times().user
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    used = (os.times().user - before) / repeats
    return {"median": statistics.median(times), "best": min(times), "user": used}


def product_times(
    work: Work, make: Callable[[np.ndarray, np.ndarray], Callable[[], object]]
) -> dict[str, float]:
    """Best seconds of each of `work.products()`; make(a, b) -> a call that computes a @ b."""
    draw, times = np.random.RandomState(1), {}
    for n, rows, inner, columns in work.products():
        a = draw.rand(n, rows, inner).astype(np.float32)
        b = draw.rand(n, inner, columns).astype(np.float32)
        call = make(a, b) if n > 1 else make(a[0], b[0])
        repeats = 10 * max(1, int(1e8 / (n * rows * inner * columns)))
        times[str((n, rows, inner, columns))] = seconds(call, repeats)["best"]
    return times


def age() -> float:
    """Seconds since this process began."""
    ticks = float(pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    up = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    return up - ticks / os.sysconf("SC_CLK_TCK")


def peak_mib() -> float:
    """VmHWM, the most memory that this process has held at once, MiB."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def report(**measured: object) -> None:
    print(json.dumps(measured | {"peak_mib": peak_mib()}), flush=True)
