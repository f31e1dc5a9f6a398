"""Metrics in numpy, all 0-100, as T5's `t5.evaluation.metrics` defines them.

Each takes `targets` and `predictions`, lists of what a task's postprocess makes of texts, and gives
{name: value}. The argument names are seqio's, which looks at them.
"""

import functools

import numpy as np

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.task import Metric


def accuracy(targets: list, predictions: list) -> dict[str, float]:
    """How many predictions equal their target."""
    return {"accuracy": _share_of_equals(targets, predictions)}


def exact_match(targets: list, predictions: list) -> dict[str, float]:
    """How many texts are the target's to the letter (T5's `sequence_accuracy`)."""
    return {"exact_match": _share_of_equals(targets, predictions)}


def f1(targets: list, predictions: list) -> dict[str, float]:
    """F1 of label 1 against 0; any prediction but 0 and 1 counts as the wrong one.

    T5's `f1_score_with_invalid`.
    """
    target, prediction = np.asarray(targets), np.asarray(predictions)
    prediction = np.where(np.isin(prediction, (0, 1)), prediction, 1 - target)
    return {"f1": _f1_of(1, target, prediction)}


def mean_f1(targets: list, predictions: list, num_classes: int) -> dict[str, float]:
    """F1 of each label, averaged without weights, as `mean_{num_classes}class_f1`.

    T5's `mean_multiclass_f1`: a label that is neither a target nor predicted counts as 0.
    """
    target, prediction = np.asarray(targets), np.asarray(predictions)
    scores = [_f1_of(label, target, prediction) for label in range(num_classes)]
    return {f"mean_{num_classes}class_f1": float(np.mean(scores))}


def matthews_corrcoef(targets: list, predictions: list) -> dict[str, float]:
    """Matthews' correlation of labels, for any number of them (R_K), 0 where it has no value.

    As scikit-learn's, which T5 takes: an invalid prediction is a label of its own.
    """
    labels, codes = np.unique([*targets, *predictions], return_inverse=True)
    target, prediction = codes[: len(targets)], codes[len(targets) :]
    # how often each label is a target, is predicted, and is both
    true = np.bincount(target, minlength=len(labels)).astype(float)
    said = np.bincount(prediction, minlength=len(labels)).astype(float)
    right, total = np.sum(target == prediction), len(target)
    spread = (total**2 - true @ true) * (total**2 - said @ said)
    value = (right * total - true @ said) / np.sqrt(spread) if spread else 0.0
    return {"matthews_corrcoef": 100 * float(value)}


def pearson_corrcoef(targets: list, predictions: list) -> dict[str, float]:
    """Pearson's correlation of numbers, 0 where one side is constant (T5: no number, NaN)."""
    return {"pearson_corrcoef": _correlation(np.asarray(targets), np.asarray(predictions))}


def spearman_corrcoef(targets: list, predictions: list) -> dict[str, float]:
    """Spearman's correlation: Pearson's of the ranks, ties sharing the mean of theirs."""
    return {"spearman_corrcoef": _correlation(_ranks(targets), _ranks(predictions))}


def named(name: str, label_words: tuple[str, ...]) -> Metric:
    """The metric that reports `name`: accuracy, exact_match, f1, or mean_3class_f1 of 3 labels.

    Raises:
      UserError: there is none of that name for these label words.
    """
    known: dict[str, Metric] = {"accuracy": accuracy, "exact_match": exact_match}
    labels = len(label_words)
    if labels:
        known[f"mean_{labels}class_f1"] = functools.partial(mean_f1, num_classes=labels)
    if labels == 2:
        known["f1"] = f1
    if name not in known:
        raise UserError(
            f"no metric '{name}' for {labels} label words; there are {', '.join(known)}"
        )
    return known[name]


def _share_of_equals(targets: list, predictions: list) -> float:
    equals = [target == prediction for target, prediction in zip(targets, predictions, strict=True)]
    return 100 * float(np.mean(equals))


def _f1_of(label: int, targets: np.ndarray, predictions: np.ndarray) -> float:
    true = np.sum((targets == label) & (predictions == label))
    either = np.sum(targets == label) + np.sum(predictions == label)
    return 100 * float(2 * true / either) if either else 0.0


def _correlation(targets: np.ndarray, predictions: np.ndarray) -> float:
    x, y = targets - np.mean(targets), predictions - np.mean(predictions)
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    return 100 * float(np.clip(x @ y / lengths, -1, 1)) if lengths else 0.0


def _ranks(values: list) -> np.ndarray:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
