"""Finds and reads gin files without importing what they name.

gin itself imports while it reads, which takes seconds and reports errors over many lines. This
reader uses gin's own parser for the syntax and keeps where each binding was written, so that a
missing file or a misspelt macro is known at once and can be pointed at.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gin
from gin import config_parser

from prompt_tuning_jax.command_line import Override, nearest
from prompt_tuning_jax.errors import UserError, reason

MACRO = "gin.macro"


@dataclass(frozen=True)
class Reference:
    """`@scope/module.function()`, or `%NAME`, which gin reads as `@NAME/gin.macro()`."""

    scopes: tuple[str, ...]
    selector: str
    evaluate: bool


@dataclass(frozen=True)
class Binding:
    """`scope/selector.parameter = value`, or `NAME = value` (selector MACRO, scopes NAME)."""

    scopes: tuple[str, ...]
    selector: str
    parameter: str
    value: Any  # Python literals, in which References and gin.REQUIRED may be nested
    place: str  # "my.gin:3" or "--gin.TRAIN_STEPS"
    imports: Mapping[str, config_parser.ImportStatement]  # of the file, by the name they bind
    from_command_line: bool = False

    @property
    def name(self) -> str:
        """The left-hand side as a user writes it."""
        scope = "/".join(self.scopes)
        if self.selector == MACRO:
            return scope
        return f"{scope}/{self.selector}.{self.parameter}".lstrip("/")


@dataclass
class Source:
    """What files and overrides say, in the order in which it holds (later ones win)."""

    bindings: list[Binding] = field(default_factory=list)
    imports: list[config_parser.ImportStatement] = field(default_factory=list)


def packaged() -> Path:
    """The folder of the gin files that come with the library."""
    return Path(str(importlib.resources.files("prompt_tuning_jax.gin_configs")))


def search_places(search_paths: Sequence[str], gin_files: Sequence[str]) -> list[str]:
    """Where gin files and includes are looked up, in order.

    The current folder, `search_paths`, the packaged files (as `models/x.gin` and as
    `gin_configs/models/x.gin`), then the folders of the `gin_files` themselves.
    """
    folder = packaged()
    places = ["", *search_paths, str(folder), str(folder.parent)]
    beside = [str(find(name, places).parent) for name in gin_files]
    return list(dict.fromkeys([*places, *beside]))


def find(name: str, places: Sequence[str]) -> Path:
    """The first existing `place/name`. UserError names the places and the nearest packaged file."""
    candidates = [Path(place) / name for place in places]
    for path in candidates:
        if path.is_file():
            return path
    folder = packaged()
    known = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.gin"))
    short = name.removeprefix("gin_configs/")
    hint = nearest(short, known) or next(
        (f"did you mean {path}?" for path in known if Path(path).name == Path(short).name), ""
    )
    searched = ", ".join(place or "the current folder" for place in places)
    if Path(name).is_absolute():
        searched = str(Path(name).parent)
    raise UserError(f"no gin file {name} in {searched}{'; ' if hint else ''}{hint}")


def read(gin_files: Iterable[str], overrides: Iterable[Override], places: Sequence[str]) -> Source:
    """Reads `gin_files` with their includes, then the overrides.

    Overrides may use every name that one of the files imports. Raises UserError for a missing or
    unreadable file, an include of itself and bad syntax.
    """
    source = Source()
    for name in gin_files:
        _read_file(name, places, (), source)
    imports = {statement.bound_name(): statement for statement in source.imports}
    for override in overrides:
        with _one_line_errors(override.flag):
            for statement in config_parser.ConfigParser(override.text, _Delegate()):
                if not isinstance(statement, config_parser.BindingStatement):
                    raise UserError(f"{override.flag}: write {override.flag}=VALUE")
                source.bindings.append(_binding(statement, override.flag, imports, True))
    return source


def references(value: Any) -> Iterator[Reference]:
    """Every Reference nested in lists, tuples and dictionaries of `value`."""
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, dict):
        for item in (*value.keys(), *value.values()):
            yield from references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from references(item)


class _Delegate(config_parser.ParserDelegate):
    """Keeps references as they are written."""

    def configurable_reference(self, scoped_configurable_name, evaluate):
        *scopes, selector = scoped_configurable_name.split("/")
        return Reference(tuple(scopes), selector, evaluate)

    def macro(self, macro_name):
        if macro_name in ("gin.REQUIRED", "REQUIRED"):
            return gin.REQUIRED
        return Reference(tuple(macro_name.split("/")), MACRO, True)


def _read_file(name: str, places: Sequence[str], outer: tuple[Path, ...], source: Source) -> None:
    path = find(name, places)
    if path.resolve() in outer:
        raise UserError(f"{name} includes itself")
    shown = path.relative_to(packaged()) if path.is_relative_to(packaged()) else path
    imports: dict[str, config_parser.ImportStatement] = {}
    dynamic = False
    with _one_line_errors(str(shown)), open(path, encoding="utf-8") as lines:
        for statement in config_parser.ConfigParser(lines, _Delegate()):
            place = f"{shown}:{statement.location.line_num}"
            if isinstance(statement, config_parser.ImportStatement):
                if statement.module.startswith("__gin__."):
                    dynamic = True
                else:
                    imports[statement.bound_name()] = statement
                    source.imports.append(statement)
            elif isinstance(statement, config_parser.IncludeStatement):
                try:
                    _read_file(statement.filename, places, (*outer, path.resolve()), source)
                except UserError as error:
                    if error.args[0].startswith("no gin file"):
                        raise UserError(f"{place}: {error}") from None
                    raise
            elif isinstance(statement, config_parser.BindingStatement):
                binding = _binding(statement, place, imports, False)
                named = [binding.selector, *(r.selector for r in references(binding.value))]
                if not dynamic and any(selector != MACRO for selector in named):
                    raise UserError(
                        f"{place}: the file must begin with `from __gin__ import "
                        "dynamic_registration`, then import the modules that it names"
                    )
                source.bindings.append(binding)


def _binding(statement, place: str, imports, from_command_line: bool) -> Binding:
    scope, selector, parameter, value, _ = statement
    scopes = tuple(scope.split("/")) if scope else ()
    if not parameter:
        scopes, selector, parameter = (*scopes, selector), MACRO, "value"
    return Binding(scopes, selector, parameter, value, place, imports, from_command_line)


@contextlib.contextmanager
def _one_line_errors(place: str) -> Iterator[None]:
    """Turns the errors of opening, decoding and parsing into one line that names the place."""

    def at(line: int | None) -> str:
        return f"{place}:{line}" if line and not place.startswith("--") else place

    try:
        yield
    except SyntaxError as error:
        raise UserError(f"{at(error.lineno)}: gin syntax: {' '.join(error.msg.split())}") from None
    except tokenize.TokenError as error:
        message, (line, _) = error.args
        raise UserError(f"{at(line)}: gin syntax: {message}") from None
    except UnicodeDecodeError:
        raise UserError(f"{place}: not a text file (UTF-8)") from None
    except OSError as error:
        raise UserError(f"{place}: {error.strerror}") from None
    except UserError:
        raise
    # of the value: nested too deeply, a list as a key, a number of thousands of digits
    except (RecursionError, MemoryError, TypeError, ValueError) as error:
        raise UserError(f"{place}: gin syntax: {reason(error)}") from None
