"""A run's folder, MODEL_DIR: whose it is, its metrics, its configuration.

settings.json     the run's identity; a run of other settings is refused
config.gin        gin's operative configuration
metrics.jsonl     one line a report: {"kind": "train", "step": 10, "loss": …}
tensorboard/      the same for TensorBoard
checkpoints/  predictions/STEP/TASK.jsonl  artifact/  artifacts/STEP/
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import re
import time
from typing import Any

from tensorboardX import SummaryWriter

from prompt_tuning_jax import hosts, launch, settings
from prompt_tuning_jax.errors import UserError

# seconds after which a network's file system shows what another host wrote
PATIENCE = 60


class RunDir:
    """Checks on construction that MODEL_DIR is new or this run's own; `open` first writes to it.

    identity: what may not change between two starts of one run (settings.encode takes it).
    Raises UserError naming what changed.
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
        """Makes the folder and writes the run's identity and gin configuration.

        Of several processes the first writes; UserError where another does not see what it wrote.
        """
        file, text = self.path / "settings.json", json.dumps(self._identity, indent=2) + "\n"
        if hosts.first():
            self.path.mkdir(parents=True, exist_ok=True)
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


class Metrics:
    """Metrics as JSON lines and for TensorBoard."""

    def __init__(self, path: pathlib.Path, step: int):
        file = path / "metrics.jsonl"
        kept = file.read_text().splitlines() if file.exists() else []
        _write(file, "".join(f"{line}\n" for line in kept if _step(line) <= step))
        self._file = file.open("a")
        self._board = SummaryWriter(str(path / "tensorboard"), purge_step=step + 1)

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """One report: `kind` is "train" or "eval/TASK"."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Writes what is still in buffers."""
        self._file.close()
        self._board.close()


class Unwritten:
    """The metrics of a process that is not the first."""

    def write(self, kind: str, step: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")  # a line that a crash left half-written


def _write(file: pathlib.Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(file)
