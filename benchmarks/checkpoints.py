"""What a save costs the training loop: milliseconds that it is blocked, and bytes on the disk.

    python benchmarks/checkpoints.py

Trains a prompt of 20 rows on the built-in backbone and one of 100 rows on a T5 1.1 small of random
values, each in a process of its own, saving at every third step (a checkpoint, Orbax's, written by
a thread; KEEP = 2) and, apart from that, an artifact at every third (what a better evaluation or
ARTIFACT_STEPS write, in the loop). Prints a Markdown table: the median and 95th percentile of the
milliseconds that the loop waits for a save, the median that the thread takes for its write, the
median step, and the bytes of one checkpoint, of one artifact and of θ. The first save of a process,
which compiles its copy of the state, is left out. An artifact is of the step that was just queued,
so that its save waits for the rest of that step; it is timed after that.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import jax

from prompt_tuning_jax import artifacts, backbones, checkpoints, launch, run_dir
from prompt_tuning_jax.method import Method

STEPS = 90
JOBS = {
    "built-in, 20 rows": [
        "--gin_file=models/demo_prompt.gin",
        "--gin_file=runs/prompt_finetune.gin",
        '--gin.TASK_FEATURE_LENGTHS={"inputs": 64, "targets": 4}',
    ],
    "T5 1.1 small, 100 rows": [
        "--gin_file=models/t5_1_1_small_prompt.gin",
        "--gin_file=runs/prompt_finetune.gin",
        "--gin.INITIAL_CHECKPOINT_PATH=None",
        f"--gin.VOCABULARY_FILE={backbones.PACKAGED / 'demo' / 'sentencepiece.model'}",
        '--gin.TASK_FEATURE_LENGTHS={"inputs": 32, "targets": 4}',
        "--gin.BATCH_SIZE=2",
    ],
}


def measured(job: str) -> dict[str, float]:
    """The table's numbers, of a run in this process."""
    blocked, written, stored, times = [], [], [], []
    timed(checkpoints.Checkpoints, "save", blocked)
    timed(checkpoints.Checkpoints, "_write", written)
    save_artifact = artifacts.save_artifact

    def stored_after(path, method, tuned, facts) -> None:
        jax.block_until_ready(tuned)
        began = time.perf_counter()
        save_artifact(path, method, tuned, facts)
        stored.append(1e3 * (time.perf_counter() - began))

    artifacts.save_artifact = stored_after
    write = run_dir.Metrics.write

    def noted(*report) -> None:
        times.append(time.perf_counter())
        write(*report)

    run_dir.Metrics.write = noted
    theta = []
    split = Method.split

    def weighed(self, tree):
        theta.append(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)))
        return split(self, tree)

    Method.split = weighed
    with tempfile.TemporaryDirectory() as folder:
        flags = [*JOBS[job], "--gin.MIXTURE_OR_TASK_NAME=demo_sentiment", "--gin.EVAL_TASKS=[]"]
        flags += [f"--gin.TRAIN_STEPS={STEPS}", "--gin.CHECKPOINT_PERIOD=3", "--gin.LOG_PERIOD=1"]
        flags += [f"--gin.ARTIFACT_STEPS={[*range(2, STEPS, 3)]}", f"--gin.MODEL_DIR={folder}"]
        if launch.main("train", flags):
            raise SystemExit(f"{job}: the training failed")
        run = pathlib.Path(folder)
        bytes_ = [bytes_in(run / "checkpoints" / str(STEPS)), bytes_in(run / "artifact")]
    steps = [1e3 * (after - before) for before, after in zip(times[5:], times[6:], strict=False)]
    return {
        "blocked": statistics.median(blocked[1:]),
        "p95": statistics.quantiles(blocked[1:], n=20)[-1],
        "written": statistics.median(written[1:]),
        "artifact": statistics.median(stored),
        "step": statistics.median(steps),
        "checkpoint bytes": bytes_[0],
        "artifact bytes": bytes_[1],
        "theta bytes": theta[0],
    }


def timed(owner, name: str, into: list[float]) -> None:
    """Every call of owner.name adds its milliseconds to `into`."""
    call = getattr(owner, name)

    def clocked(*args):
        began = time.perf_counter()
        try:
            return call(*args)
        finally:
            into.append(1e3 * (time.perf_counter() - began))

    setattr(owner, name, clocked)


def bytes_in(folder: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.job:
        with contextlib.redirect_stdout(sys.stderr):
            found = measured(flags.job)
        print(json.dumps(found))
        return
    print(f"`python benchmarks/checkpoints.py`, {os.cpu_count()} cores\n")
    print(
        "| job | save blocks, ms: median | 95th percentile | written in, ms | artifact, ms "
        "| step, ms | checkpoint, bytes | artifact, bytes | θ, bytes |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for job in JOBS:
        command = [sys.executable, __file__, f"--job={job}"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(output.splitlines()[-1])
        cells = " | ".join(
            f"{value:,}" if "bytes" in name else f"{value:.2f}" for name, value in found.items()
        )
        print(f"| {job} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
