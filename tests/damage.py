"""Checkpoints of two steps of a small run, a file damaged in one way, and what comes back."""

import contextlib
import pathlib
import shutil
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import said

from prompt_tuning_jax.checkpoints import Checkpoints

STEPS = 4, 8
Change = Callable[[bytes], bytes | None]


def state(step: int):
    """As a run has it: a prompt, an optimizer's state with an empty branch, numbers."""
    values = np.random.default_rng(step).standard_normal((1, 4, 25), np.float32)
    return {
        "tuned": {"shared": {"prompt": jnp.asarray(values)}, "encoder": {}},
        "opt_state": ({"v": jnp.asarray(values.astype(jnp.bfloat16))}, jnp.int32(step), {}),
        "step": jnp.int32(step),
        "best": {"metric": jnp.float32(-jnp.inf)},
    }


def write(folder: pathlib.Path) -> list[pathlib.Path]:
    """Both checkpoints, as training writes them -> the files of the newer one."""
    checkpoints = Checkpoints(folder, keep=2)
    for step in STEPS:
        checkpoints.save(state(step))
    checkpoints.close()
    newer = folder / "checkpoints" / str(STEPS[1])
    return sorted(file for file in newer.rglob("*") if file.is_file())


def whole_file() -> Iterator[tuple[str, Change]]:
    """Faults of a file as a whole, by name."""
    yield "deleted", lambda content: None
    yield "emptied", lambda content: b""
    yield "cut in half", lambda content: content[: len(content) // 2]


def at(place: int, bit: int) -> Iterator[tuple[str, Change]]:
    """Faults at one byte, by name."""
    flipped = 1 << bit
    yield (
        "a bit flipped",
        lambda content: content[:place] + bytes([content[place] ^ flipped]) + content[place + 1 :],
    )
    yield "16 bytes of zeros", lambda content: content[:place] + bytes(16) + content[place + 16 :]


def outcome(
    whole: pathlib.Path, file: pathlib.Path, change: Change, folder: pathlib.Path
) -> tuple[int, list[str]]:
    """Damages `file` in `folder`, a copy of `whole` -> the step that is restored, the warnings.

    AssertionError unless that step's state is restored to the bit.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    damaged = folder / file.relative_to(whole)
    content = change(damaged.read_bytes())
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    checkpoints = Checkpoints(folder, keep=2)
    with contextlib.closing(checkpoints), said.warnings() as lines:
        found = checkpoints.restore(state(0))
        checkpoints.begin()
    step = int(found["step"])
    want = state(step)
    assert jax.tree.structure(found) == jax.tree.structure(want)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    return step, lines
