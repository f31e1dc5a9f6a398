"""Metrics of examples that belong together: answers to a question, copies of a query, pairs.

A task's target is then {"value": …, "group": …} and its prediction {"value": …}, as in T5.
"""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from prompt_tuning_jax.tasks.task import Example, Metric


@dataclasses.dataclass(frozen=True)
class Grouped:
    """What `Task.postprocess` and `Task.target` are for such a task.

    Attributes:
      value: (text, example) -> the value, as a task without groups has it.
      group: example -> what its group's examples have in common.
    """

    value: Callable[[str, Example], Any]
    group: Callable[[Example], Hashable]

    def postprocess(self, text: str, example: Example) -> dict:
        """A prediction's value."""
        return {"value": self.value(text, example)}

    def target(self, example: Example) -> dict:
        """The target's value and its group."""
        return {"value": self.value(example["targets"], example), "group": self.group(example)}


def of_values(metric: Metric) -> Metric:
    """The metric of all values, whatever group they are in."""

    def over_all(targets: list, predictions: list) -> dict[str, float]:
        return metric(_values(targets), _values(predictions))

    return over_all


def of_first(metric: Metric) -> Metric:
    """The metric of each group's first value: T5's `deduplicate_metric`.

    ReCoRD has a copy of each query for each right answer, and each copy has them all.
    """

    def over_first(targets: list, predictions: list) -> dict[str, float]:
        first: dict[Hashable, int] = {}
        for place, target in enumerate(targets):
            first.setdefault(target["group"], place)
        return metric(
            [targets[place]["value"] for place in first.values()],
            [predictions[place]["value"] for place in first.values()],
        )

    return over_first


def group_exact_match(targets: list, predictions: list) -> dict[str, float]:
    """Groups all of whose values are right: MultiRC's "exact_match" (T5's `mean_group_metric`)."""
    right: dict[Hashable, bool] = {}
    for target, prediction in zip(targets, predictions, strict=True):
        same = target["value"] == prediction["value"]
        right[target["group"]] = right.get(target["group"], True) and same
    return {"exact_match": 100 * float(np.mean(list(right.values())))}


def gender_parity(targets: list, predictions: list) -> dict[str, float]:
    """Pairs with the same prediction for both genders, right or wrong, as "gender_parity".

    AX-g's second number (SuperGLUE, arXiv 1905.00537; Rudinger et al., arXiv 1804.09301). Two
    invalid predictions (-1) are no such pair, and an example without its other half is left out.
    """
    pairs: dict[Hashable, list] = {}
    for target, prediction in zip(targets, predictions, strict=True):
        pairs.setdefault(target["group"], []).append(prediction["value"])
    same = [set(pair) != {-1} and len(set(pair)) == 1 for pair in pairs.values() if len(pair) > 1]
    return {"gender_parity": 100 * float(np.mean(same)) if same else 0.0}


def _values(results: list[dict[str, Any]]) -> list:
    return [result["value"] for result in results]
