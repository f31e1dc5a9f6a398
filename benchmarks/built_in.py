"""What the built-in backbones can be brought to: no prompt, prompt tuning, model tuning.

    python benchmarks/built_in.py --backbone=builtin://demo --out=built_in.json

Every built-in task, for one backbone and the given seeds: exact match on the task's 500 test
examples of the frozen model, of a prompt of 20 rows, of one whose rows do not see the input
("apart"), and of the whole model tuned. Each run is the `train` and `evaluate` that a user would
type, in this process, so that Python starts once, over one cache of compiled steps: a method's
first run is the slower. A run is added to the JSON file as soon as it is done; started again, the
command goes on after it. Then it prints the table.
"""

import argparse
import json
import os
import pathlib
import statistics
import tempfile
import time

from prompt_tuning_jax.demo import run
from prompt_tuning_jax.tasks.demo import DOWNSTREAM

LENGTHS = '{"inputs": 40, "targets": 8}'
METHODS = {
    "prompt": ["--gin_file=methods/prompt.gin", "--gin.PROMPT_LENGTH=20"],
    "apart": [
        "--gin_file=methods/prompt.gin",
        "--gin.PROMPT_LENGTH=20",
        "--gin.PROMPT_SEES_INPUT=False",
    ],
    "full": ["--gin_file=methods/full.gin"],
}


def measured(task: str, backbone: str, method: str, seed: int, steps: int) -> dict:
    """One run: exact match on the test split and the seconds of tuning."""
    lengths = f"--gin.TASK_FEATURE_LENGTHS={LENGTHS}"
    tested = [f"--backbone={backbone}", lengths]
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        if method != "frozen":
            start = time.monotonic()
            run(
                "train",
                "--gin_file=models/checkpoint.gin",
                "--gin.SCAN_UNROLL=0",
                *METHODS[method],
                "--gin_file=runs/prompt_finetune.gin",
                f"--gin.MIXTURE_OR_TASK_NAME={task}",
                f"--gin.INITIAL_CHECKPOINT_PATH={backbone}",
                f"--gin.TRAIN_STEPS={steps}",
                "--gin.EVAL_PERIOD=50",
                "--gin.CHECKPOINT_PERIOD=1000",
                f"--gin.RANDOM_SEED={seed}",
                f"--gin.MODEL_DIR={folder}",
                lengths,
            )
            seconds = time.monotonic() - start
            tested = [f"--artifact={folder}/artifact"]
        said = run("evaluate", f"--task={task}", "--split=test", "--gin.BATCH_SIZE=100", *tested)
    metrics = json.loads(said.splitlines()[-1])["metrics"]
    # a labelled task's accuracy is exact match too: any other text is wrong
    score = metrics.get("exact_match", metrics.get("accuracy"))
    return {"exact_match": score, "seconds": round(seconds)}


def table(results: dict) -> str:
    """A Markdown table: a task a row, the mean over seeds and the range."""
    methods = ("frozen", *METHODS)
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
    results = json.loads(flags.out.read_text()) if flags.out.exists() else {}
    compiled = tempfile.TemporaryDirectory()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled.name)
    for seed in range(flags.seeds):
        for task in flags.tasks.split(","):
            for method in flags.methods.split(","):
                key = f"{task} {method} {seed}"
                if key in results or (method == "frozen" and seed):
                    continue
                results[key] = measured(task, flags.backbone, method, seed, flags.steps)
                print(key, results[key], flush=True)
                flags.out.write_text(json.dumps(results, indent=1))
    print(table(results))


if __name__ == "__main__":
    main()
