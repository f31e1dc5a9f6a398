"""A run's checkpoints: {tuned, opt_state, step, best, …} through Orbax, nothing frozen in them.

The training loop waits for neither the devices nor the disk: a save copies the state on its
devices, and a thread fetches and writes the copy. (Orbax's own asynchronous saving fetches first.)
Beside the state, in the same tree, lies its checksum: what is read back is that state, or damaged.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import pathlib
import re
import shutil
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from prompt_tuning_jax import hosts
from prompt_tuning_jax.checksum import checksum
from prompt_tuning_jax.errors import UserError, reason

_checksum = jax.jit(checksum)


def signed(state: Any) -> Any:
    """A copy of a run's state, in memory of its own since the step donates the state to the next
    one, with its checksum: what a checkpoint holds."""
    return jax.tree.map(jnp.copy, state) | {"checksum": checksum(state)}


_signed = jax.jit(signed)


# one for the checkpoints of all runs: what Orbax's threads say is caught for a process (`_tried`)
_thread = ThreadPoolExecutor(1, "checkpoints")


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        # asked of a step that is past, it would mislead the processes about where they are
        return False


class Checkpoints:
    """The newest `keep` checkpoints of one run, in MODEL_DIR/checkpoints/STEP.

    Nothing is written before `begin`. A damaged one is never deleted: it goes to
    MODEL_DIR/damaged/STEP.
    """

    def __init__(self, model_dir: pathlib.Path, keep: int):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            enable_async_checkpointing=False,
            multiprocessing_options=_processes(set(range(jax.process_count())), str(model_dir)),
        )
        self._folder = (model_dir / "checkpoints").absolute()
        self._manager = _Manager(self._folder, options=options)
        # each process by itself: one that cannot read it must not keep the others waiting
        alone = _processes({jax.process_index()}, f"{model_dir}/{jax.process_index()}")
        self._reader = ocp.Checkpointer(
            ocp.StandardCheckpointHandler(multiprocessing_options=alone),
            multiprocessing_options=alone,
        )
        self._writing: Future | None = None
        # by step, newest first: why
        self._damaged: dict[int, str] = {}

    def steps(self) -> list[int]:
        """The steps that have a folder, sound or not, the newest first; as the first of several
        processes sees them."""
        # Orbax does not list what lacks its mark of completion
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        names = [folder.name for folder in found if re.fullmatch("[0-9]{1,9}", folder.name)]
        steps = sorted(map(int, names))[::-1]
        # of one length; more are not looked through
        listed = np.array([*steps[:64], *[-1] * 64][:64], np.int32)
        return [step for step in hosts.gathered(listed)[0].tolist() if step >= 0]

    def restore(self, like: Any) -> Any:
        """The newest sound state, in the shapes, dtypes and shardings of `like`; None in a new run.

        Warns of each newer one that is damaged. UserError where there are some, and none is sound.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        sums = jax.ShapeDtypeStruct((2,), jnp.uint32, sharding=like["step"].sharding)
        for step in self.steps():
            asked = ocp.args.StandardRestore(abstract | {"checksum": sums})
            state, why = _tried(self._reader.restore, self._folder / str(step) / "default", asked)
            # all processes take it or none
            if hosts.gathered(np.array(not why)).all():
                why = _unlike(state.pop("checksum"), state, step)
                # each has read what is not cut for itself
                if not hosts.gathered(np.array(not why)).all():
                    why = why or "another process read other values"
            else:
                why = why or "another process cannot read it"
            if why:
                self._damaged[step] = why
                continue
            for damaged, why in self._damaged.items():
                where = self._folder / str(damaged)
                logging.warning("%s is damaged (%s): step %d's is taken", where, why, step)
            return state
        if self._damaged:
            newest, why = next(iter(self._damaged.items()))
            raise UserError(
                f"{self._folder / str(newest)}: no sound checkpoint of this run ({why}), and no "
                "older one: choose another MODEL_DIR, go on with the version of this program that "
                "began it, or delete these to begin anew"
            )
        return None

    def begin(self) -> None:
        """From now on the folder is written: what `restore` found damaged is moved aside, and what
        a killed run had half written is dropped."""
        aside = self._folder.parent / "damaged"
        for half in self._folder.glob("*.orbax-checkpoint-tmp*") if hosts.first() else ():
            shutil.rmtree(half, ignore_errors=True)
        for step in self._damaged if hosts.first() else ():
            aside.mkdir(exist_ok=True)
            places = (aside / f"{step}{f'.{n}' if n else ''}" for n in itertools.count())
            free = next(place for place in places if not place.exists())
            (self._folder / str(step)).rename(free)
            logging.warning("%s is now %s", self._folder / str(step), free)
        if self._damaged:
            hosts.meet()
            self._manager.reload()

    def save(self, state: Any) -> None:
        """Begins to write the state as its step's checkpoint; a step that is there already stays.

        Waits for the save before it. UserError where that one failed.
        """
        self._wait()
        self._writing = _thread.submit(self._write, _signed(state))

    def _write(self, state: Any) -> None:
        step = int(state["step"])
        if step not in self._manager.all_steps():
            _, why = _tried(self._manager.save, step, args=ocp.args.StandardSave(state))
            if why:
                raise UserError(
                    f"{self._folder}: a checkpoint could not be written ({why}): mend that and "
                    "start the same command again, it goes on from the one before"
                )

    def check(self) -> None:
        """UserError where the last save has failed; waits for nothing."""
        if self._writing is not None and self._writing.done():
            self._wait()

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Waits for what is being written. UserError where it failed."""
        try:
            self._wait()
        finally:
            self._manager.close()


def _unlike(saved: Any, state: Any, step: int) -> str:
    """Why a state is not the one that was saved at that step; "" where it is."""
    if not np.array_equal(np.asarray(saved), np.asarray(_checksum(state))):
        return "its values are not those of its checksum"
    there = int(state["step"])
    return "" if there == step else f"it is of step {there}"


def _processes(active: set[int], name: str) -> ocp.options.MultiprocessingOptions:
    """How several processes write or read one checkpoint: each its own shards, in their threads.

    Orbax waits for the other processes through JAX's coordination service where it is told which
    they are, else through a collective on the devices, which a thread must not start beside the
    training step's.
    """
    if not hosts.several():
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(
        primary_host=min(active),
        active_processes=active,
        barrier_sync_key_prefix=name.replace("/", "_"),
    )


def _tried(call: Callable, *args, **kwargs) -> tuple[Any, str]:
    """What a call of Orbax's returns, "" -> or None, and why it fails.

    Of broken files and full disks Orbax and TensorStore raise whatever there is; its threads and
    tasks print it too, which is kept from the user. That another process was lost is raised.
    """
    asyncio_said = logging.getLogger("asyncio")
    before = threading.excepthook, sys.unraisablehook, asyncio_said.disabled

    def died(args) -> None:
        if not type(args.thread).__module__.startswith("orbax."):
            before[0](args)

    def left(args) -> None:
        closed = "Event loop is closed" in str(args.exc_value)
        if not closed and not asyncio.iscoroutine(args.object):
            before[1](args)

    threading.excepthook, sys.unraisablehook, asyncio_said.disabled = died, left, True
    try:
        try:
            return call(*args, **kwargs), ""
        except Exception as error:
            if hosts.several() and hosts.lost(error):
                raise
            why = _short(error)
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            gc.collect()  # tasks that were not begun
        return None, why
    finally:
        threading.excepthook, sys.unraisablehook, asyncio_said.disabled = before


def _short(error: BaseException) -> str:
    """As `reason`; of a chain of TensorStore's its end, the cause."""
    chain = str(error).partition("\n")[0].partition(" [")[0].split(": ")
    return ": ".join(chain[-2:]) if len(chain) > 3 else reason(error)
