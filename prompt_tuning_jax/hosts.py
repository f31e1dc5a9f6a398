"""Several processes, one job: how they find each other, what each does, how they end together.

Each process runs the same program on its part of every array. The first one alone speaks and
writes files; what a process must know of another's part is made whole by a collective, which all of
them take part in. On TPU pods, in SLURM and with Open MPI `jax.distributed` finds the others by
itself; elsewhere three flags, or the environment, tell.

An error of one process is told to the others through JAX's coordination service, and all leave with
its exit status. A process that dies without a word is missed by JAX itself: a collective over gloo
fails at once, a heartbeat after `heartbeat_timeout`, which JAX answers with abort().
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prompt_tuning_jax.errors import UserError, reason

if TYPE_CHECKING:
    import numpy as np

# flag -> macro; T5X's names
FLAGS = {
    "coordinator_address": "COORDINATOR_ADDRESS",
    "process_count": "PROCESS_COUNT",
    "process_index": "PROCESS_INDEX",
    "multiprocess_gpu": "MULTIPROCESS_GPU",
}
# exit status of a job that lost one of its processes
LOST = 3
_ADDRESS = ("COORDINATOR_ADDRESS", "JAX_COORDINATOR_ADDRESS")
_COUNT = ("PROCESS_COUNT", "NUM_PROCESSES", "JAX_NUM_PROCESSES")
_INDEX = ("PROCESS_INDEX", "PROCESS_ID", "JAX_PROCESS_ID")
# a step of SLURM's or Open MPI's is there when these are: jax.distributed asks for the same
_CLUSTERS = (
    (
        ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"),
        *("SLURM_NTASKS", "SLURM_PROCID"),
    ),
    (("OMPI_MCA_orte_hnp_uri",), "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
)
_FAILED, _GONE = "prompt_tuning_jax/failed", "prompt_tuning_jax/gone"
# seconds: in which a process that is told of an error may find its own; that all have to leave in
_GRACE, _LEAVING = 1, 10
_AGAIN = "start the command again on every host, it goes on from the newest checkpoint"
_ending = threading.Lock()
# from then on an error may be this process's own
_joining = False


# ---- before and after `join` ---------------------------------------------------------------------
def join(
    coordinator_address: str | None = None,
    process_count: int | str | None = None,
    process_index: int | str | None = None,
    multiprocess_gpu: bool | str = False,
    start_timeout: int = 300,
    heartbeat_timeout: int = 60,
) -> None:
    """Makes this process one of several where it was started as one; else does nothing.

    coordinator_address: "host:port" of the first process, where its port is free; process_count and
    process_index: how many there are, and which this is, from 0. Each is looked up in the
    environment where it is None, and the environment is asked where there is no address. A
    process_count of 1 with no address is one process by itself, whatever the environment says.
    multiprocess_gpu: it is an error to be alone. Timeouts are in seconds.
    Before anything touches a device. UserError for what cannot be, and where the processes do not
    come together.
    """
    global _joining
    import jax  # here: the first lines of a command do not wait for it

    if jax.distributed.is_initialized():  # by whoever calls
        _watch_over()
        return
    _joining = True
    required = str(multiprocess_gpu) == "True"
    address = coordinator_address or _told(_ADDRESS)
    count = _number("PROCESS_COUNT", process_count, _COUNT if address else ())
    index = _number("PROCESS_INDEX", process_index, _INDEX if address else ())
    if address is None and (count == 1 or not (_cluster() or _pod())):
        if required or (count or 1) > 1 or index:
            raise UserError(
                "no TPU pod, SLURM step or Open MPI job here to tell where the other processes "
                "are: give --coordinator_address=HOST:PORT, --process_count and --process_index"
            )
        return
    if address is not None:
        if not re.fullmatch(r".+:\d{1,5}", address) or int(address.rsplit(":", 1)[1]) > 65535:
            raise UserError(f"COORDINATOR_ADDRESS = {address!r}: write HOST:PORT")
        found = _cluster()
        count, index = (
            n if n is not None or not found else found[i] for i, n in enumerate((count, index))
        )
        if count is None or index is None:
            raise UserError(
                f"COORDINATOR_ADDRESS = {address}: give --process_count and --process_index too"
            )
        if not 0 <= index < count:
            raise UserError(f"PROCESS_INDEX = {index}: of {count} processes it is 0 to {count - 1}")
    given: dict[str, Any] = (
        {} if _cluster() or address is None else {"cluster_detection_method": "deactivate"}
    )
    late = threading.Timer(start_timeout, _late, (address, count, index, start_timeout))
    late.daemon = True
    late.start()
    # else it would take SIGTERM from commands that never ask whether it came
    jax.config.update("jax_enable_preemption_service", False)
    try:
        if address is not None and index:
            _wait_for(address, start_timeout)
    except UserError:
        late.cancel()
        raise
    try:
        jax.distributed.initialize(
            address,
            count,
            index,
            initialization_timeout=start_timeout + 60,  # `late` comes first, in one line
            heartbeat_timeout_seconds=heartbeat_timeout,
            **given,
        )
    except (RuntimeError, ValueError, OSError) as error:
        where = f"COORDINATOR_ADDRESS = {address}" if address else "jax.distributed"
        raise UserError(f"{where}: the processes cannot be joined ({reason(error)})") from None
    finally:
        late.cancel()
    if jax.default_backend() == "cpu":
        # the first alone would find its programs, and gloo waits 30 seconds for who compiles them
        jax.config.update("jax_enable_compilation_cache", False)
    if jax.process_index():
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    _watch_over()


def several() -> bool:
    """Whether there are other processes."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
    """Whether this is the process that writes and speaks."""
    return not several() or sys.modules["jax"].process_index() == 0


