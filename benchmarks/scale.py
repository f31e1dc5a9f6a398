"""The smallest TPU slice on which each T5 1.1 can be tuned, by compiling the real step for it.

    python benchmarks/scale.py --out=scale.json [--only=xxl] [--table=docs/scale.md]

Needs libtpu (the extra tpu-topology) and no TPU. Every row is the training step of
`describe --topology=…` in a process of its own, slices from the smallest on until one fits, for
each with fewer and fewer examples at a time (NUM_MICROBATCHES). Goes on where --out was left;
prints a Markdown table, into --table between its two marks.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import time

SIZES = ("xxl", "xl", "large", "base", "small")
SLICES = {
    "v5e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8"),
    "v5p": ("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4"),
}
MEMORY = {"v5e": 15.75 * 2**30, "v5p": 95.74 * 2**30}
KINDS = {
    "prompt, bfloat16": ["--gin_file=methods/prompt.gin", "--gin.FROZEN_DTYPE=bfloat16"],
    "prompt, int8": ["--gin_file=methods/prompt.gin", "--gin.FROZEN_DTYPE=int8"],
    "full, float32": ["--gin_file=methods/full.gin", "--gin.PARAMETER_PARTITIONING_DIMS=2"],
}
ROWS_ONCE = "--gin.PROMPT_SEES_INPUT=False"
STEP = [
    "--gin_file=runs/prompt_finetune.gin",
    '--gin.TASK_FEATURE_LENGTHS={"inputs": 512, "targets": 100}',
    "--gin.BATCH_SIZE=32",
    "--gin.ACTIVATION_DTYPE=bfloat16",
    "--gin.REMAT_POLICY=full",
    "--gin.EVAL_TASKS=[]",  # the training step alone
]
MICROBATCHES = (1, 8)
MARKS = "<!-- made by benchmarks/scale.py -->", "<!-- until here -->"


class Refused(Exception):
    """`describe`'s error."""


def described(size: str, *flags: str) -> dict:
    """What `describe` says of a model of that size."""
    command = [sys.executable, "-m", "prompt_tuning_jax.describe"]
    done = subprocess.run(
        [*command, f"--gin_file=models/t5_1_1_{size}.gin", *flags], capture_output=True, text=True
    )
    if done.returncode:
        said = (done.stderr.splitlines() or [f"status {done.returncode}"])[-1]
        raise Refused(f"{' '.join(flags)}: {said}")
    return json.loads(done.stdout)


def found(size: str, kind: str, chip: str) -> dict:
    """The smallest slice that fits and what it needs there; what was tried before."""
    flags = [*KINDS[kind], *([ROWS_ONCE] if "prompt" in kind else [])]
    counts, tried = described(size, STEP[0], *flags), []
    # at least: what is frozen as it is held, and float32 parameters and gradients of what is tuned
    least = counts["frozen_bytes_per_device"] + 8 * counts["tuned_parameters"]
    for shape in SLICES[chip]:
        chips = math.prod(map(int, shape.split("x")))
        if least / chips > MEMORY[chip]:
            tried.append({"slice": shape, "least_bytes": least / chips})
            continue
        for parts in MICROBATCHES:
            more = [f"--topology={chip}:{shape}", f"--gin.NUM_MICROBATCHES={parts}"]
            print(f"{size}, {kind}: {chip}:{shape}, {parts} microbatches …", flush=True)
            start = time.monotonic()
            try:
                facts = described(size, *STEP, *flags, *more)
            except Refused as refused:
                if "no multiple of MESH" in str(refused):
                    break  # fewer examples than devices
                raise
            seconds = time.monotonic() - start
            step = facts["train"]
            print(f"  {'fits' if step['fits'] else 'does not fit'} ({seconds:.0f} s)", flush=True)
            here = {"slice": shape, "chips": chips, "microbatches": parts, "seconds": seconds}
            if step["fits"]:
                return {**here, "facts": facts, "tried": tried}
            tried.append({**here, "step": step})
    return {"slice": None, "tried": tried}


def _too_small(row: dict) -> str:
    """The largest slice that did not do, with the fewest examples at a time, and what it needed."""
    smaller = [one for one in row["tried"] if one["slice"] != row["slice"]]
    if not smaller:
        return ""
    last = smaller[-1]
    if "least_bytes" in last:
        return f"{last['slice']}: at least {last['least_bytes'] / 2**30:.1f} GiB"
    step = last["step"]
    needed = f"{step['used_bytes'] / 2**30:.1f} GiB" if "used_bytes" in step else step["said"]
    return f"{last['slice']}: {needed}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line(name: str, row: dict) -> str:
    size, kind, chip = name.split("/")
    before = _too_small(row)
    if row["slice"] is None:
        return f"| {size} | {kind} | {chip}: none tried | | | | | | | | {before} |"
    step, mesh = row["facts"]["train"], row["facts"]["mesh"]
    held, temporary = (step[k] / 2**30 for k in ("argument_bytes", "temporary_bytes"))
    sent = sum(moved["sent"] for moved in step["collectives"].values())
    milliseconds = 1000 * step["roofline_seconds"]["step"]
    return (
        f"| {size} | {kind} | {chip}:{row['slice']} | {mesh['data']}x{mesh['model']} | "
        f"{row['microbatches']} | {held:.2f} + {temporary:.2f} | "
        f"{_number(step['flops'] / 1e12)} | {_number(step['hbm_bytes'] / 1e9)} | "
        f"{_number(sent / 1e9)} | "
        f"{milliseconds:,.0f}, {step['limited_by']} | {before} |"
    )


def table(rows: dict[str, dict]) -> list[str]:
    head = (
        "| T5 1.1 | tuned, held in | smallest slice | data x model | microbatches | "
        "GiB a chip: arguments + temporaries | TFLOP a chip | GB read and written | GB sent | "
        "bound of a step, ms, by | what the slice before lacks room for |"
    )
    order = [f"{size}/{kind}/{chip}" for size in SIZES for kind in KINDS for chip in SLICES]
    return [head, "|---" * 11 + "|", *(_line(name, rows[name]) for name in order if name in rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("scale.json"))
    parser.add_argument("--only", help="one size")
    parser.add_argument("--minutes", type=float, default=1e9, help="no row is begun after so many")
    parser.add_argument("--table", type=pathlib.Path, help="the page that has the table")
    flags = parser.parse_args()
    rows = json.loads(flags.out.read_text()) if flags.out.exists() else {}
    start = time.monotonic()
    for size in [flags.only] if flags.only else SIZES:
        for kind in KINDS:
            for chip in SLICES:
                name = f"{size}/{kind}/{chip}"
                if name in rows or time.monotonic() - start > 60 * flags.minutes:
                    continue
                rows[name] = found(size, kind, chip)
                half = flags.out.with_suffix(".half")
                half.write_text(json.dumps(rows, indent=1))
                os.replace(half, flags.out)
                print(_line(name, rows[name]), flush=True)
    lines = table(rows)
    print("\n".join(lines))
    if flags.table:
        before, _, rest = flags.table.read_text().partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        text = "\n".join([MARKS[0], "", *lines, "", MARKS[1]])
        flags.table.write_text(before + text + after)


if __name__ == "__main__":
    main()
