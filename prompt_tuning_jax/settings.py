"""Dataclasses as plain JSON and back: what artifacts and a run's identity are written in.

Nothing is evaluated on the way back and no module is imported but one of `methods/`: a class must
be one of ours or of a module that the user has already named (in gin, or by an import).
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import re
import sys
from typing import Any

from prompt_tuning_jax import plain_types
from prompt_tuning_jax.errors import UserError

OURS = "prompt_tuning_jax."
# the modules that a file may name into being; what their settings are made of they import
METHODS = re.compile(r"prompt_tuning_jax\.methods\.\w+")


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
        if METHODS.fullmatch(module_name):
            with contextlib.suppress(ImportError):
                importlib.import_module(module_name)
        module = sys.modules.get(module_name)
        if module is None and module_name.startswith(OURS):
            raise UserError(f"this version has no {value['class']}")
        if module is None:
            raise UserError(
                f"{value['class']} is not ours: import {module_name} in a gin file first"
            )
        cls, fields = getattr(module, name, None), decode(value["settings"])
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            raise UserError(f"{module_name} has no dataclass {name}")
        if cls.__module__ != module_name:
            raise UserError(f"{value['class']} is {cls.__module__}'s")
        if not isinstance(fields, dict):
            raise UserError(f"{value['class']}: its settings are no object")
        _check(cls, fields)
        try:
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise UserError(f"{value['class']}: {error}") from None
    if isinstance(value, dict):
        return {k: decode(v) for k, v in value.items()}
    return value


def _check(cls: type, fields: dict[str, Any]) -> None:
    """UserError where a field is annotated with plain types and its value is of none of them, or is
    a number that JAX cannot count with."""
    for field in dataclasses.fields(cls):
        names, value = plain_types.names(field.type), fields.get(field.name)
        if field.name not in fields or not names <= {*plain_types.SCALARS, plain_types.WORDS}:
            continue
        large = type(value) is int and abs(value) >= 2**31
        if large or not plain_types.fits(value, names):
            wanted = getattr(field.type, "__name__", field.type)  # a type, or its text
            raise UserError(f"{cls.__name__}.{field.name} is {value!r:.80}, not {wanted}")


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
