"""What predictions are worth: a task's metrics, and the one number that chooses the best step."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.task import Example, Task


def labelled(examples: Sequence[Example]) -> bool:
    """Whether there is anything to score predictions by: a benchmark's test split has nothing."""
    return any(example["targets"] for example in examples)


def score(task: Task, examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, float]:
    """The task's metrics, 0-100, of a predicted text for each example; as `seqio.Evaluator`'s.

    Raises:
      UserError: the examples have no labels.
    """
    if not labelled(examples):
        raise UserError(f"task {task.name}: this split has no labels to score predictions by")
    targets = [
        task.target(example) if task.target else task.postprocess(example["targets"], example)
        for example in examples
    ]
    values = [
        task.postprocess(text, example) for text, example in zip(predictions, examples, strict=True)
    ]
    results: dict[str, float] = {}
    for metric in task.metrics:
        results |= metric(targets, values)
    return results


def selection(task: Task, metrics: Mapping[str, float]) -> float:
    """What chooses the best step, higher being better: the mean of the metrics that the task names.

    Raises:
      UserError: there is no such metric, or the task names none.
    """
    if not task.selection:
        raise UserError(f"task {task.name}: it names no metric to choose the best step by")
    missing = [name for name in task.selection if name not in metrics]
    if missing:
        known = ", ".join(metrics)
        raise UserError(f"task {task.name}: no metric '{missing[0]}' to select by; it has {known}")
    return float(np.mean([metrics[name] for name in task.selection]))


def average(scored: Iterable[tuple[Task, Mapping[str, float]]]) -> float:
    """What one number says of several tasks: the mean of each one's `selection`.

    Raises:
      UserError: as `selection`.
    """
    return float(np.mean([selection(task, metrics) for task, metrics in scored]))
