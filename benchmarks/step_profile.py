"""Where a training step's time goes on a CPU, by kind of operation, from JAX's own trace.

    python benchmarks/step_profile.py [--rows_once] [--scan_unroll=0]

The step of `peers.py` (T5 1.1 small in float32, random values, batch 8, 128 input and 100 prompt
rows, 16 target tokens). Milliseconds of each kind, summed over the threads that computed it, for
one traced step; the median of the steps before it stands above the table. What the threads' sum
lacks of `cores` times the step, they waited for one another.
"""

import collections
import os
import pathlib
import re
import shlex
import statistics
import sys
import tempfile
import time

import device_trace
import jax
import peer_ours
import peer_work

# (kind, what an operation's name begins with, what its place in the model contains), the first fits
KINDS = [
    ("products of queries, keys, values", r"ynn_fusion|dot", r"bhts|bthk"),
    ("products with weights", r"ynn_fusion|dot", r"dot_general"),
    ("sums and maxima of softmax and norms", r"ynn_fusion|.*reduce", r""),
    ("the scan: weights out, kept values in, copies", r".*dynamic|copy$|copy\.|while", r""),
    ("transposes", r".*transpose|copy_bitcast", r""),
    ("other passes over elements", r"", r""),
]


def kind_of(name: str, place: str) -> str:
    return next(k for k, begins, has in KINDS if re.match(begins, name) and re.search(has, place))


def main() -> None:
    peer_ours.given = peer_ours.arguments().parse_args()
    work = peer_work.work_of(peer_ours.given)
    compiled, call, _, _ = peer_ours.step_of(work)
    places = dict(
        re.findall(r'^ *(?:ROOT )?%([\w.-]+) = .*op_name="([^"]*)"', compiled.as_text(), re.M)
    )
    steps = []
    for _ in range(work.repeats + 1):
        start = time.perf_counter()
        call()
        steps.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=device_trace.quiet()):
            call()
        found = device_trace.events(pathlib.Path(folder))
    spent: collections.Counter[str] = collections.Counter()
    for event in found:
        name = event.get("args", {}).get("hlo_op")
        if event.get("ph") == "X" and name:
            spent[kind_of(name, places.get(name, ""))] += event["dur"] / 1e3
    cores, step = len(os.sched_getaffinity(0)), 1e3 * statistics.median(steps[1:])
    print(f"`{shlex.join(['python', *sys.argv])}`: a step is {step:.0f} ms on {cores} core(s), ")
    print(f"{work.flops() / 1e9:.0f} GFLOP of matrix products with the rows joined.\n")
    print("| kind | ms of threads | share |\n|---|---|---|")
    total = sum(spent.values())
    for kind, *_ in KINDS:
        print(f"| {kind} | {spent[kind]:.0f} | {100 * spent[kind] / total:.0f} % |")
    print(f"| all | {total:.0f} | of {cores} x {step:.0f}: {100 * total / cores / step:.0f} % |")


if __name__ == "__main__":
    main()
