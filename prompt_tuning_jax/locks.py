"""One run a folder: a lock that the kernel takes back however the process ends, `kill -9` too.

The lock file holds "PID HOST" while a run writes its folder, and is empty when none does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import pathlib
import socket

from prompt_tuning_jax.errors import UserError, naming

_held: dict[pathlib.Path, int] = {}


def take(file: pathlib.Path) -> None:
    """Takes the lock, where the file is there, until `give_back`; writes nothing.

    UserError where another process has it. One that this process has already stays its own.
    """
    place = file.absolute()
    if place in _held:
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(_held[place]), os.stat(file)):
                return
        give_back(file)  # its folder was deleted meanwhile
    try:
        opened = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(opened)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(opened)
            raise UserError(
                f"{file.parent}: another run writes it ({holder}): wait for its end, or choose "
                "another MODEL_DIR"
            ) from None
        logging.warning("%s: cannot be locked (%s): start no other run there", file, error)
    _held[place] = opened


def mark(file: pathlib.Path) -> None:
    """Makes the file where it is not there, takes its lock, and writes who has it."""
    file.touch()
    take(file)
    opened = _held[file.absolute()]
    os.ftruncate(opened, 0)
    with naming(file):
        os.pwrite(opened, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)


def give_back(file: pathlib.Path | None = None) -> None:
    """Gives one lock back, or all that this process has."""
    for held in [*_held] if file is None else [file.absolute()]:
        opened = _held.pop(held, None)
        if opened is not None:
            if os.fstat(opened).st_size:  # an empty file keeps its time
                os.ftruncate(opened, 0)
            os.close(opened)


def _holder(opened: int) -> str:
    pid, _, host = os.pread(opened, 200, 0).decode(errors="replace").strip().partition(" ")
    if not pid.isdecimal() or (host == socket.gethostname() and not _alive(int(pid))):
        return "it is starting"  # or the one before it was killed, and the next is starting
    return f"process {pid} on {host}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False
    except PermissionError:
        pass
    return True
