"""Draws the curves of fewer_steps.py.

    python benchmarks/fewer_steps_picture.py --results=fewer_steps.json --out=fewer_steps.png

A panel a task and backbone: exact match on the validation split over the steps by each recipe,
the mean over the seeds and a band from the worst to the best of them.
"""

import argparse
import json
import pathlib

import numpy as np
from matplotlib.figure import Figure

RECIPES = {"paper": "the paper's recipe", "third": "the same, a third", "fast": "prompts/fast.gin"}
COLUMNS = 3


def panels(results: dict) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """(task, backbone) -> recipe -> [seeds, evaluations, (step, exact match)]."""
    found: dict[tuple[str, str], dict[str, list]] = {}
    for key, result in results.items():
        task, backbone, recipe = key.split(" ")[:3]
        found.setdefault((task, backbone), {}).setdefault(recipe, []).append(result["curve"])
    return {
        panel: {recipe: np.array(curves) for recipe, curves in recipes.items()}
        for panel, recipes in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, nargs="+", type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    flags = parser.parse_args()
    results = {}
    for file in flags.results:
        results |= json.loads(file.read_text())
    drawn = panels(results)
    rows = -(-len(drawn) // COLUMNS)
    figure = Figure(figsize=(9, 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, min(COLUMNS, len(drawn)), squeeze=False).ravel()
    for axes, ((task, backbone), recipes) in zip(grid, drawn.items(), strict=False):
        for recipe, label in RECIPES.items():
            if recipe not in recipes:
                continue
            steps, scores = recipes[recipe][0, :, 0], recipes[recipe][:, :, 1]
            (line,) = axes.plot(steps, scores.mean(0), marker="o", markersize=3, label=label)
            axes.fill_between(
                steps, scores.min(0), scores.max(0), color=line.get_color(), alpha=0.2
            )
        axes.set_title(f"{task}, {backbone}", fontsize=9)
        axes.set(xlabel="step", ylabel="exact match", xlim=(0, None))
        axes.grid(alpha=0.3)
    for axes in grid[len(drawn) :]:
        axes.remove()
    grid[0].legend(fontsize=8)
    figure.savefig(flags.out, dpi=120)


if __name__ == "__main__":
    main()
