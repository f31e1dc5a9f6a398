"""The fast recipe after a third of the steps, beside the paper's after all of them.

    python benchmarks/fewer_steps.py --out=fewer_steps.json --seeds=3

Tunes a prompt of 20 rows on built-in tasks by prompts/paper.gin in `--steps`, by prompts/fast.gin
in a third of them, and by the paper's recipe in a third of them too, to tell the recipe's worth
from a task's ease; all are evaluated as many times. Keeps exact match on the task's validation
split over the steps, and on its 500 test examples of the last step and of the best one by
validation. Each run is the `train` and `evaluate` that a user would type, in this process. A run is
added to the JSON file as soon as it is done; started again, the command goes on after it. Then it
prints the table; fewer_steps_picture.py draws the curves.
"""

import argparse
import functools
import pathlib
import statistics
import tempfile

import built_in

from prompt_tuning_jax import plots
from prompt_tuning_jax.tasks.demo import DOWNSTREAM

# name -> (gin file, what the steps are divided by)
RECIPES = {"paper": ("paper", 1), "third": ("paper", 3), "fast": ("fast", 3)}
# The longest input in tokens of these tasks, 30 of the others: padding would change no result.
INPUTS = {"sentiment": 16, "wsc": 20, "qa": 38, "boolq": 38}


def measured(task: str, backbone: str, recipe: str, seed: int, steps: int, evaluations: int):
    """One run -> {"steps", "curve": (step, exact match) pairs, "last", "best": exact match}."""
    inputs = INPUTS.get(task.split("_")[1], 30)
    file, part = RECIPES[recipe]
    total = steps // part
    with tempfile.TemporaryDirectory() as folder:
        built_in.tune(
            folder,
            task,
            backbone,
            seed,
            total,
            "--gin_file=methods/prompt.gin",
            f"--gin_file=prompts/{file}.gin",
            "--gin.PROMPT_LENGTH=20",
            f'--gin.TASK_FEATURE_LENGTHS={{"inputs": {inputs}, "targets": 2}}',
            f"--gin.ARTIFACT_STEPS=[{total}]",
            f"--gin.EVAL_PERIOD={total // evaluations}",
            "--gin.EVAL_BATCH_SIZE=100",
            "--gin.CHECKPOINT_PERIOD=100_000",
        )
        metrics = plots.read_metrics(folder, f"eval/{task}")
        tested = {
            name: round(built_in.tested(task, f"--artifact={folder}/{artifact}"), 1)
            for name, artifact in (("last", f"artifacts/{total}"), ("best", "artifact"))
        }
    scores = built_in.exact_match(metrics).round(1).tolist()
    curve = list(zip(metrics["step"].tolist(), scores, strict=True))
    return {"steps": total, "curve": curve, **tested}


def table(results: dict) -> str:
    """Markdown: the mean over seeds (least-most) on the test split, a task and backbone a row."""
    columns = [f"{which} step, {recipe}" for which in ("last", "best") for recipe in RECIPES]
    lines = ["| task | backbone | seeds | " + " | ".join(columns) + " |"]
    lines.append("|---|" + "---|" * (len(columns) + 2))
    means: dict[str, list[float]] = {column: [] for column in columns}
    for task, backbone in dict.fromkeys(tuple(key.split(" ")[:2]) for key in results):
        found: dict[str, list[dict]] = {recipe: [] for recipe in RECIPES}
        for key, result in results.items():
            if key.split(" ")[:2] == [task, backbone]:
                found[key.split(" ")[2]].append(result)
        if not all(found.values()):
            continue
        cells = [task, backbone, "/".join(str(len(runs)) for runs in found.values())]
        for column in columns:
            which, recipe = column.split(" step, ")
            scores = [run[which] for run in found[recipe]]
            means[column].append(statistics.mean(scores))
            cells.append(f"{means[column][-1]:.1f} ({min(scores):.1f}-{max(scores):.1f})")
        lines.append("| " + " | ".join(cells) + " |")
    cells = [f"{statistics.mean(scores):.1f}" if scores else "" for scores in means.values()]
    return "\n".join([*lines, "| mean | | | " + " | ".join(cells) + " |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--backbone", default="demo", help="of builtin://")
    parser.add_argument("--tasks", default=",".join(task.name for task in DOWNSTREAM))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300, help="of the paper's recipe")
    parser.add_argument("--evaluations", type=int, default=5, help="of each run")
    flags = parser.parse_args()
    backbone, planned = f"builtin://{flags.backbone}", (flags.steps, flags.evaluations)
    runs = (
        (
            f"{task} {flags.backbone} {recipe} {flags.steps} {seed}",
            functools.partial(measured, task, backbone, recipe, seed, *planned),
        )
        for seed in range(flags.seeds)
        for task in flags.tasks.split(",")
        for recipe in RECIPES
    )
    print(table(built_in.kept(flags.out, runs)))


if __name__ == "__main__":
    main()
