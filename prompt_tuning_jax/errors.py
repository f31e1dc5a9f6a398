"""What a user can mend: one line that names the file, the field and the fix."""

import contextlib
import os
from collections.abc import Iterator


class UserError(ValueError):
    """Bad input. The commands print its text as one line `error: …` and exit with status 2."""


def line(error: BaseException | str) -> str:
    """An error's text as one line that a terminal shows as it is: what a file may have put into it
    (line breaks, escape sequences, half characters) is spelt out."""
    text = " ".join(str(error).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason(error: BaseException) -> str:
    """What a library's error says, as one short line; its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return f"{lines[0]:.200}" if lines else type(error).__name__


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Within: an OSError that names no file, as a full disk's, names `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise
