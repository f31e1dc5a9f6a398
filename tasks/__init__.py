"""Tasks by name: each module of this folder that has `TASKS`, {name: Task}, is looked through."""

import difflib
import importlib
import itertools
import pkgutil
import sys
from collections.abc import Iterator

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.task import Task


def get(name: str, module: str | None = None) -> Task:
    """The task called `name`.

    Args:
      name: a task of `module`, or one of `names()`.
      module: a user's own module. It holds Tasks (as attributes, or by name in `TASKS`), or it
        registers tasks with seqio.

    Raises:
      UserError: no such task (the nearest name is offered), or the module cannot be imported.
    """
    known: list[str] = []
    for tasks in itertools.chain(_own(module, name) if module else (), _built_in()):
        if name in tasks:
            return tasks[name]
        known += tasks
    nearest = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
    raise UserError(f"no task '{name}'; {hint}")


def resolve(given: str | Task, module: str | None = None) -> Task:
    """A task as it is, or by its name (`get`). UserError for what is neither."""
    if not isinstance(given, str | Task):
        raise UserError(f"{given!r} is no task: give a name, or @text_files.Text()")
    return given if isinstance(given, Task) else get(given, module)


def mixture(given: str | Task | dict, module: str | None = None) -> list[tuple[Task, float | str]]:
    """One task, or {task: rate}, as (task, rate) pairs; a rate is a number or "proportional".

    Raises:
      UserError: as `get`, or a mixture of nothing.
    """
    rates = given if isinstance(given, dict) else {given: 1.0}
    if not rates:
        raise UserError("MIXTURE_OR_TASK_NAME = {}: a mixture names one task or more")
    return [(resolve(task, module), rate) for task, rate in rates.items()]


def names() -> list[str]:
    """The names of all tasks of this project."""
    return [name for tasks in _built_in() for name in tasks]


def _built_in() -> Iterator[dict[str, Task]]:
    for found in pkgutil.iter_modules(__path__):
        # What registers with seqio imports TensorFlow.
        if not found.name.startswith("seqio_"):
            module = importlib.import_module(f"{__name__}.{found.name}")
            yield getattr(module, "TASKS", {})


def _own(module: str, name: str) -> Iterator[dict[str, Task]]:
    """The tasks of a user's module, last what it has registered with seqio as `name`."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"task module {module}: cannot be imported ({error})") from error
    values = vars(found).values()
    yield {value.name: value for value in values if isinstance(value, Task)}
    yield getattr(found, "TASKS", {})
    # Nothing can be registered where nobody has imported seqio, which takes seconds.
    if "seqio" in sys.modules:
        from prompt_tuning_jax.tasks import seqio_tasks

        task = seqio_tasks.find(name)
        yield {name: task} if task else {}
