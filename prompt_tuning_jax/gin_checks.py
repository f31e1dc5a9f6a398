"""Refuses what gin would ignore or report late: unknown names, unread ones, missing values.

gin binds what it is told and calls what is referenced. A macro that nobody reads, or a parameter of
a class that this run never builds, goes unnoticed there. Here the configuration is walked from the
functions that the command calls through every reference, and each error is one line with the
place where it was written and the nearest known name.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gin
from gin import config_parser

from prompt_tuning_jax import plain_types
from prompt_tuning_jax.command_line import nearest
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.gin_files import MACRO, Binding, Reference, Source, references

Node = tuple[tuple[str, ...], Any]  # scopes, and the function or class that runs in them
GINS = {f"gin.{name}": getattr(gin.config, name) for name in ("macro", "singleton", "constant")}


def macros(bindings: Iterable[Binding]) -> dict[str, Binding]:
    """The last definition of every macro, by name."""
    return {binding.name: binding for binding in bindings if binding.selector == MACRO}


def check_macros(bindings: Sequence[Binding]) -> None:
    """Every macro that is read is defined, and the reverse. Needs no import.

    A macro counts as read here when any binding names it, even one that is replaced later: whoever
    binds a parameter anew need not know which macro it had. Raises UserError.
    """
    defined = macros(bindings)

    def reads(binding: Binding) -> list[str]:
        return ["/".join(r.scopes) for r in references(binding.value) if r.selector == MACRO]

    for binding in bindings:
        for name in reads(binding):
            if name not in defined:
                hint = nearest(name, defined)
                raise UserError(_line(f"{binding.place}: the macro {name} is not defined", hint))
    read: set[str] = set()
    front = [binding for binding in bindings if binding.selector != MACRO]
    while front:
        for name in set(reads(front.pop())) - read:
            read.add(name)
            front += [b for b in bindings if b.selector == MACRO and b.name == name]
    for name, binding in defined.items():
        if name not in read:
            hint = nearest(name, read)
            raise UserError(_line(f"{binding.place}: nothing reads the macro {name}", hint))


def parameters(target: Any) -> dict[str, inspect.Parameter]:
    """Named parameters of a function or class; empty where Python cannot tell."""
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: p for name, p in parameters.items() if p.kind not in variadic}


@dataclass
class Reached:
    """What runs from the roots: the bindings that hold at each node, and how it is called."""

    bindings: dict[Node, dict[str, Binding]] = field(default_factory=dict)
    called: dict[Node, str] = field(default_factory=dict)  # by gin, without further arguments
    names: dict[Any, str] = field(default_factory=dict)  # selector by function or class


class Configuration:
    """The bindings that hold in the end, with every name resolved to what it names."""

    def __init__(self, source: Source):
        """Imports what the files import. Raises UserError for names that do not exist."""
        self.final: dict[Node, dict[str, Binding]] = {}
        self._modules = {statement: _import(statement) for statement in source.imports}
        for binding in source.bindings:
            target = self._resolve(binding.selector, binding)
            for reference in references(binding.value):
                self._resolve(reference.selector, binding)
            _check_parameter(target, binding)
            self.final.setdefault((binding.scopes, target), {})[binding.parameter] = binding

    def reach(self, roots: Mapping[str, Any]) -> Reached:
        """Walks from `roots` (functions by their selectors) through references and macros."""
        reached = Reached()
        front: list[tuple[tuple[str, ...], Any]] = []

        def visit(scopes: tuple[str, ...], target: Any, selector: str, called: bool) -> None:
            node = (scopes, target)
            reached.names.setdefault(target, selector)
            if called:
                reached.called.setdefault(node, selector)
            if node not in reached.bindings:
                reached.bindings[node] = self._effective(scopes, target)
                front.append(node)

        for selector, function in roots.items():
            visit((), function, selector, called=True)
        while front:
            scopes, target = node = front.pop()
            for binding in reached.bindings[node].values():
                for reference in references(binding.value):
                    found = self._resolve(reference.selector, binding)
                    inner = reference.scopes or scopes  # gin: without scopes, the caller's stay
                    visit(inner, found, reference.selector, reference.evaluate)
                    if not reference.evaluate:  # called later, when the caller's may have ended
                        visit(reference.scopes, found, reference.selector, False)
        return reached

    def check_overrides(self, reached: Reached) -> None:
        """Everything that the command line sets is read. Raises UserError."""
        read = {id(b) for bindings in reached.bindings.values() for b in bindings.values()}
        known = {b.name for bindings in reached.bindings.values() for b in bindings.values()}
        for (_, target), bindings in self.final.items():
            for binding in bindings.values():
                if binding.from_command_line and id(binding) not in read:
                    if binding.selector == MACRO or target in reached.names:
                        hint = nearest(binding.name, known - {binding.name})
                    else:
                        names = {f"{name}.{binding.parameter}" for name in reached.names.values()}
                        hint = nearest(binding.name, names | (known - {binding.name}))
                    message = f"{binding.place}: nothing that runs reads {binding.name}"
                    raise UserError(_line(message, hint))

    def check_values(self, reached: Reached, flags: Mapping[str, str]) -> None:
        """Nothing that runs waits for a value. `flags`: plain flags by the macro that they set."""
        missing: dict[str, str] = {}
        for bindings in reached.bindings.values():
            for binding in bindings.values():
                if binding.value is gin.REQUIRED:
                    flag = flags.get(binding.name, f"gin.{binding.name}")
                    missing[f"--{flag}=…"] = binding.place
        if missing:
            many = "a value is" if len(missing) == 1 else f"{len(missing)} values are"
            places = ", ".join(dict.fromkeys(missing.values()))
            raise UserError(f"{many} missing: give {' '.join(missing)} (see {places})")
        for node, selector in reached.called.items():
            if selector != MACRO:
                for name, parameter in parameters(node[1]).items():
                    if parameter.default is parameter.empty and name not in reached.bindings[node]:
                        name = f"{'/'.join((*node[0], selector))}.{name}"
                        raise UserError(f"a value is missing: give --gin.{name}=…")

    def check_types(self, reached: Reached) -> None:
        """Literals fit parameters annotated as int, float, bool, str or a union of them."""
        for (scopes, target), bindings in reached.bindings.items():
            for name, binding in bindings.items():
                parameter = None if target is gin.config.macro else parameters(target).get(name)
                # one without an annotation is of no plain type
                allowed = plain_types.names(parameter.annotation if parameter else Any)
                source = self._literal(binding, scopes)
                if not allowed <= plain_types.SCALARS or source is None:
                    continue
                value = source.value
                if not plain_types.fits(value, allowed):
                    wanted = " or ".join(sorted(allowed))
                    setting = source.name if source is binding else f"{source.name} ({name})"
                    raise UserError(f"{source.place}: {setting} must be {wanted}, not {value!r}")

    def _effective(self, scopes: tuple[str, ...], target: Any) -> dict[str, Binding]:
        effective: dict[str, Binding] = {}
        for length in range(len(scopes) + 1):
            effective.update(self.final.get((scopes[:length], target), {}))
        return effective

    def _literal(self, binding: Binding, scopes: tuple[str, ...]) -> Binding | None:
        """The binding whose plain value this one has, through macros; None: it is computed."""
        value = binding.value
        if isinstance(value, Reference):
            if value.selector != MACRO:
                return None
            return self._literal(self._effective(value.scopes, gin.config.macro)["value"], scopes)
        return None if any(references(value)) or value is gin.REQUIRED else binding

    def _resolve(self, selector: str, binding: Binding) -> Any:
        """The function or class that `selector` names where `binding` was written."""
        first, *rest = selector.split(".")
        if first == "gin":
            if selector not in GINS:
                raise UserError(f"{binding.place}: gin has no {selector}, but {', '.join(GINS)}")
            return GINS[selector]
        statement = binding.imports.get(first)
        if statement is None:
            hint = nearest(first, binding.imports) or f"`from … import {first}` comes first"
            raise UserError(_line(f"{binding.place}: {first} is not imported", hint))
        found = self._modules[statement]
        for depth, part in enumerate(rest):
            if not hasattr(found, part):
                owner = ".".join([first, *rest[:depth]])
                names = [n for n in dir(found) if callable(getattr(found, n)) and n[0] != "_"]
                message = f"{binding.place}: {owner} has no {part}"
                raise UserError(_line(message, nearest(part, names)))
            found = getattr(found, part)
        if not callable(found):
            raise UserError(f"{binding.place}: {selector} is no function or class")
        return found


def _line(message: str, hint: str) -> str:
    return f"{message}; {hint}" if hint else message


def _import(statement: config_parser.ImportStatement) -> Any:
    """What the statement's name is bound to, as in Python."""
    try:
        module = importlib.import_module(statement.module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not f"{statement.module}.".startswith(f"{missing}."):
            raise  # the module is there; one that it needs is not
        parent = missing.rpartition(".")[0]
        path = getattr(importlib.import_module(parent), "__path__", []) if parent else None
        names = [f"{parent}.{m.name}".lstrip(".") for m in pkgutil.iter_modules(path)]
        place = f"{statement.location.filename}:{statement.location.line_num}"
        raise UserError(_line(f"{place}: no module {missing}", nearest(missing, names))) from None
    if statement.is_from or statement.alias:
        return module
    return importlib.import_module(statement.bound_name())


def _check_parameter(target: Any, binding: Binding) -> None:
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return
    if binding.parameter not in signature.parameters:
        names = list(signature.parameters)
        hint = nearest(binding.parameter, names) or f"it has {', '.join(names) or 'none'}"
        message = f"{binding.place}: {binding.selector} has no parameter {binding.parameter}"
        raise UserError(_line(message, hint))
