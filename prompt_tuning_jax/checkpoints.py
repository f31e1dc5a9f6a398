"""A run's checkpoints: {tuned, opt_state, step, best, …} through Orbax, nothing frozen in them.

The training loop waits for neither the devices nor the disk: a save copies the state on its
devices, and a thread fetches and writes the copy. (Orbax's own asynchronous saving fetches first.)
"""

from __future__ import annotations

import pathlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from prompt_tuning_jax import hosts
from prompt_tuning_jax.errors import UserError, reason

# in memory of its own: the step donates the state to the next one
_copy = jax.jit(lambda state: jax.tree.map(jnp.copy, state))


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        # asked of a step that is past, it would mislead the processes about where they are
        return False


class Checkpoints:
    """The newest `keep` checkpoints of one run, in MODEL_DIR/checkpoints/STEP.

    Nothing is written before the first `save`.
    """

    def __init__(self, model_dir: pathlib.Path, keep: int):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            enable_async_checkpointing=False,
            multiprocessing_options=_together(model_dir),
        )
        self._manager = _Manager((model_dir / "checkpoints").absolute(), options=options)
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future | None = None

    def latest(self) -> int | None:
        """The newest step, None in a new run; what the first process sees, where there are
        several."""
        latest = self._manager.latest_step()
        step = int(hosts.gathered(np.array(-1 if latest is None else latest, np.int32))[0])
        return None if step < 0 else step

    def save(self, state: Any) -> None:
        """Begins to write the state as its step's checkpoint; a step that is there already stays.

        Waits for the save before it. UserError where that one failed.
        """
        self._wait()
        self._writing = self._thread.submit(self._write, _copy(state))

    def _write(self, state: Any) -> None:
        step = int(state["step"])
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        try:
            if writing is not None:
                writing.result()
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self._manager.directory}: a checkpoint could not be written "
                f"({reason(error)}): mend that and start the run again, it goes on where it was"
            ) from error

    def restore(self, like: Any) -> Any:
        """The newest state, in the shapes, dtypes and shardings of `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        step = self.latest()
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except (ValueError, KeyError, OSError) as error:
            where = self._manager.directory / str(step)
            raise UserError(
                f"{where}: no sound checkpoint of this run; delete it to go on from an earlier one "
                f"({str(error)[:160]})"
            ) from None

    def close(self) -> None:
        """Waits for what is being written. UserError where it failed."""
        try:
            self._wait()
        finally:
            self._thread.shutdown()
            self._manager.close()


def _together(model_dir: pathlib.Path) -> ocp.options.MultiprocessingOptions:
    """How several processes write one checkpoint: each its own shards, all in their threads.

    Orbax waits for the other processes through JAX's coordination service where it is told which
    they are, else through a collective on the devices, which a thread must not start beside the
    training step's.
    """
    if not hosts.several():
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(
        active_processes=set(range(jax.process_count())),
        barrier_sync_key_prefix=str(model_dir).replace("/", "_"),
    )
