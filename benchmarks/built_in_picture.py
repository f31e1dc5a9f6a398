"""Draws what size and LM adaptation are worth, from what `built_in.py` wrote.

    python benchmarks/built_in_picture.py --results=results/ --out=built_in.png

The folder holds a JSON file a backbone, called by its name: demo.json, demo_spans.json, … Quality
is exact match with a prompt, the mean over the tasks that all of the files have; bars reach from
the worst to the best seed, where there are several. Prints the means as a table too.
"""

import argparse
import json
import pathlib
import statistics

from matplotlib.figure import Figure

# name, and parameters in millions
SIZES = {"demo_tiny": 0.18, "demo_small": 0.35, "demo": 1.0}
# the ending of a backbone's name, and its steps of LM adaptation in per cent of all
ADAPTED = {"_spans": 0, "_lm10": 10, "_lm25": 25, "_lm50": 50, "": 100}


def scores(results: dict, tasks: set[str]) -> list[float]:
    """With a prompt: the mean over the tasks, a number a seed that has all of them."""
    seeds: dict[str, list[float]] = {}
    for key, result in results.items():
        task, method, seed = key.split(" ")
        if method == "prompt" and task in tasks:
            seeds.setdefault(seed, []).append(result["exact_match"])
    return [statistics.mean(found) for found in seeds.values() if len(found) == len(tasks)]


def line(axes, x: list[float], values: list[list[float]], label: str) -> None:
    """Means over the seeds, with bars to the least and the most."""
    means = [statistics.mean(v) for v in values]
    low = [m - min(v) for m, v in zip(means, values, strict=True)]
    high = [max(v) - m for m, v in zip(means, values, strict=True)]
    axes.errorbar(x, means, yerr=[low, high], marker="o", markersize=4, capsize=3, label=label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    flags = parser.parse_args()
    files = {file.stem: json.loads(file.read_text()) for file in flags.results.glob("*.json")}
    prompted = [{k.split(" ")[0] for k in f if " prompt " in k} for f in files.values()]
    tasks = set.intersection(*prompted)
    quality = {name: scores(results, tasks) for name, results in files.items()}

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    by_size, by_steps = figure.subplots(1, 2, sharey=True)
    for ending, label in (("", "LM-adapted"), ("_spans", "as much span corruption more")):
        found = [size for size in SIZES if size + ending in quality]
        values = [quality[size + ending] for size in found]
        line(by_size, [SIZES[size] for size in found], values, label)
    for size, millions in SIZES.items():
        kinds = [ending for ending in ADAPTED if size + ending in quality]
        values = [quality[size + ending] for ending in kinds]
        line(by_steps, [ADAPTED[ending] for ending in kinds], values, f"{millions} M")
    by_size.set(xlabel="parameters (millions)", ylabel="exact match with a prompt", xscale="log")
    by_size.set_xticks(list(SIZES.values()), [str(m) for m in SIZES.values()])
    by_size.minorticks_off()
    by_steps.set(xlabel="LM adaptation (% of its steps)", ylim=(-2, 102))
    for axes in (by_size, by_steps):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(flags.out, dpi=120)

    print(f"| {len(tasks)} tasks | " + " | ".join(f"{m} M" for m in SIZES.values()) + " |")
    print("|---|" + "---|" * len(SIZES))
    for ending, percent in ADAPTED.items():
        cells = []
        for size in SIZES:
            found = quality.get(size + ending, [])
            seeds = f" ({len(found)})" if len(found) > 1 else ""
            cells.append(f"{statistics.mean(found):.1f}{seeds}" if found else "")
        print(f"| LM adaptation {percent} % | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
