"""Tasks and mixtures by name: `TASKS` and `MIXTURES` of each module of this folder.

`TASKS` is {name: Task}, `MIXTURES` {name: {task's name: rate}}. `sentinel_` before a name gives
the twins that tasks/sentinel.py makes of them.
"""

import collections
import difflib
import importlib
import itertools
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import sentinel
from prompt_tuning_jax.tasks.task import Task

Known = dict[str, Task | Mapping[str, float]]


def get(name: str, module: str | None = None) -> Task:
    """The task called `name`.

    Args:
      name: a task of `module`, or one of `names()`.
      module: a user's own module. It holds Tasks (as attributes, or by name in `TASKS`), or it
        registers tasks with seqio.

    Raises:
      UserError: no such task (the nearest name is offered), or the module cannot be imported.
    """
    found = _find(name, module)
    if not isinstance(found, Task):
        raise UserError(
            f"{name} is a mixture and one task is needed: name one of {', '.join(found)}"
        )
    return found


def resolve(given: str | Task, module: str | None = None) -> Task:
    """A task as it is, or by its name (`get`). UserError for what is neither."""
    if not isinstance(given, str | Task):
        raise UserError(f"{given!r} is no task: give a name, or @text_files.Text()")
    return given if isinstance(given, Task) else get(given, module)


def mixture(given: str | Task | dict, module: str | None = None) -> list[tuple[Task, float | str]]:
    """A task, {task: rate} or a mixture's name as (task, rate) pairs.

    Args:
      given: a rate is a number or "proportional"; a name may be one of `mixtures()`.
      module: as for `get`; `MIXTURES` of it, {name: {task's name: rate}}, are its mixtures.

    Raises:
      UserError: as `get`, a mixture of nothing, or two tasks of one name.
    """
    if not isinstance(given, str | Task | Mapping):
        raise UserError(
            f"MIXTURE_OR_TASK_NAME = {given!r}: write a name, @text_files.Text() or {{name: rate}}"
        )
    found = _find(given, module) if isinstance(given, str) else given
    rates = found if isinstance(found, Mapping) else {found: 1.0}
    if not rates:
        raise UserError("MIXTURE_OR_TASK_NAME = {}: a mixture names one task or more")
    pairs = [(resolve(task, module), rate) for task, rate in rates.items()]
    check_names([task for task, _ in pairs])
    return pairs


def check_names(given: Iterable[Task]) -> None:
    """UserError where two tasks have one name, which is what results go by."""
    for name, count in collections.Counter(task.name for task in given).items():
        if count > 1:
            raise UserError(f"task {name} is there {count} times: results go by tasks' names")


def names() -> list[str]:
    """The names of all tasks of this project."""
    return [
        name for known in _built_in() for name, found in known.items() if isinstance(found, Task)
    ]


def mixtures() -> dict[str, Mapping[str, float]]:
    """The mixtures of this project by name, each {task's name: rate}."""
    return {
        name: found
        for known in _built_in()
        for name, found in known.items()
        if isinstance(found, Mapping)
    }


def _find(name: str, module: str | None) -> Task | Mapping[str, float]:
    known: list[str] = []
    for found in itertools.chain(_own(module, name) if module else (), _built_in()):
        if name in found:
            return found[name]
        known += found
    if name.startswith(sentinel.PREFIX):
        plain = _find(name.removeprefix(sentinel.PREFIX), module)
        if isinstance(plain, Task):
            return sentinel.twin(plain)
        return {sentinel.PREFIX + task: rate for task, rate in plain.items()}
    nearest = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
    raise UserError(f"no task '{name}'; {hint}")


def _built_in() -> Iterator[Known]:
    for found in pkgutil.iter_modules(__path__):
        # What registers with seqio imports TensorFlow.
        if not found.name.startswith("seqio_"):
            yield _of_module(importlib.import_module(f"{__name__}.{found.name}"))


def _of_module(module: ModuleType) -> Known:
    return {**getattr(module, "TASKS", {}), **getattr(module, "MIXTURES", {})}


def _own(module: str, name: str) -> Iterator[Known]:
    """What a user's module has, last what it has registered with seqio as `name`."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"task module {module}: cannot be imported ({error})") from error
    values = vars(found).values()
    yield {value.name: value for value in values if isinstance(value, Task)}
    yield _of_module(found)
    # Nothing can be registered where nobody has imported seqio, which takes seconds.
    if "seqio" in sys.modules:
        from prompt_tuning_jax.tasks import seqio_tasks

        task = seqio_tasks.find(name)
        yield {name: task} if task else {}
