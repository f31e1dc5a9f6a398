"""A folder that is written whole or not at all, and names that stay in one."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

from prompt_tuning_jax.errors import naming


def inside(folder: pathlib.Path, name: object) -> str:
    """The path of a file of this folder whose name comes out of another file in it.

    ValueError for anything but a plain name: a folder that was downloaded names nothing outside
    itself. (A link in it is the user's: the hub's cache is made of them.)
    """
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise ValueError(f"{name!r:.80} is no name of a file in its folder")
    return str(folder / name)


@contextlib.contextmanager
def replaced(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new folder to write into, which takes the place of `target` once all is well.

    Until then, and where writing fails, `target` stays as it is. OSError where the disk does not
    let it.
    """
    new, old = _new(target), _old(target)
    if old.exists() and not target.exists():  # a process was killed between the two renames
        old.rename(target)
    for left in (new, old):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        with naming(target):
            new.mkdir(parents=True)
            yield new
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def whole(target: pathlib.Path) -> pathlib.Path:
    """Where `target` is to be read: it is beside its place for as long as two renames take, and
    stays there if the process that replaces it is killed between them."""
    old = _old(target)
    return old if old.is_dir() and not target.exists() else target


def _new(target: pathlib.Path) -> pathlib.Path:
    return target.with_name(f".{target.name}.new")


def _old(target: pathlib.Path) -> pathlib.Path:
    return target.with_name(f".{target.name}.old")
