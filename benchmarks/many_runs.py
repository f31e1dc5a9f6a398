"""Several prompts in one job against as many runs one after the other, on the built-in backbone.

    python benchmarks/many_runs.py [--steps=300] [--at_once=8] [--out=FILE.md]

Eight prompts (four tasks, two seeds) of 20 rows, a batch of 32 each, evaluated every 50 steps:
first as eight commands, then as one with RUNS. Every command is a process of its own, and programs
that XLA compiled and tokens are kept between them, as they are for a user. Prints a Markdown table:
wall and CPU seconds, the ratio, and how far the prompts and their metrics are from one another.
"""

import argparse
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from safetensors.numpy import load_file

TASKS = ("demo_sentiment", "demo_qa", "demo_rte", "demo_wsc")
RUNS = {
    f"{task}_{seed}": {"MIXTURE_OR_TASK_NAME": task, "RANDOM_SEED": seed}
    for task in TASKS
    for seed in range(2)
}


def train(folder: pathlib.Path, steps: int, **macros) -> tuple[float, float]:
    """One command -> its wall and CPU seconds."""
    flags = {
        "MODEL_DIR": folder,
        "TASK_FEATURE_LENGTHS": '{"inputs": 40, "targets": 8}',
        "TRAIN_STEPS": steps,
        "EVAL_PERIOD": 50,
        "MIXTURE_OR_TASK_NAME": TASKS[0],
        **macros,
    }
    files = ["--gin_file=models/demo_prompt.gin", "--gin_file=runs/prompt_finetune.gin"]
    command = [sys.executable, "-m", "prompt_tuning_jax.train", *files]
    command += [f"--gin.{name}={value}" for name, value in flags.items()]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, cpu


def compared(folder: pathlib.Path) -> tuple[float, float]:
    """The largest differences of prompts (of values about 1) and of best metrics (of 100)."""
    prompts, metrics = [], []
    for name in RUNS:
        ends = [folder / kind / name / "artifact" for kind in ("alone", "together")]
        rows = [load_file(end / "tuned.safetensors")["shared/prompt"] for end in ends]
        facts = [json.loads((end / "artifact.json").read_text())["metrics"] for end in ends]
        prompts.append(np.abs(rows[0] - rows[1]).max())
        shared = [k for k in facts[0] if k in ("accuracy", "exact_match")]
        metrics += [abs(facts[0][k] - facts[1][k]) for k in shared]
    return float(max(prompts)), max(metrics)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--at_once", type=int, help="RUNS_AT_ONCE")
    parser.add_argument("--out", type=pathlib.Path)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        os.environ["PROMPT_TUNING_CACHE"] = str(folder / "cache")
        train(folder / "warm", 2)  # programs and tokens
        several = {"RUNS": json.dumps(RUNS), "RUNS_AT_ONCE": flags.at_once}
        train(folder / "warm_together", 2, **several)
        alone = [train(folder / "alone" / n, flags.steps, **own) for n, own in RUNS.items()]
        wall, cpu = (sum(values) for values in zip(*alone, strict=True))
        once_wall, once_cpu = train(folder / "together", flags.steps, **several)
        prompt, metric = compared(folder)
    lines = [
        f"`python benchmarks/many_runs.py {' '.join(sys.argv[1:])}`, {os.cpu_count()} cores, "
        f"{platform.machine()}, Python {platform.python_version()}",
        "",
        "| | eight runs | one job | ratio |",
        "|---|---|---|---|",
        f"| wall seconds | {wall:.1f} | {once_wall:.1f} | {once_wall / wall:.2f} |",
        f"| CPU seconds | {cpu:.1f} | {once_cpu:.1f} | {once_cpu / cpu:.2f} |",
        "",
        f"Largest difference of a prompt's value: {prompt:.2g}; of a best metric: {metric:.2g} of "
        "100.",
    ]
    print("\n".join(lines))
    if flags.out:
        flags.out.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
