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
import platform
import re
import time
from typing import Any

from prompt_tuning_jax import hosts, launch, locks, settings, strict_json
from prompt_tuning_jax.errors import UserError, naming
from prompt_tuning_jax.tensorboard import Board

# seconds after which a network's file system shows what another host wrote
PATIENCE = 60


class RunDir:
    """Checks on construction that MODEL_DIR is new or this run's own; `open` first writes to it.

    identity: what may not change between two starts of one run (settings.encode takes it).
    Raises UserError naming what changed, and where another process writes the folder.
    """

    def __init__(self, model_dir: str, identity: dict[str, Any]):
        if re.match(r"\w+:/", model_dir):
            raise UserError(f"MODEL_DIR = {model_dir}: choose a folder of a file system")
        self.path = pathlib.Path(model_dir)
        self._identity: dict[str, Any] = {}
        self._old: dict[str, Any] | None = None
        file = self.path / "settings.json"
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{model_dir}: MODEL_DIR is a file")
        if hosts.first():
            locks.take(self.path / "lock")
        if file.exists():
            try:
                self._old = dict(strict_json.loads(file.read_bytes()))
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
        """Makes the folder its own: lock, the run's identity and gin configuration.

        Of several processes the first writes; UserError where another does not see what it wrote.
        """
        file, text = self.path / "settings.json", json.dumps(self._identity, indent=2) + "\n"
        if hosts.first():
            self.path.mkdir(parents=True, exist_ok=True)
            locks.mark(self.path / "lock")
            if self._old is None and file.exists():
                raise UserError(
                    f"{self.path}: another run began here meanwhile: start this one again"
                )
            _write(file, text)
            _write(self.path / "config.gin", launch.operative_config())
        hosts.meet()
        end = time.monotonic() + PATIENCE
        while not (file.is_file() and file.read_text() == text):
            if time.monotonic() > end:
                raise UserError(
                    f"{self.path}: what the first process writes there is not seen on "
                    f"{platform.node()}: MODEL_DIR must be on a file system that all hosts share"
                )
            time.sleep(0.5)

    def metrics(self, step: int) -> Metrics | Unwritten:
        """The writer of a run that goes on after `step`; what was written past it is dropped."""
        return Metrics(self.path, step) if hosts.first() else Unwritten()

    def close(self) -> None:
        """Others may write the folder from now on."""
        locks.give_back(self.path / "lock")


class Metrics:
    """Metrics as JSON lines and for TensorBoard."""

    def __init__(self, path: pathlib.Path, step: int):
        self._name = path / "metrics.jsonl"
        _write(self._name, "".join(f"{line}\n" for line in reports(self._name, step)))
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


class Unwritten:
    """The metrics of a process that is not the first."""

    def write(self, kind: str, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


def reports(file: pathlib.Path, step: int) -> list[str]:
    """The lines up to `step` that a metrics.jsonl holds, those left out that are no reports."""
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [line.decode() for line in lines if _step(line) <= step]


def _step(line: bytes) -> float:
    try:
        step = strict_json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        step = None  # a line that a crash left half-written
    return step if type(step) is int else math.inf


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
