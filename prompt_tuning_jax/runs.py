"""A run: what it trains on and is chosen by, its folder, its state and what it leaves behind.

One job (`train.train`) steps one run or several. Several share the frozen model and every setting
but their `Choices`; each has the data, start, optimizer state, evaluations, best step and folder
that it would have alone.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning_jax import artifacts, data, plain_types, run_dir, scoring, t5, tasks
from prompt_tuning_jax.batches import Batch, TrainingBatches
from prompt_tuning_jax.checkpoints import Checkpoints
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.evaluate import Evaluation
from prompt_tuning_jax.method import Method, Tree
from prompt_tuning_jax.tasks.task import Task

# what RUNS may say of one, and which of `Choices` that is
NAMES = {
    "MIXTURE_OR_TASK_NAME": "mixture_or_task_name",
    "EVAL_TASKS": "eval_tasks",
    "K_SHOT": "k_shot",
    "RANDOM_SEED": "random_seed",
    "INITIAL_ARTIFACT": "initial_artifact",
    "PROMPT_START": "method.start",
    "LEARNING_RATE": "optimizer.learning_rate.base_learning_rate",
}
# what is looked at of every step's report: `skipped` is there where steps are
LOOKED_AT = ("loss", "sound", "skipped")


@dataclasses.dataclass(frozen=True)
class Choices:
    """What the runs of one job may differ in: `train.train`'s arguments of these names."""

    mixture_or_task_name: Any
    eval_tasks: Sequence[Any] | None
    k_shot: int | None
    random_seed: int
    initial_artifact: str | None
    method: Method
    optimizer: Any


def choices(runs: Any, common: Choices) -> dict[str, Choices]:
    """RUNS, {name: {one of NAMES: value}}, as each run's choices; {"": common} where it is None.

    Raises UserError for a name that is no folder's, and for what runs cannot differ in.
    """
    if runs is None:
        return {"": common}
    if not (isinstance(runs, dict) and runs and all(isinstance(v, dict) for v in runs.values())):
        raise UserError(f'RUNS = {runs!r}: write {{"a": {{"RANDOM_SEED": 1}}, "b": {{…}}}}')
    found = {}
    for name, own in runs.items():
        if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name)):
            raise UserError(f"RUNS: {name!r} is no folder's name")
        found[name] = common
        for setting, value in own.items():
            if setting not in NAMES:
                raise UserError(
                    f"RUNS: {name!r} sets {setting}; runs may differ in {', '.join(NAMES)}"
                )
            found[name] = _replaced(
                found[name], NAMES[setting], value, f"RUNS: {name!r} sets {setting}"
            )
    if len({one.initial_artifact is None for one in found.values()}) > 1:
        raise UserError("RUNS: INITIAL_ARTIFACT is for all runs or none")
    return found


def _replaced(given: Any, path: str, value: Any, said: str) -> Any:
    """`given` with the field at `path` replaced; UserError where it has none or value fits none."""
    name, _, rest = path.partition(".")
    field = next((f for f in dataclasses.fields(given) if f.name == name), None)
    if field is None:
        raise UserError(f"{said}, and {type(given).__name__} has no {name}")
    old = getattr(given, name)
    if rest:
        value = _replaced(old, rest, value, said)
    elif dataclasses.is_dataclass(old) and not dataclasses.is_dataclass(value):
        raise UserError(f"{said} = {value!r}: one such as @{type(old).__name__}()")
    elif not isinstance(value, jax.Array):
        names = plain_types.names(field.type)
        if names <= plain_types.SCALARS and not plain_types.fits(value, names):
            raise UserError(f"{said} = {value!r}: it must be {field.type}")
    return dataclasses.replace(given, **{name: value})


def at_rate(optimizer: Any, rate: Any) -> Any:
    """`optimizer` with another base_learning_rate, which may be traced."""
    return _replaced(optimizer, NAMES["LEARNING_RATE"].removeprefix("optimizer."), rate, "RUNS")


def rate_of(optimizer: Any) -> float:
    """Its base_learning_rate."""
    return optimizer.learning_rate.base_learning_rate


