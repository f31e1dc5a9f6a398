"""A folder that is written whole or not at all."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Iterator


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
