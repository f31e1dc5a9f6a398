"""A run's folder, MODEL_DIR: whose it is, its metrics, its configuration.

settings.json     the run's identity; a run of other settings is refused
config.gin        gin's operative configuration
metrics.jsonl     one line a report: {"kind": "train", "step": 10, "loss": …}; null: no number
tensorboard/      the same for TensorBoard
lock              held by the process that writes the folder (`locks`)
checkpoints/  predictions/STEP/TASK.jsonl  artifact/  artifacts/STEP/  damaged/STEP/
"""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
from typing import Any

from prompt_tuning_jax import launch, locks, settings
from prompt_tuning_jax.errors import UserError, naming
from prompt_tuning_jax.tensorboard import Board


class RunDir:
    """Checks on construction that MODEL_DIR is new or this run's own; `open` first writes to it.

    identity: what may not change between two starts of one run (settings.encode takes it).
    Raises UserError naming what changed, and where another process writes the folder.
    """

    def __init__(self, model_dir: str, identity: dict[str, Any]):
        self.path = pathlib.Path(model_dir)
        self._identity: dict[str, Any] = {}
        self._old: dict[str, Any] | None = None
        file = self.path / "settings.json"
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{model_dir}: MODEL_DIR is a file")
        locks.take(self.path / "lock")
        if file.exists():
            try:
                self._old = dict(json.loads(file.read_text()))
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"{file}: not a run's settings ({error}); choose another MODEL_DIR"
                ) from None
        else:
            for name in ("checkpoints", "artifact", "artifacts", "metrics.jsonl"):
                if (self.path / name).exists():
                    raise UserError(
                        f"{model_dir} holds {name} of something else: choose another MODEL_DIR"
                    )
        self.require(identity)

    def require(self, identity: dict[str, Any]) -> None:
        """More of the run's identity, that is only known later; UserError naming what changed."""
        more = settings.encode(identity)
        self._identity |= more
        if self._old is not None:
            old = {name: self._old.get(name) for name in more}
            changed = settings.differences(old, more)
            if changed:
                raise UserError(
                    f"{self.path} holds a run of another configuration ({'; '.join(changed)}): "
                    "choose another MODEL_DIR, or the old settings to go on with it"
                )

    def open(self) -> None:
        """Makes the folder its own: lock, the run's identity and gin configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        locks.mark(self.path / "lock")
        if self._old is None and (self.path / "settings.json").exists():
            raise UserError(f"{self.path}: another run began here meanwhile: start this one again")
        _write(self.path / "settings.json", json.dumps(self._identity, indent=2) + "\n")
        _write(self.path / "config.gin", launch.operative_config())

    def metrics(self, step: int) -> Metrics:
        """The writer of a run that goes on after `step`; what was written past it is dropped."""
        return Metrics(self.path, step)

    def close(self) -> None:
        """Others may write the folder from now on."""
        locks.give_back(self.path / "lock")


class Metrics:
    """Metrics as JSON lines and for TensorBoard."""

    def __init__(self, path: pathlib.Path, step: int):
        self._name = path / "metrics.jsonl"
        there = self._name.exists()
        kept = self._name.read_text(errors="replace").splitlines() if there else []
        _write(self._name, "".join(f"{line}\n" for line in kept if _step(line) <= step))
        # what is in no buffer cannot fail a second time, when it is closed
        self._file = self._name.open("ab", buffering=0)
        self._board = Board(path / "tensorboard", step + 1)

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """One report: `kind` is "train" or "eval/TASK"."""
        numbers = {k: v if math.isfinite(v) else None for k, v in values.items()}
        line = json.dumps({"kind": kind, "step": step, **numbers}) + "\n"
        with naming(self._name):
            # part of a line, where the disk is full after it, is dropped by the next start
            content = line.encode()
            while content:
                content = content[self._file.write(content) :]
        self._board.write(step, {f"{kind}/{name}": value for name, value in values.items()})

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        with contextlib.suppress(OSError):  # it was told when it was written
            self._board.close()


def _step(line: str) -> float:
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf  # a line that a crash left half-written
    return step if isinstance(step, int) else math.inf


def _write(file: pathlib.Path, text: str) -> None:
    # one name: the folder is locked, and a killed run leaves no more than one
    temporary = file.with_name(f".{file.name}.new")
    try:
        with naming(file):
            temporary.write_text(text)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
