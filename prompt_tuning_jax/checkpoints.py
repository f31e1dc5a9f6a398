"""A run's checkpoints: {tuned, opt_state, step, best, …} through Orbax, nothing frozen in them."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from prompt_tuning_jax.errors import UserError


class Checkpoints:
    """The newest `keep` checkpoints of one run, in MODEL_DIR/checkpoints/STEP.

    Nothing is written before the first `save`.
    """

    def __init__(self, model_dir: pathlib.Path, keep: int):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=False, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(
            (model_dir / "checkpoints").absolute(), options=options
        )

    def latest(self) -> int | None:
        """The newest step, None in a new run."""
        return self._manager.latest_step()

    def save(self, state: Any) -> None:
        """Writes the state as its step's checkpoint; a step that is there already stays."""
        step = int(state["step"])
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state))

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
        """Waits for what is being written."""
        self._manager.close()