class Run:
    """A run in a folder of its own, not begun before `begin`.

    state {tuned, opt_state, step, best}: what training moves; key: the seed of what it draws.
    """

    state: dict[str, Any]

    def __init__(
        self, model_dir: str, name: str, own: Choices, shared: dict[str, Any], module: str | None
    ):
        """name: its folder in model_dir, "" where the job has no other run. shared: the part of the
        run's identity that the job's runs share; module: one of the user's that has tasks.
        UserError where the folder holds another run."""
        folder = pathlib.Path(model_dir)
        if name and (folder / "settings.json").exists():
            raise UserError(f"{model_dir} is one run's folder: RUNS need another MODEL_DIR")
        self._said = f"{name}, " if name else ""
        self.trained_on = tasks.mixture(own.mixture_or_task_name, module)
        self.evaluated = [task for task, _ in self.trained_on]
        if own.eval_tasks is not None:
            if not isinstance(own.eval_tasks, list | tuple):
                raise UserError(
                    f"EVAL_TASKS = {own.eval_tasks!r}: write a list of tasks, [{own.eval_tasks!r}]"
                )
            self.evaluated = [tasks.resolve(given, module) for given in own.eval_tasks]
        tasks.check_names(self.evaluated)
        # the source's validation chooses what is transferred to the other domains
        self.choosing = self.evaluated if own.eval_tasks is None else self.evaluated[:1]
        self.own, self.method = own, own.method
        if own.initial_artifact is not None:
            # an artifact holds what was exported, so that is what goes on being trained
            self.method = own.method.exported()
        self.key = jax.random.key(own.random_seed)
        identity = {
            "method": self.method,
            "artifact": own.initial_artifact,
            "tasks": self.trained_on,
            "optimizer": own.optimizer,
            "k_shot": own.k_shot,
            "random_seed": own.random_seed,
            "eval_tasks": self.evaluated,
            "selection": [n for task in self.choosing for n in (task.name, *task.selection)],
            "label_words": {
                t.name: t.label_words for t in (*dict(self.trained_on), *self.evaluated)
            },
        }
        self._dir = run_dir.RunDir(str(folder / name) if name else model_dir, shared | identity)

    def require(self, identity: dict[str, Any]) -> None:
        """More of its identity, that is only known later (`RunDir.require`)."""
        self._dir.require(identity)

    def read(
        self,
        training: Callable[[Task], data.TokenSet | data.Windows],
        held_out: Callable[[Task], data.TokenSet],
        batching: dict[str, Any],
        evaluating: dict[str, Any],
    ) -> None:
        """Its data, by what reads a task's splits; the settings of `TrainingBatches` and of each
        `Evaluation`."""
        train = [training(task) for task, _ in self.trained_on]
        held = [held_out(task) for task in self.evaluated]
        self.require(
            {"examples": {f"{t.task.name}/{t.split}": t.digest() for t in (*train, *held)}}
        )
        mixture = [(t, rate) for t, (_, rate) in zip(train, self.trained_on, strict=True)]
        few, seed = self.own.k_shot, self.own.random_seed
        self.batches = TrainingBatches(mixture, k_shot=few, seed=seed, **batching)
        self.batches.batch(0)  # a corpus that cannot be read is refused before anything is written
        self.evaluations = [Evaluation(tokens, **evaluating) for tokens in held]

    def words(self) -> tuple[str, ...]:
        """The label words of what it trains on."""
        return tuple(dict.fromkeys(w for task, _ in self.trained_on for w in task.label_words))

    def restore(self, state: dict[str, Any], keep: int, kept: Sequence[int]) -> None:
        """Stands at `state`, or at the folder's newest sound checkpoint; nothing is written.

        keep: how many checkpoints are; kept: steps whose artifacts are.
        """
        path = self._dir.path
        self._checkpoints = Checkpoints(path, keep)
        found = self._checkpoints.restore(state)
        self.state = state if found is None else found
        if found is not None:
            logging.warning("%s: going on from step %d", path, int(found["step"]))
        # what is asked of the state at every step, without waiting for the devices
        self.first, self._since = int(self.state["step"]), int(self.state["best"]["since"])
        for step in kept:
            if step <= self.first and not (path / "artifacts" / str(step)).is_dir():
                raise UserError(
                    f"ARTIFACT_STEPS: {path} is past step {step} and did not keep its "
                    "artifact: leave it out, or choose another MODEL_DIR"
                )

    def begin(self, facts: dict[str, Any]) -> None:
        """Now the folder is written. facts: what artifacts say."""
        names = [task.name for task, _ in self.trained_on]
        sentinel = any(task.sentinel for task, _ in self.trained_on)
        self._facts = facts | {"tasks": names, "sentinel": sentinel}
        self._dir.open()
        self._checkpoints.begin()
        self._writer = self._dir.metrics(self.first)
        self._untold: list[tuple[int, dict[str, jax.Array], bool]] = []
        self._chosen_by: tuple[int, dict[str, Any]] = (0, {})

    def stopped(self, early_stopping: int | None) -> bool:
        """Whether so many evaluations have passed since the best."""
        return early_stopping is not None and self._since >= early_stopping

    def note(self, step: int, report: dict[str, jax.Array], written: bool) -> None:
        """A step's report, to be looked at once it has been computed, and written or not."""
        looked_at = report if written else {k: report[k] for k in LOOKED_AT if k in report}
        self._untold.append((step, looked_at, written))

    def tell(self, before: float) -> tuple[int, float] | None:
        """Looks at the reports of steps before that one -> the last written one's step and loss.

        Not before one is to be written, unless `before` is infinite: to look waits for the devices.
        UserError for a step that is not sound and was not skipped, and for a checkpoint that could
        not be written.
        """
        self._checkpoints.check()
        told = None
        if before < math.inf and not any(w and step < before for step, _, w in self._untold):
            return None
        while self._untold and self._untold[0][0] < before:
            step, report, written = self._untold.pop(0)
            values = {name: float(value) for name, value in jax.device_get(report).items()}
            loss, sound = values["loss"], values.pop("sound")
            if not sound:
                self._unsound(step, loss, values.get("skipped"))
            if written:
                self._writer.write("train", step, values)
                told = step, loss
        return told

    def _unsound(self, step: int, loss: float, skipped: float | None) -> None:
        what = f"the loss is {loss}"
        if math.isfinite(loss):
            what = f"the loss is {loss:.4g}, but what it makes of the parameters is no number"
        made_by = "; ".join(
            f"{name} {', '.join(map(str, numbers))}"
            for name, numbers in self.batches.examples(step - 1).items()
        )
        if skipped is None:
            raise UserError(
                f"{self._said}step {step}: {what}, so the parameters are lost: lower LEARNING_RATE "
                "and choose another MODEL_DIR, or go on without such steps (NONFINITE = 'skip'); "
                f"the step's examples, counted from 0: {made_by}"
            )
        logging.warning(
            "%sstep %d: %s: skipped, as %d until now; its examples, counted from 0: %s",
            self._said,
            step,
            what,
            skipped,
            made_by,
        )

    def evaluate(self, model: t5.T5, frozen: Tree, step: int, tell: Callable[[str], None]) -> bool:
        """Evaluates what is being tuned, keeps the artifact of a better step -> whether it is."""
        tuned = self.state["tuned"]
        now = model, self.method.join(frozen, tuned), self.method.export(tuned)
        folder = self._dir.path / "predictions" / str(step)
        scores = [evaluation.run(*now, folder) for evaluation in self.evaluations]
        for evaluation, metrics in zip(self.evaluations, scores, strict=True):
            self._writer.write(f"eval/{evaluation.task.name}", step, metrics)
            tell(f"{self._said}step {step}: {evaluation.task.name} {_line(metrics)}")
        # float32, as the state has it: the same metric again is no improvement
        metric = float(np.float32(scoring.average(zip(self.choosing, scores, strict=False))))
        chosen_by: dict[str, Any] = scores[0]
        if len(self.choosing) > 1:
            self._writer.write("eval/average", step, {"selection": metric})
            tell(f"{self._said}step {step}: average {metric:.4g}")
            named = {e.task.name: m for e, m in zip(self.evaluations, scores, strict=True)}
            chosen_by = {"average": metric, **named}
        self._chosen_by = step, chosen_by
        best = self.state["best"]
        improved = metric > float(best["metric"])
        self._since = 0 if improved else self._since + 1
        self.state["best"] = _best(best, (step, metric, 0) if improved else None)
        if improved:
            self.keep("artifact", step)
        return improved

    def keep(self, name: str, step: int) -> None:
        """The artifact of what is being tuned, at `step`, as the folder's `name`."""
        at, metrics = self._chosen_by
        facts = self._facts | {"step": step, "metrics": metrics if at == step else {}}
        artifacts.save_artifact(self._dir.path / name, self.method, self.state["tuned"], facts)

    def save(self) -> None:
        """Begins to write a checkpoint of the state."""
        self._checkpoints.save(self.state)

    def close(self) -> None:
        """Waits for what is being written, and gives the folder back."""
        try:
            self._checkpoints.close()
        finally:
            self._writer.close()
            self._dir.close()

    def result(self) -> dict[str, Any]:
        """Where it stands: {"step", "best": {"step", "metric"}, "artifact"}."""
        best = self.state["best"]
        return {
            "step": int(self.state["step"]),
            "best": {"step": int(best["step"]), "metric": float(best["metric"])},
            "artifact": str(self._dir.path / "artifact"),
        }


def stacked(trees: Sequence[Tree]) -> Tree:
    """Trees of one structure -> one tree, every leaf [runs,…]."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def one_shape(batches: Sequence[Batch]) -> list[Batch]:
    """Batches of several runs in one shape, the largest of each array's, padded with 0."""
    shapes = {
        name: np.max([batch[name].shape for batch in batches], 0).tolist() for name in batches[0]
    }
    return [
        {
            name: np.pad(a, [(0, n - m) for n, m in zip(shapes[name], a.shape, strict=True)])
            for name, a in batch.items()
        }
        for batch in batches
    ]


def _best(old, new):
    """(step, metric, since) of a better evaluation, or None: one more has passed."""
    if new is None:
        return old | {"since": old["since"] + 1}
    return {
        name: jax.device_put(jnp.asarray(value, old[name].dtype), old[name].sharding)
        for name, value in zip(("step", "metric", "since"), new, strict=True)
    }


def _line(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
