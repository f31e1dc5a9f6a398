"""Whether the devices wait for the host between two programs, from JAX's own trace.

    python benchmarks/waiting.py

Trains a prompt on the built-in backbone (batch 32), and the backbone itself by LM adaptation (batch
64, windows of a corpus), each in a process of its own: with batches made ahead in a thread, as
`train` does (prefetch.py), and made in the loop. Every step's report is read (LOG_PERIOD = 1), the
hardest case: a loop that has not queued the next step by then leaves the device idle. 40 steps are
traced (jax.profiler); the device is idle where none of their programs runs. Prints a Markdown
table: the median of a step, the median and longest gap between two, and the share of the time that
the device was idle. Then the same of the decoder's batches in an evaluation (500 examples), whose
predictions are read once the next batch is queued, or at once.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

import device_trace
import jax

from prompt_tuning_jax import evaluate, launch, prefetch, run_dir

FIRST, LAST = 20, 60  # the steps that are traced
JOBS = {
    "prompt": [
        "--gin_file=models/demo_prompt.gin",
        "--gin_file=runs/prompt_finetune.gin",
        "--gin.MIXTURE_OR_TASK_NAME=demo_sentiment",
        '--gin.TASK_FEATURE_LENGTHS={"inputs": 64, "targets": 4}',
    ],
    "LM adaptation": [
        "--gin_file=models/demo.gin",
        "--gin_file=runs/pretrain_demo_prefix_lm.gin",
        "--gin.ARTIFACT_STEPS=[]",
    ],
}
# the whole of one run of a program, on a CPU and on a GPU
PROGRAM = {"cpu": "ThunkExecutor::Execute (wait for completion)", "gpu": "XlaModule"}


def measured(job: str, ahead: bool) -> dict[str, float]:
    """Milliseconds of steps and gaps, and the idle share in per cent, of a run in this process."""
    if not ahead:
        prefetch.ahead = in_the_loop
    write = run_dir.Metrics.write
    with tempfile.TemporaryDirectory() as folder:

        def traced(self, kind, step, values) -> None:
            write(self, kind, step, values)
            if step == FIRST:
                jax.profiler.start_trace(f"{folder}/trace", profiler_options=device_trace.quiet())
            elif step == LAST:
                jax.profiler.stop_trace()

        run_dir.Metrics.write = traced
        flags = [*JOBS[job], "--gin.EVAL_TASKS=[]", "--gin.LOG_PERIOD=1"]
        flags += [f"--gin.TRAIN_STEPS={LAST + 5}", f"--gin.MODEL_DIR={folder}/run"]
        if launch.main("train", flags):
            raise SystemExit(f"{job}: the training failed")
        return gaps_in(pathlib.Path(folder))


def measured_evaluation(behind: bool) -> dict[str, float]:
    """The same of the decoder's batches in an evaluation."""
    if not behind:
        prefetch.one_behind = iter
    predict = evaluate.Evaluation._predict
    with tempfile.TemporaryDirectory() as folder:

        def traced(*args):
            predict(*args)  # compiles
            with jax.profiler.trace(folder, profiler_options=device_trace.quiet()):
                return predict(*args)

        evaluate.Evaluation._predict = traced
        flags = ["--backbone=builtin://demo", "--task=demo_sentiment"]
        flags += ['--gin.TASK_FEATURE_LENGTHS={"inputs": 64, "targets": 4}']
        if launch.main("evaluate", flags):
            raise SystemExit("the evaluation failed")
        return gaps_in(pathlib.Path(folder))


def gaps_in(folder: pathlib.Path) -> dict[str, float]:
    """What the trace that lies there tells."""
    events = device_trace.events(folder)
    name = PROGRAM[jax.default_backend()]
    # of programs of a step's size: a copy or a sum lasts microseconds
    runs = [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("name", "").startswith(name)]
    longest = max(end - start for start, end in runs)
    steps = sorted(run for run in runs if run[1] - run[0] > longest / 10)
    gaps = [
        max(0, after[0] - before[1]) / 1e3 for before, after in zip(steps, steps[1:], strict=False)
    ]
    return {
        "steps": len(steps),
        "step, ms": statistics.median(end - start for start, end in steps) / 1e3,
        "gap, ms": statistics.median(gaps),
        "longest gap, ms": max(gaps),
        "idle, %": 100 * sum(gaps) * 1e3 / (steps[-1][1] - steps[0][0]),
    }


def in_the_loop(make, steps, depth=2):
    """`prefetch.ahead` without a thread."""
    for step in steps:
        yield make(step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", choices=(*JOBS, "evaluation"), help=argparse.SUPPRESS)
    parser.add_argument("--ahead", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.job:
        with contextlib.redirect_stdout(sys.stderr):
            if flags.job in JOBS:
                found = measured(flags.job, flags.ahead)
            else:
                found = measured_evaluation(flags.ahead)
        print(json.dumps(found))
        return
    print(f"`python benchmarks/waiting.py`, {os.cpu_count()} cores, {platform.processor()}\n")
    print("| job | host | steps | step, ms | gap, ms | longest gap, ms | idle, % |")
    print("|---|---|---|---|---|---|---|")
    for job in (*JOBS, "evaluation"):
        training = (("batches ahead", ["--ahead"]), ("batches in the loop", []))
        reading = (("reads one behind", ["--ahead"]), ("reads at once", []))
        for host, option in training if job in JOBS else reading:
            command = [sys.executable, __file__, f"--job={job}", *option]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found = json.loads(output.splitlines()[-1])
            cells = " | ".join(f"{value:.4g}" for value in found.values())
            print(f"| {job} | {host} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
