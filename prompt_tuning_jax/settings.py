"""Dataclasses as plain JSON and back: what artifacts and a run's identity are written in.

Nothing is evaluated and no module is imported on the way back: a class must be one of ours or of
a module that the user has already named (in gin, or by an import).
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from typing import Any

from prompt_tuning_jax.errors import UserError

OURS = "prompt_tuning_jax."


def encode(value: Any) -> Any:
    """Numbers, strings, None, lists, dicts and (nested) dataclasses of them -> JSON values."""
    if hasattr(value, "identity"):
        return encode(value.identity())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": f"{type(value).__module__}.{type(value).__qualname__}", "settings": fields}
    if isinstance(value, dict):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UserError(
        f"{value!r} cannot be written as JSON: settings are numbers, strings and dataclasses"
    )


def decode(value: Any) -> Any:
    """The inverse of `encode`; lists come back as tuples. UserError for an unknown class."""
    if isinstance(value, list):
        return tuple(decode(v) for v in value)
    if isinstance(value, dict) and set(value) == {"class", "settings"}:
        module_name, _, name = str(value["class"]).rpartition(".")
        if module_name.startswith(OURS):
            try:
                importlib.import_module(module_name)
            except ImportError:
                raise UserError(f"this version has no {value['class']}") from None
        module = sys.modules.get(module_name)
        if module is None:
            raise UserError(
                f"{value['class']} is not ours: import {module_name} in a gin file first"
            )
        cls, fields = getattr(module, name, None), decode(value["settings"])
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            raise UserError(f"{module_name} has no dataclass {name}")
        try:
            return cls(**fields)
        except TypeError as error:
            raise UserError(f"{value['class']}: {error}") from None
    if isinstance(value, dict):
        return {k: decode(v) for k, v in value.items()}
    return value


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """ "path: old -> new" for every value in which two encoded settings differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(k for k in new if k not in old)]
        return [
            line
            for key in keys
            for line in differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    lists = isinstance(old, list) and isinstance(new, list) and len(old) == len(new)
    # a list of words or numbers is clearest as a whole
    if lists and any(isinstance(item, dict | list) for item in (*old, *new)):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for i, pair in pairs for line in differences(*pair, f"{path}[{i}]")]
    return [] if old == new else [f"{path}: {old!r} -> {new!r}"]
