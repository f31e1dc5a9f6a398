"""A tiny random backbone, a task of a few lines, and commands that run on them.

XLA compiles each program once, with few optimizations, for all runs of a session: in this process
and in others.
"""

import atexit
import contextlib
import functools
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass

import jax
import numpy as np
import pytest
import tiny_vocabulary
from jax.experimental.compilation_cache import compilation_cache
from safetensors.numpy import load_file

from prompt_tuning_jax import backbones, launch, t5
from prompt_tuning_jax.predictor import Predictor
from prompt_tuning_jax.vocabulary import Vocabulary

CONFIG = t5.T5Config(
    vocab_size=128,
    emb_dim=32,
    num_heads=2,
    head_dim=8,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=64,
)
LABELS = ("good", "bad")  # one piece each
TRAIN = [
    ("a good film with a fine song", 0),
    ("a bad play , dull and long .", 1),
    ("a fine film", 0),
    ("a dull song", 1),
    ("a good song and a fine play", 0),
    ("it rains and the play is long", 1),
    ("fine and good", 0),
    ("a long , bad film", 1),
]
VALIDATION = [
    ("a fine play", 0),
    ("a dull film", 1),
    ("the song is good .", 0),
    ("the cat sat on a mat", 1),
    ("a good play and a fine film", 0),
    ("bad and long", 1),
]
GIN = """
from __gin__ import dynamic_registration
from prompt_tuning_jax.tasks import text_files

include "models/t5_1_1.gin"
include "runs/prompt_finetune.gin"

NUM_EMBEDDINGS = 128
EMBED_DIM = 32
NUM_HEADS = 2
HEAD_DIM = 8
NUM_ENCODER_LAYERS = 2
NUM_DECODER_LAYERS = 2
MLP_DIM = 64
INITIAL_CHECKPOINT_PATH = "backbone"
TASK_FEATURE_LENGTHS = {"inputs": 40, "targets": 4}
TRAIN_STEPS = 12
BATCH_SIZE = 8
EVAL_PERIOD = 4
CHECKPOINT_PERIOD = 4
LOG_PERIOD = 1
MODEL_DIR = "run"
"""
TASK = """
from __gin__ import dynamic_registration
from prompt_tuning_jax.tasks import text_files

MIXTURE_OR_TASK_NAME = @text_files.Text()

text_files.Text:
  name = "reviews"
  train = "train.jsonl"
  validation = "validation.jsonl"
  inputs = "review: {text}"
  label_words = {"0": "good", "1": "bad"}
"""
# Small enough to be quick, and learning something within a few steps.
METHODS = {
    "prompt": ("PROMPT_LENGTH=4",),
    "prefix": ("PREFIX_LENGTH=3", "prefix.Prefix.hidden=8", "prefix.Prefix.width=4"),
    "lora": ("LORA_RANK=2",),
    "full": ("LEARNING_RATE=0.03",),
}


QUICK = "jax_disable_most_optimizations"


@dataclass
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def result(self):
        """The last line of output, which is JSON."""
        return json.loads(self.out.splitlines()[-1])


