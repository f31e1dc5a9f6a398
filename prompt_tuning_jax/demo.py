"""The main job on the built-in backbone, by the very commands that a user would type.

    python -m prompt_tuning_jax.demo

Evaluates the frozen model without a prompt, tunes a prompt, tunes the whole model, and draws both
runs' curves. Everything goes into ./demo; a second start goes on with what is there.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import pathlib
import shlex
import time

from prompt_tuning_jax import launch, plots

FOLDER = pathlib.Path("demo")
TASK, METRIC = "demo_sentiment", "accuracy"
LENGTHS = '{"inputs": 64, "targets": 4}'
COMMON = [
    "--gin_file=runs/prompt_finetune.gin",
    f"--gin.MIXTURE_OR_TASK_NAME={TASK}",
    f"--gin.TASK_FEATURE_LENGTHS={LENGTHS}",
    "--gin.EVAL_PERIOD=50",
    "--gin.CHECKPOINT_PERIOD=50",
    "--gin.TRAIN_STEPS=300",
]
PROMPT = ["--gin_file=models/demo_prompt.gin", *COMMON]
FULL = ["--gin_file=models/demo.gin", "--gin_file=methods/full.gin", *COMMON]


def run(command: str, *flags: str) -> str:
    """Prints a command line, runs it in this process and returns what it printed."""
    print(f"\n$ python -m prompt_tuning_jax.{command} {shlex.join(flags)}", flush=True)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = launch.main(command, flags)
    if status:
        raise SystemExit(status)
    return output.getvalue()


def accuracy(*flags: str) -> float:
    """The metric that `evaluate` prints in its last line."""
    return json.loads(run("evaluate", f"--task={TASK}", *flags).splitlines()[-1])["metrics"][METRIC]


def main() -> None:
    """Runs the demo and prints what came out."""
    logging.basicConfig(format="%(message)s")
    runs = {"prompt tuning": FOLDER / "prompt", "model tuning": FOLDER / "full"}
    without = accuracy("--backbone=builtin://demo", f"--gin.TASK_FEATURE_LENGTHS={LENGTHS}")
    seconds = {}
    for (name, folder), flags in zip(runs.items(), (PROMPT, FULL), strict=True):
        start = time.monotonic()
        run("train", *flags, f"--gin.MODEL_DIR={folder}")
        seconds[name] = time.monotonic() - start
    tuned = {name: accuracy(f"--artifact={folder / 'artifact'}") for name, folder in runs.items()}
    picture = FOLDER / "curves.png"
    plots.curves(runs, TASK, METRIC).savefig(picture, dpi=120)
    artifact = FOLDER / "prompt" / "artifact"
    size = sum(file.stat().st_size for file in artifact.iterdir())
    print(f"\n{TASK}, {METRIC} on the validation split:")
    print(f"  frozen model, no prompt  {without:5.1f}")
    for name in runs:
        print(f"  {name:23}  {tuned[name]:5.1f}   ({seconds[name]:.0f} s of training)")
    print(f"artifact: {artifact} ({size / 1000:.1f} kB)\ncurves:   {picture}")


if __name__ == "__main__":
    main()
