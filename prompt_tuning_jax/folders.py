"""A folder that is written whole or not at all, and names that stay in one."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Iterator


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
    new, old = (target.with_name(f".{target.name}.{kind}") for kind in ("new", "old"))
    for left in (new, old):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
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
