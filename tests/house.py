"""A small package with commands of its own, and a way to run them through `launch.main`.

What a command received is printed by its function as JSON, so that expectations are plain values.
"""

import itertools
import json
import textwrap

from prompt_tuning_jax import launch

BASE = "--gin_file=base.gin"
MODEL_DIR = "--gin.MODEL_DIR=/tmp/x"
_COUNT = itertools.count()
_TRAIN = """
import dataclasses, json
from prompt_tuning_jax import launch
from prompt_tuning_jax.errors import UserError

@dataclasses.dataclass(frozen=True)
class Sgd:
    rate: float = 0.1
    momentum: float | None = None

    def __post_init__(self):
        if self.rate < 0:
            raise UserError("rate must not be negative")

@dataclasses.dataclass(frozen=True)
class Adam:
    rate: float

def constant(value: float = 1.0):
    return value

def train(*, model_dir: str, train_steps: int = 1, optimizer=None, schedule=None, extras=()):
    if model_dir == "interrupt":
        raise KeyboardInterrupt
    if model_dir == "bug":
        train_steps / 0
    if model_dir == "missing":
        open("/no/such/folder/data.tsv")
    print(json.dumps({
        "model_dir": model_dir, "train_steps": train_steps, "optimizer": str(optimizer),
        "schedule": schedule() if schedule else None, "extras": str(extras),
    }))
    with open("config.gin", "w") as file:
        file.write(launch.operative_config())
"""
_DESCRIBE = """
import json
from prompt_tuning_jax import launch
from {package} import train

def describe():
    bound = launch.bound_arguments(train.train, ("train_steps", "optimizer"))
    print(json.dumps({name: str(value) for name, value in bound.items()}))
"""
_EVALUATE = """
import json

def evaluate(*, artifact: str, backbone: str | None = None):
    print(json.dumps({"artifact": artifact, "backbone": backbone}))
"""
GIN = """
from __gin__ import dynamic_registration
from {package} import train

MODEL_DIR = %gin.REQUIRED
TRAIN_STEPS = 100
RATE = 0.5

train.train:
    model_dir = %MODEL_DIR
    train_steps = %TRAIN_STEPS
    optimizer = @train.Sgd()
train.Sgd.rate = %RATE
train.Adam.rate = 0.25
"""


class House:
    """A package with commands, a gin file, and a way to run them in the current folder."""

    def __init__(self, folder, capsys):
        self.folder, self.capsys = folder, capsys
        self.package = f"house{next(_COUNT)}"  # gin never forgets a function: new names each time
        package = folder / self.package
        package.mkdir()
        for name, text in ("train", _TRAIN), ("describe", _DESCRIBE), ("evaluate", _EVALUATE):
            self.write(f"{self.package}/{name}.py", text)
        self.write("base.gin", GIN)

    def write(self, name, text):
        (self.folder / name).write_text(textwrap.dedent(text).replace("{package}", self.package))

    def run(self, *argv, command="train"):
        status = launch.main(command, argv, package=self.package)
        out, err = self.capsys.readouterr()
        return status, out, err

    def result(self, *argv, command="train"):
        status, out, err = self.run(*argv, command=command)
        assert (status, err) == (0, "")
        return json.loads(out)

    def error(self, *argv, command="train"):
        status, out, err = self.run(*argv, command=command)
        assert (status, out) == (2, "")
        assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
        return err