def index_told(argv: Sequence[str]) -> int:
    """What flags and environment call this process before it has joined: of an error that all of
    them find, one line is enough."""
    if {"--process_count=1", "--gin.PROCESS_COUNT=1"} & {*argv}:
        return 0
    for word in argv:
        flag = re.fullmatch(r"--(?:process_index|gin\.PROCESS_INDEX)=(\d+)", word)
        if flag:
            return int(flag[1])
    told = _told(_INDEX) if _told(_ADDRESS) else None
    if told is not None and told.isdigit():
        return int(told)
    found = _cluster()
    return found[1] if found else 0


def _told(names: Sequence[str]) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _number(name: str, given: int | str | None, names: Sequence[str]) -> int | None:
    said = _told(names) if given is None else str(given)
    if said is None:
        return None
    if not re.fullmatch(r"\d+", said):
        raise UserError(f"{name} = {said}: it must be a number from 0")
    return int(said)


def _cluster() -> tuple[int, int] | None:
    """How many processes SLURM or Open MPI started here and which this is, None for one or none."""
    for names, count, index in _CLUSTERS:
        told = [os.environ.get(name, "") for name in (count, index)]
        there = all(name in os.environ for name in names) and all(map(str.isdigit, told))
        if there and int(told[0]) > 1:
            return int(told[0]), int(told[1])
    return None


def _pod() -> bool:
    """Whether this is one of a TPU pod's hosts, as JAX finds out (of the machine's metadata, where
    there are TPUs and nowhere else)."""
    from jax._src.clusters import GceTpuCluster, GkeTpuCluster

    if (os.environ.get("JAX_PLATFORMS") or "tpu").split(",")[0] != "tpu":
        return False
    return any(
        c.is_env_present() and c.get_process_count() > 1 for c in (GkeTpuCluster, GceTpuCluster)
    )


def _wait_for(address: str, seconds: float) -> None:
    """Until the first process listens there; JAX would abort where it does not."""
    host, port = address.rsplit(":", 1)
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() > end - 1:
                raise UserError(
                    f"COORDINATOR_ADDRESS = {address}: process 0 was not reached in {seconds} "
                    f"seconds ({reason(error)}); is the command started there too?"
                ) from None
            time.sleep(min(1, seconds / 10))


def _late(address: str | None, count: int | None, index: int | None, seconds: int) -> None:
    """What a wait for the others that lasts too long ends in."""
    there = f" at {address}" if address else ""
    of = f" {count}" if count else ""
    print(
        f"error: not all{of} processes came together{there} in {seconds} seconds: start the same "
        "command on every host, with the same PROCESS_COUNT",
        file=sys.stderr,
    )
    sys.stderr.flush()
    os._exit(2)


