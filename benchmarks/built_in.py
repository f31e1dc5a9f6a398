"""What the built-in backbones can be brought to: no prompt, prompt tuning, model tuning.

    python benchmarks/built_in.py --backbone=builtin://demo --out=built_in.json

Every built-in task, for one backbone and the given seeds: exact match on the task's 500 test
examples of the frozen model, of a prompt of 20 rows, of the whole model tuned and, where --methods
has it, of a prompt whose rows do not see the input ("apart"). Each run is the `train` and
`evaluate` that a user would type, in this process, so that Python starts once, over one cache of
compiled steps: a method's first run is the slower. A run is added to the JSON file as soon as it is
done; started again, the command goes on after it. Then it prints the table.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

from prompt_tuning_jax.demo import run
from prompt_tuning_jax.tasks.demo import DOWNSTREAM

LENGTHS = '{"inputs": 40, "targets": 8}'
OFTEN = ("--gin.EVAL_PERIOD=50", "--gin.CHECKPOINT_PERIOD=1000")
METHODS = {
    "prompt": ["--gin_file=methods/prompt.gin", "--gin.PROMPT_LENGTH=20"],
    "apart": [
        "--gin_file=methods/prompt.gin",
        "--gin.PROMPT_LENGTH=20",
        "--gin.PROMPT_SEES_INPUT=False",
    ],
    "full": ["--gin_file=methods/full.gin"],
}


def tune(folder: str, task: str, backbone: str, seed: int, steps: int, *flags: str) -> None:
    """The `train` of a run on a built-in task; flags: its method and what is its own."""
    run(
        "train",
        "--gin_file=models/checkpoint.gin",
        "--gin.SCAN_UNROLL=0",
        "--gin_file=runs/prompt_finetune.gin",
        *flags,
        f"--gin.MIXTURE_OR_TASK_NAME={task}",
        f"--gin.INITIAL_CHECKPOINT_PATH={backbone}",
        f"--gin.TRAIN_STEPS={steps}",
        f"--gin.RANDOM_SEED={seed}",
        f"--gin.MODEL_DIR={folder}",
    )


def tested(task: str, *flags: str) -> float:
    """Exact match on the task's test split, by `evaluate`."""
    said = run("evaluate", f"--task={task}", "--split=test", "--gin.BATCH_SIZE=100", *flags)
    return exact_match(json.loads(said.splitlines()[-1])["metrics"])


def exact_match(metrics: dict):
    """A number, or an array of one an evaluation, 0-100."""
    # a labelled task's accuracy is exact match too: any other text is wrong
    return metrics.get("exact_match", metrics.get("accuracy"))


def measured(task: str, backbone: str, method: str, seed: int, steps: int) -> dict:
    """One run: exact match on the test split and the seconds of tuning."""
    lengths = f"--gin.TASK_FEATURE_LENGTHS={LENGTHS}"
    if method == "frozen":
        return {"exact_match": tested(task, f"--backbone={backbone}", lengths), "seconds": 0}
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        tune(folder, task, backbone, seed, steps, *METHODS[method], *OFTEN, lengths)
        seconds = round(time.monotonic() - start)
        return {"exact_match": tested(task, f"--artifact={folder}/artifact"), "seconds": seconds}


def kept(out: pathlib.Path, runs: Iterable[tuple[str, Callable[[], Any]]]) -> dict:
    """What each run measures, by its name: from the JSON file `out` where it is there, else
    measured now, over one cache of compiled steps, and added to the file at once."""
    results = json.loads(out.read_text()) if out.exists() else {}
    with tempfile.TemporaryDirectory() as compiled:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled)
        for name, measure in runs:
            if name not in results:
                results[name] = measure()
                print(name, results[name], flush=True)
                out.write_text(json.dumps(results, indent=1))
    return results


def table(results: dict) -> str:
    """A Markdown table: a task a row, the mean over seeds and the range."""
    measured = {key.split(" ")[1] for key in results}
    methods = [method for method in ("frozen", *METHODS) if method in measured]
    lines = ["| task | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    columns: dict[str, list[float]] = {method: [] for method in methods}
    for task in DOWNSTREAM:
        cells = []
        for method in methods:
            scores = [
                r["exact_match"]
                for key, r in results.items()
                if key.split(" ")[:2] == [task.name, method]
            ]
            if scores:
                columns[method].append(statistics.mean(scores))
            span = f" ({min(scores):.1f}-{max(scores):.1f})" if len(scores) > 1 else ""
            cells.append(f"{statistics.mean(scores):.1f}{span}" if scores else "")
        if any(cells):
            lines.append(f"| {task.name} | " + " | ".join(cells) + " |")
    means = (f"{statistics.mean(v):.1f}" if v else "" for v in columns.values())
    return "\n".join([*lines, "| mean | " + " | ".join(means) + " |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="builtin://demo")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--tasks", default=",".join(task.name for task in DOWNSTREAM))
    parser.add_argument("--methods", default="frozen,prompt,full")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    flags = parser.parse_args()
    runs = (
        (
            f"{task} {method} {seed}",
            functools.partial(measured, task, flags.backbone, method, seed, flags.steps),
        )
        for seed in range(flags.seeds)
        for task in flags.tasks.split(",")
        for method in flags.methods.split(",")
        if method != "frozen" or not seed
    )
    print(table(kept(flags.out, runs)))


if __name__ == "__main__":
    main()
