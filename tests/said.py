"""What the commands warn of, wherever pytest leads the log."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def warnings() -> Iterator[list[str]]:
    """Within: the root logger's warnings are added to the list."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: (
        lines.append(record.getMessage()) if record.name == "root" else None
    )
    logging.getLogger().addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(handler)
