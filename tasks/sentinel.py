"""Span corruption + sentinel: targets that begin as those of span corruption do.

The paper's second setting (Lester et al. 2021, section 3.2): a T5 that has only ever said
"<extra_id_0> …" is tuned to say "<extra_id_0> positive". Inputs, label words, postprocess and
metrics are those of the task itself. As `add_sentinel_to_beginning` (on tokens) and
`remove_extra_id_0` of google-research/prompt-tuning do it.
"""

import dataclasses
from typing import TYPE_CHECKING

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.task import Task

if TYPE_CHECKING:
    from prompt_tuning_jax.vocabulary import Vocabulary

PREFIX = "sentinel_"


def twin(task: Task) -> Task:
    """The task with the sentinel, as `sentinel_{name}`; by that name `tasks.get` has it too.

    Raises:
      UserError: it is a pre-training task, whose objective has sentinels of its own.
    """
    if task.objective:
        raise UserError(
            f"task {task.name}: pre-training has no answers to put a sentinel before; use the "
            "sentinel with the tasks that follow"
        )
    return dataclasses.replace(task, name=PREFIX + task.name, sentinel=True)


def beginning(task: Task, vocabulary: "Vocabulary") -> list[int]:
    """The ids that the task's targets begin with: the first sentinel's, or none.

    Raises:
      UserError: the vocabulary has no sentinels.
    """
    return [vocabulary.sentinel(0)] if task.sentinel else []


def without(text: str) -> str:
    """A prediction without the sentinel that it begins with, if any, and spaces before the rest."""
    return text.removeprefix("<extra_id_0>").lstrip()
