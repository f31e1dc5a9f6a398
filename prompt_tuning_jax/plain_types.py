"""Values held against annotations that are unions of plain types, such as `int | None`."""

from __future__ import annotations

from typing import Any

_TYPES = {"int": int, "float": int | float, "str": str, "None": type(None)}
WORDS = "tuple[str, ...]"
SCALARS = {*_TYPES, "bool"}


def names(annotation: Any) -> set[str]:
    """The types that an annotation, itself a type or a text, is a union of."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return {name.strip() for name in text.split("|")}


def fits(value: Any, names: set[str]) -> bool:
    """Whether a value is of one of these SCALARS or WORDS: a whole number is a float too, a truth
    value no number."""
    if isinstance(value, bool):
        return "bool" in names
    if isinstance(value, tuple):
        return WORDS in names and all(isinstance(word, str) for word in value)
    return any(isinstance(value, _TYPES[name]) for name in names & {*_TYPES})