# ---- what one process knows and the others do not ------------------------------------------------
def whole(array: Any) -> np.ndarray:
    """All of an array, of which this process may hold a part: a collective where it does."""
    import jax
    import numpy as np

    if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(array, tiled=True)


def gathered(values: np.ndarray) -> np.ndarray:
    """Every process's values, of one shape: [processes,…]. A collective."""
    if not several():
        return values[None]
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(values)


def meet() -> None:
    """Waits until all processes are here."""
    import numpy as np

    gathered(np.zeros((), np.int32))


def share_sigterm(first: int) -> None:
    """From now on SIGTERM ends no process, but is told to all (`stops`, of steps after `first`)."""
    from jax._src import distributed

    sys.modules["jax"].config.update("jax_enable_preemption_service", True)
    if distributed.global_state.preemption_sync_manager is None:
        distributed.global_state.initialize_preemption_sync_manager()
    stops(first)  # else one that comes before the first step is asked would be told of step 1


def stops(step: int) -> bool:
    """Whether SIGTERM came to a process and this is the step that all end with, which none has
    passed; asked by all before each step (15 µs)."""
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)


# ---- the end ------------------------------------------------------------------------------------
def end(status: int, line: str, argv: Sequence[str] | None = None) -> int:
    """The exit status of a command that ended with it, and with `line` where it is an error's.

    Of several processes, the first prints the line; where there was an error this does not return:
    all leave, at once. argv: of a command that `join`s, None of others.
    """
    if not several():
        if line and (_joining or argv is None or not index_told(argv)):
            _say(line)
        return status
    if not status:
        sys.modules["jax"].distributed.shutdown()  # waits for the others
        _watching.join()  # which that ended: a thread in JAX's hands must not outlive Python
        return 0
    _ending.acquire()
    _leave(status, line)
    raise AssertionError


def lost(error: Exception) -> str:
    """The line for an error that says that another process is not there any more; "" for others."""
    text = str(error)
    said = r"Gloo|[Cc]oordination service|tasks are unhealthy|Connection (closed|reset) by peer"
    # a storage's connection is another matter
    if isinstance(error, OSError) or not re.search(said, text):
        return ""
    return f"error: a process of this job was lost ({reason(error)}): {_AGAIN}"


# a function of C's, for Python's own handlers wait for the main thread, which waits for the dead
@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _aborted(_: int) -> None:
    """What JAX's abort() ends in: a line below its own, and a stack trace's, on every host."""
    line = f"error: JAX ended this process (above), most likely since another was lost: {_AGAIN}\n"
    try:
        os.write(2, line.encode())
    finally:
        os._exit(LOST)


def _client() -> Any:
    from jax._src import distributed  # no other way to the coordination service

    return distributed.global_state.client


def _watch() -> None:
    """Leaves with the others once one of them has failed."""
    while True:
        try:
            told = json.loads(_client().blocking_key_value_get(_FAILED, 60_000))
            break
        except Exception as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                return  # the job is over
    time.sleep(_GRACE)
    if _ending.acquire(blocking=False):
        said = told["line"].removeprefix("error: ")
        _leave(told["status"], f"error: process {told['process']}: {said}" if said else "")


_watching = threading.Thread(target=_watch, daemon=True)


def _watch_over() -> None:
    """From now on this process ends when another does."""
    if not _watching.is_alive():
        ctypes.CDLL(None).signal(signal.SIGABRT, _aborted)
        _watching.start()


def _leave(status: int, line: str) -> None:
    jax = sys.modules["jax"]
    told = {"process": jax.process_index(), "status": status, "line": line}
    with contextlib.suppress(Exception):  # another was first, or nobody is there to be told
        _client().key_value_set(_FAILED, json.dumps(told))
    if first():
        _say(line)
    with contextlib.suppress(Exception):  # not all come: one is dead
        # the first holds the service that the others are told by
        _client().wait_at_barrier(_GONE, 1000 * (3 if status == LOST else _LEAVING))
        time.sleep(0.5 if first() else 0)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(status)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # a log on a full disk: the status tells
        if line:
            print(line, file=sys.stderr, flush=True)
