"""Checkpoints written by a thread: sound whatever becomes of state, disk and process."""

import functools
import signal
import subprocess
import sys
import time
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning_jax.checkpoints import Checkpoints
from prompt_tuning_jax.errors import UserError

# saves without end; every value of a state is its step
_ENDLESS = """
import itertools, pathlib, sys
import jax.numpy as jnp
from prompt_tuning_jax.checkpoints import Checkpoints

checkpoints = Checkpoints(pathlib.Path(sys.argv[1]), keep=1)
for step in itertools.count(max(checkpoints.steps(), default=0)):
    checkpoints.save({"step": jnp.int32(step), "tuned": jnp.full((100, 64), step, jnp.float32)})
"""


def _state(step: int):
    return {"step": jnp.int32(step), "tuned": jnp.full((100, 64), step, jnp.float32)}


def test_a_step_that_takes_the_states_memory_does_not_change_what_is_saved(tmp_path):
    @functools.partial(jax.jit, donate_argnums=0)
    def step(state):
        return jax.tree.map(lambda leaf: leaf + 1, state)

    checkpoints, state = Checkpoints(tmp_path, keep=100), _state(0)
    for _ in range(5):
        checkpoints.save(state)
        for _ in range(20):
            state = step(state)
    checkpoints.close()
    for number in range(0, 100, 20):
        found = Checkpoints(tmp_path, keep=100)
        assert found.steps()[0] == 80
        saved = found._manager.restore(number)
        assert saved["step"] == number and (np.asarray(saved["tuned"]) == number).all()


def test_a_save_that_fails_is_one_line_as_soon_as_it_is_asked(tmp_path):
    for end in ("save", "close", "check"):
        folder = tmp_path / end
        folder.mkdir()
        checkpoints = Checkpoints(folder, keep=1)
        (folder / "checkpoints").write_text("no folder")
        checkpoints.save(_state(1))
        with pytest.raises(UserError, match=r"checkpoints: a checkpoint could not be written \("):
            if end == "check":
                futures.wait([checkpoints._writing])
                checkpoints.check()
            elif end == "save":
                checkpoints.save(_state(2))
            else:
                checkpoints.close()
        (folder / "checkpoints").unlink()
        if end == "save":  # the disk is mended
            checkpoints.save(_state(3))
            checkpoints.close()
            assert Checkpoints(folder, keep=1).steps()[0] == 3


def test_killed_at_any_moment_the_newest_whole_one_is_there(tmp_path):
    there = tmp_path / "checkpoints"
    newest = -1
    for moment in (0.0, 0.015, 0.035):
        command = [sys.executable, "-c", _ENDLESS, str(tmp_path)]
        with subprocess.Popen(command) as process:
            while not any(int(name) > newest for name in _names(there)):
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
        found = Checkpoints(tmp_path, keep=1)
        state = found.restore(_state(0))
        assert found.steps()[0] == state["step"] > newest
        assert (np.asarray(state["tuned"]) == int(state["step"])).all()
        newest = int(state["step"])


def _names(folder) -> list[str]:
    return [f.name for f in folder.iterdir() if f.name.isdigit()] if folder.is_dir() else []
