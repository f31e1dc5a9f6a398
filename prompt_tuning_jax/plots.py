"""Pictures of runs: curves from their metrics, and what a prompt's rows lie near."""

from __future__ import annotations

import math
import operator
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from prompt_tuning_jax import strict_json
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.vocabulary import Vocabulary


def read_metrics(model_dir: str | os.PathLike, kind: str, *needed: str) -> dict[str, np.ndarray]:
    """One kind of report ("train", "eval/TASK") of a run's metrics.jsonl, by name, with "step".

    UserError for a file or a line that is none, and where there is no such kind, or not the
    `needed` names in it.
    """
    file = pathlib.Path(model_dir) / "metrics.jsonl"
    if not file.is_file():
        raise UserError(f"{file}: no such file; is {model_dir} a MODEL_DIR?")
    kinds: set[str] = set()
    rows: list[dict[str, float]] = []
    steps: list[int] = []
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            report = dict(strict_json.loads(line))
            kinds.add(str(report["kind"]))
            if report.pop("kind") == kind:
                # of the first report's names, each a number, or null where it was none
                names = rows[0] if rows else report
                values = {name: report[name] for name in names}
                rows.append({n: math.nan if v is None else float(v) for n, v in values.items()})
                steps.append(operator.index(report["step"]))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            text = f"{file}:{number}: no report like those before it ({error!r:.200})"
            raise UserError(text) from None
    if not rows:
        raise UserError(f"{file}: no {kind!r}, but {sorted(kinds)}")
    lacking = [name for name in needed if name not in rows[0]]
    if lacking:
        raise UserError(f"{file}: {kind!r} has no {lacking[0]!r}, but {sorted(rows[0])}")
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return columns | {"step": np.array(steps)}


def curves(runs: Mapping[str, str | os.PathLike], task: str, metric: str) -> Figure:
    """Training loss and an evaluation metric (0-100) over steps, a line a run.

    runs: a label for each MODEL_DIR. The figure is the caller's to save or show.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, quality = figure.subplots(1, 2)
    for label, model_dir in runs.items():
        trained = read_metrics(model_dir, "train", "loss")
        loss.plot(trained["step"], trained["loss"], label=label)
        evaluated = read_metrics(model_dir, f"eval/{task}", metric)
        quality.plot(evaluated["step"], evaluated[metric], marker="o", markersize=3, label=label)
    loss.set(xlabel="step", ylabel="training loss (nats a target token)", yscale="log")
    quality.set(xlabel="step", ylabel=f"{metric} (0-100)", title=task, ylim=(-2, 102))
    for axes in (loss, quality):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def nearest_pieces(
    prompt: np.ndarray, embedding: np.ndarray, vocabulary: Vocabulary, count: int = 5
) -> list[list[tuple[str, float]]]:
    """For each row of a prompt [P,D] the `count` pieces nearest by cosine (the paper's section 7).

    embedding is θ's table [V,D], whose rows past the vocabulary are left out. Returns (piece,
    cosine) pairs, nearest first.
    """
    table = np.asarray(embedding, np.float32)[: vocabulary.vocab_size]
    table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    rows = np.asarray(prompt, np.float32)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    # [P,D] x [D,V] -> [P,V]
    cosine = rows @ table.T
    order = np.argsort(-cosine, axis=1)[:, :count]
    return [
        [(vocabulary.piece(int(i)), float(cosine[p, i])) for i in best]
        for p, best in enumerate(order)
    ]
