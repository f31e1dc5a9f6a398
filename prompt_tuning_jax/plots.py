"""Pictures of runs: curves from their metrics, and what a prompt's rows lie near."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.vocabulary import Vocabulary


def read_metrics(model_dir: str | os.PathLike, kind: str) -> dict[str, np.ndarray]:
    """One kind of report ("train", "eval/TASK") of a run's metrics.jsonl, by name, with "step"."""
    file = pathlib.Path(model_dir) / "metrics.jsonl"
    if not file.is_file():
        raise UserError(f"{file}: no such file; is {model_dir} a MODEL_DIR?")
    reports = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [report for report in reports if report["kind"] == kind]
    if not rows:
        raise UserError(f"{file}: no {kind!r}, but {sorted({r['kind'] for r in reports})}")
    names = [name for name in rows[0] if name != "kind"]
    # null: it was no number
    return {n: np.array([math.nan if r[n] is None else r[n] for r in rows]) for n in names}


def curves(runs: Mapping[str, str | os.PathLike], task: str, metric: str) -> Figure:
    """Training loss and an evaluation metric (0-100) over steps, a line a run.

    runs: a label for each MODEL_DIR. The figure is the caller's to save or show.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, quality = figure.subplots(1, 2)
    for label, model_dir in runs.items():
        trained = read_metrics(model_dir, "train")
        loss.plot(trained["step"], trained["loss"], label=label)
        evaluated = read_metrics(model_dir, f"eval/{task}")
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
