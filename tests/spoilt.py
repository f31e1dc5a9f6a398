"""A case of bad input, and the ways in which a folder with a run is spoilt for it."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tiny_run
from safetensors.numpy import save

from prompt_tuning_jax import backbones, t5

AGAIN = tuple(tiny_run.training())  # MODEL_DIR=run, which is there
NEW = (*AGAIN, "--gin.MODEL_DIR=new")
EVALUATE = ("--gin_file=runs/evaluate.gin", "--gin_file=reviews.gin", "--artifact=run/artifact")
FREE_TEXT = ("--gin.text_files.Text.label_words=None",)
GOOD = '{"text": "a good film", "label": 0}\n'


@dataclass
class Case:
    """A command, what is wrong with it or with the folder, and parts of what it must say."""

    id: str
    flags: tuple[str, ...]
    said: tuple[str, ...]
    prepare: Callable[[tiny_run.Job], None] = lambda job: None
    command: str = "train"
    base: tuple[str, ...] = NEW


def write(name: str, text: str | bytes) -> Callable:
    """Writes a file of the folder."""

    def prepare(job):
        (job.folder / name).parent.mkdir(exist_ok=True)
        (job.folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return prepare


def spoil(change: Callable, sign: bool = True) -> Callable:
    """Changes the artifact's tensors, and its checksum with them if `sign`."""

    def prepare(job):
        artifact = job.folder / "run" / "artifact"
        tensors = tiny_run.tensors(artifact)
        change(tensors)
        content = save(tensors)
        (artifact / "tuned.safetensors").write_bytes(content)
        if sign:
            facts = json.loads((artifact / "artifact.json").read_text())
            facts["sha256"] = hashlib.sha256(content).hexdigest()
            (artifact / "artifact.json").write_text(json.dumps(facts))

    return prepare


def not_a_number(tensors):
    """One value of the prompt is NaN."""
    tensors["shared/prompt"][0, 1, 2] = np.nan


def longer(tensors):
    """A prompt of five rows instead of four."""
    tensors["shared/prompt"] = np.zeros((1, 5, 32), np.float32)


def replaced(**changes) -> Callable:
    """Changes values of artifact.json; None takes them away."""

    def prepare(job):
        file = job.folder / "run" / "artifact" / "artifact.json"
        facts = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))

    return prepare


def another_backbone(name: str, **sizes) -> Callable:
    """Puts a backbone of other values, and of other `sizes`, into the folder."""

    def prepare(job):
        config = t5.T5Config(**tiny_run.CONFIG.architecture() | sizes)
        theta = tiny_run.random_theta(seed=1, config=config)
        (job.folder / name).unlink(missing_ok=True)
        leaves, words = backbones.leaves_of(theta), tiny_run.vocabulary()
        backbones.write(str(job.folder / name), "another", config, leaves, words)

    return prepare


def cut_backbone(job):
    """A copy of the backbone, `cut`, whose last bytes are missing."""
    folder = job.folder / "cut"
    shutil.copytree(job.folder / "backbone", folder)
    content = (folder / "params.safetensors").read_bytes()
    (folder / "params.safetensors").write_bytes(content[:-100])


def without(path: str) -> Callable:
    """Takes a file or a folder away."""

    def prepare(job):
        with contextlib.suppress(NotADirectoryError):
            shutil.rmtree(job.folder / path)
        (job.folder / path).unlink(missing_ok=True)

    return prepare