class Job:
    """A folder with a backbone, data and gin files, in which commands run."""

    def __init__(self, folder: pathlib.Path):
        """`folder`: empty, or a copy of another job's."""
        self.folder = folder
        if not any(folder.iterdir()):
            os.symlink(_backbone(), folder / "backbone")
            self.jsonl("train.jsonl", TRAIN)
            self.jsonl("validation.jsonl", VALIDATION)
            (folder / "tiny.gin").write_text(GIN)
            (folder / "reviews.gin").write_text(TASK)

    def jsonl(self, name: str, rows) -> None:
        """Writes (text, label) rows as JSON lines."""
        lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in rows]
        (self.folder / name).write_text("".join(lines))

    def run(self, command: str, *argv: str, **macros) -> Done:
        """Runs a command in this process."""
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.chdir(self.folder)
            patch.syspath_prepend(self.folder)
            patch.setenv("PROMPT_TUNING_CACHE", _tokens())
            with quickly():
                status = launch.main(command, [*argv, *_flags(macros)])
        return Done(status, out.getvalue(), err.getvalue())

    def ok(self, command: str, *argv: str, **macros) -> Done:
        """Runs a command that must succeed."""
        done = self.run(command, *argv, **macros)
        assert done.status == 0, done.err
        return done

    def train(self, model_dir: str, *argv: str, method: str = "prompt", **macros) -> pathlib.Path:
        """Trains on the reviews -> its MODEL_DIR, which is known by that name alone."""
        self.ok("train", *training(method), *argv, MODEL_DIR=model_dir, **macros)
        return self.folder / model_dir

    def process(self, command: str, *argv: str, text: str | None = None, **macros) -> Done:
        """Runs a command as a user does, in a process of its own; `text` is its input."""
        done = self.python("-m", f"prompt_tuning_jax.{command}", *argv, *_flags(macros), text=text)
        return Done(done.returncode, done.stdout, done.stderr)

    def python(self, *argv: str, text: str | None = None, **env) -> subprocess.CompletedProcess:
        """Runs Python in the folder, which it can import from; `env`: more of its environment."""
        return subprocess.run(
            [sys.executable, *argv],
            cwd=self.folder,
            env=self.environment() | env,
            input=text,
            capture_output=True,
            text=True,
        )

    def environment(self) -> dict[str, str]:
        """Of a process that shares this session's caches."""
        programs = {name.upper(): str(value) for name, value in _programs(_session()).items()}
        paths = [str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        folders = {"PROMPT_TUNING_CACHE": _tokens(), "PYTHONPATH": os.pathsep.join(paths)}
        return {**os.environ, **programs, **folders, QUICK.upper(): "1"}


@contextlib.contextmanager
def quickly():
    """Within: XLA compiles with few optimizations."""
    _session()
    jax.config.update(QUICK, True)
    try:
        yield
    finally:
        jax.config.update(QUICK, False)


def training(method: str = "prompt") -> list[str]:
    """The flags of a training run on the reviews."""
    files = ["tiny.gin", f"methods/{method}.gin", "reviews.gin"]
    return [f"--gin_file={f}" for f in files] + [f"--gin.{flag}" for flag in METHODS[method]]


def metrics(model_dir: pathlib.Path) -> list[dict]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]


def tensors(artifact: pathlib.Path) -> dict[str, np.ndarray]:
    """An artifact's tensors by name."""
    return load_file(artifact / "tuned.safetensors")


def random_theta(seed: int = 0, config: t5.T5Config = CONFIG):
    """θ as numpy arrays, of about the sizes that T5 begins with."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.endswith("scale"):
            return np.ones(leaf.shape, np.float32)
        wide = 1.0 if name.endswith("embedding") else leaf.shape[-2] ** -0.5
        return rng.normal(0, wide, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, t5.abstract_params(config))


def logits(loaded: Predictor, inputs: np.ndarray, fed: np.ndarray) -> np.ndarray:
    """What a loaded model gives for inputs [B,T] and decoder inputs [B,U], float64 [B,U,V]."""
    batch = {"encoder_input_tokens": inputs, "decoder_input_tokens": fed}
    with quickly():
        return np.asarray(_apply(loaded.model, loaded.theta, loaded.tuned, batch), np.float64)


@functools.partial(jax.jit, static_argnums=0)
def _apply(model, theta, tuned, batch):
    return model.apply({"params": theta}, tuned, batch)


def vocabulary() -> Vocabulary:
    """The backbone's own."""
    return Vocabulary(str(_backbone() / "sentencepiece.model"), 10)


@functools.cache
def _session() -> pathlib.Path:
    """A folder for what all jobs share."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tiny_run"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, value in _programs(folder).items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    return folder


def _programs(folder: pathlib.Path) -> dict[str, str | int]:
    """JAX's settings of a cache of everything that is compiled."""
    return {
        "jax_compilation_cache_dir": str(folder / "programs"),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }


def _tokens() -> str:
    return str(_session() / "tokens")


@functools.cache
def _backbone() -> pathlib.Path:
    folder = _session()
    pieces = tiny_vocabulary.train(folder, user_defined_symbols=[f"▁{word}" for word in LABELS])
    vocabulary = Vocabulary(pieces, 10)
    theta = backbones.leaves_of(random_theta())
    backbones.write(str(folder / "backbone"), "random", CONFIG, theta, vocabulary)
    return folder / "backbone"


def _flags(macros) -> list[str]:
    return [f"--gin.{name}={value}" for name, value in macros.items()]
