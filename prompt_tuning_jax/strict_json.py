"""JSON that may come from anybody, as values that the rest of the program can walk and print."""

from __future__ import annotations

import json
from typing import Any

DEEPEST = 100  # lists and objects inside one another; what walks them by recursion is then safe


def loads(text: str | bytes) -> Any:
    """The value that a JSON text stands for.

    ValueError with a short reason, and nothing else, where it is none, is nested more than DEEPEST
    deep, or has half a character ("\\ud800"), which no file name, vocabulary or terminal takes.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} deep") from None
    level = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not item.isascii():
                _whole(item)
        if not below:
            return value
        level = below
    raise ValueError(f"nested more than {DEEPEST} deep")


def _whole(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a character, {json.dumps(text[error.start])}") from None
