"""Ours side by side with PEFT, and with T5X's prompt tuning where it is checked out.

    python benchmarks/peers.py --peft_python=.venv-parity/bin/python
        [--t5x=CHECKOUT --flaxformer=CHECKOUT --prompt_tuning=CHECKOUT] [--batch=32] [--output=FILE]
        [--rows_once] [--scan_unroll=0] [--what=train]

A T5 1.1 small of random values in float32, its prompt of 100 rows, 128 input and 16 target tokens:
training steps with dropout 0.1 (ours: Adafactor, PEFT: torch's AdamW, T5X: its Adafactor),
teacher-forced evaluation, greedy generation of exactly 16 tokens, with and without the prompt. Each
is measured in a process of its own, ours and theirs in turn, `--rounds` times, so that a drift of
the machine's speed meets all alike; medians over the rounds are reported. Ours and PEFT read one
checkpoint: their losses and generated tokens are compared. The machine's limit is the best time of
every matrix product of a step, in jax and in torch, measured in the same run. --rows_once: ours
computes the prompt's rows once a batch (PROMPT_SEES_INPUT=False; the peers cannot, so that losses
differ); --scan_unroll: ours with so many layers to a step of the scan, 0 is all; --what: a part of
it. Prints a Markdown table; --output writes JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile

import peer_work

FOLDER = pathlib.Path(__file__).parent
# (what is measured, with the prompt) -> the row of its rate
JOBS = {
    ("train", True): "",
    ("evaluate", True): "evaluation, examples/s",
    ("generate", True): "generation, sequences/s",
    ("evaluate", False): "evaluation without the prompt, examples/s",
    ("generate", False): "generation without the prompt, sequences/s",
}
PACKAGES = ("jax", "flax", "torch", "transformers", "peft")
# (what a row shows, its goal as ours / theirs: against PEFT, against T5X)
GOALS = {
    "training step, s": ("≤ 0.85", "≤ 0.7"),
    "evaluation, examples/s": ("≥ 1.2", ""),
    "generation, sequences/s": ("≥ 1.6", ""),
    "peak memory of training, MiB": ("≤ 0.7", ""),
}


ROWS_ONCE = GOALS | {
    "training step, s": ("≤ 0.65 (batch 8), ≤ 0.5 (32)", ""),
    "generation, sequences/s": ("≥ 2.5", ""),
}


def measure(command: list[str], work: peer_work.Work) -> dict:
    """What a process of a peer reports."""
    options = [f"--{name}={value}" for name, value in vars(work).items()]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join([*command, *options])}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rows_of(reports: dict, batch: int) -> dict[str, float]:
    """A peer's rows: medians over the rounds."""

    def median(job, read):
        return statistics.median(read(report) for report in reports[job])

    train, rows = ("train", True), {}
    if reports[train]:
        rows = {
            "training step, s": median(train, lambda r: r["train"]["median"]),
            "training step, best, s": min(r["train"]["best"] for r in reports[train]),
            "user CPU of a training step, s": median(train, lambda r: r["train"]["user"]),
            "peak memory of training, MiB": median(train, lambda r: r["peak_mib"]),
            "start of training (imports, reading), s": median(train, lambda r: r["start_s"]),
            "compilation of the step, s": median(train, lambda r: r["compile_s"]),
        }
    for job, name in JOBS.items():
        if name and reports[job]:
            rows[name] = batch / median(job, lambda r, what=job[0]: r[what]["median"])
            if job[1]:
                memory = f"peak memory of {name.split(',')[0]}, MiB"
                rows[memory] = median(job, lambda r: r["peak_mib"])
    return rows


def agreement(ours: dict, theirs: dict, prompts: tuple[bool, ...]) -> list[str]:
    """How far two peers that read one checkpoint compute the same."""
    lines = []
    for prompt in prompts:
        if not (ours["evaluate", prompt] and ours["generate", prompt]):
            continue
        which = "with" if prompt else "without"
        a, b = (peer["evaluate", prompt][0]["loss"] for peer in (ours, theirs))
        ids = [sum(peer["generate", prompt][0]["ids"], []) for peer in (ours, theirs)]
        same = sum(x == y for x, y in zip(*ids, strict=True))
        lines.append(
            f"{which.capitalize()} the prompt losses {a:.5f} and {b:.5f}, {same} of {len(ids[0])} "
            "generated tokens the same."
        )
    return lines


def machine(peft_python: str) -> str:
    cpu = next(
        line.split(":")[1].strip()
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    ask = "import importlib.metadata as m, sys; [print(n, m.version(n)) for n in sys.argv[1:]]"
    own = [f"{n} {importlib.metadata.version(n)}" for n in PACKAGES[:2]]
    command = [peft_python, "-c", ask, *PACKAGES[2:]]
    others = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    return f"{os.cpu_count()} cores of {cpu}; {', '.join([*own, *filter(None, others)])}"


def table(results: dict[str, dict[str, float]], goals: dict[str, tuple[str, str]]) -> list[str]:
    ours, *others = results
    head = [ours, *(column for peer in others for column in (peer, "ratio", "goal"))]
    lines = [f"| | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for name, value in results[ours].items():
        cells = [f"{value:.4g}"]
        for i, peer in enumerate(others):
            theirs = results[peer].get(name)
            ratio = f"{value / theirs:.2f}" if theirs else ""
            cells += [f"{theirs:.4g}" if theirs is not None else "", ratio]
            cells.append(goals.get(name, ("", ""))[i])
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peft_python", default=".venv-parity/bin/python")
    for name in ("t5x", "flaxformer", "prompt_tuning"):
        parser.add_argument(f"--{name}", help="a checkout")
    parser.add_argument("--batch", type=int, default=peer_work.Work.batch)
    parser.add_argument("--repeats", type=int, default=peer_work.Work.repeats)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--what", default="train,evaluate,generate")
    parser.add_argument("--rows_once", action="store_true")
    parser.add_argument("--scan_unroll", type=int, default=1)
    parser.add_argument("--output", help="a file for the JSON")
    given = parser.parse_args()
    own = [f"--scan_unroll={given.scan_unroll}", *(["--rows_once"] * given.rows_once)]
    peers = {
        "ours": [sys.executable, str(FOLDER / "peer_ours.py"), *own],
        "PEFT": [given.peft_python, str(FOLDER / "peer_peft.py")],
    }
    if given.t5x:
        names = ("t5x", "flaxformer", "prompt_tuning")
        checkouts = [f"--{name}={getattr(given, name)}" for name in names]
        peers["T5X"] = [sys.executable, str(FOLDER / "peer_t5x.py"), *checkouts]
    reports: dict = {peer: {job: [] for job in JOBS} for peer in peers}
    wanted = [job for job in JOBS if job[0] in given.what.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        work = peer_work.Work(batch=given.batch, repeats=given.repeats, checkpoint=folder)
        measure(peers["PEFT"], dataclasses.replace(work, what="checkpoint"))
        best: dict[str, float] = {}
        for _ in range(given.rounds):
            for what, prompt in wanted:
                one = dataclasses.replace(work, what=what, prompt=work.prompt * prompt)
                for peer, command in peers.items():
                    if prompt or peer != "T5X":
                        reports[peer][what, prompt].append(measure(command, one))
            for peer in ("ours", "PEFT"):
                found = measure(peers[peer], dataclasses.replace(work, what="products"))
                for key, value in found["products"].items():
                    best[key] = min(value, best.get(key, value))
    results = {peer: rows_of(reports[peer], work.batch) for peer in peers}
    same = (False,) if given.rows_once else (True, False)
    limit = sum(best[str(key)] * count for key, count in work.products().items())
    for peer, rows in results.items():
        # ours with rows once a batch is less work than this
        if "training step, s" in rows and (peer != "ours" or not given.rows_once):
            rows["share of the machine's limit"] = limit / rows["training step, s"]
    print(f"`{shlex.join(['python', *sys.argv])}`: {machine(given.peft_python)}.\n")
    print("\n".join(table(results, ROWS_ONCE if given.rows_once else GOALS)))
    print(
        f"\nA training step is {work.flops() / 1e9:.0f} GFLOP of matrix products, at the best "
        f"{work.flops() / limit / 1e9:.0f} GFLOP/s: {limit:.2f} s."
    )
    print(*agreement(reports["ours"], reports["PEFT"], same), sep="\n")
    if given.output:
        rounds = {
            f"{peer} {what}{'' if prompt else ' without the prompt'}": found
            for peer in peers
            for (what, prompt), found in reports[peer].items()
        }
        record = {"results": results, "limit_s": limit, "flops": work.flops(), "rounds": rounds}
        pathlib.Path(given.output).write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
