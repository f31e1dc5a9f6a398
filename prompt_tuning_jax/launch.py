"""How every command starts: flags, gin files, their errors, then the command's function.

    if __name__ == "__main__":
        from prompt_tuning_jax.launch import main

        raise SystemExit(main("train"))

Put that before the module's other imports: a missing file is reported before JAX is loaded. Bad
input is one line `error: …` on standard error and exit status 2; anything else that fails keeps its
traceback.
"""

from __future__ import annotations

import copy
import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gin

from prompt_tuning_jax import (
    cache,
    command_line,
    gin_checks,
    gin_files,
    host_memory,
    hosts,
    locks,
    preemption,
)
from prompt_tuning_jax.errors import UserError, reason
from prompt_tuning_jax.errors import line as one_line


@dataclass(frozen=True)
class Command:
    """A module of the same name, its function of the same name, and what it takes."""

    summary: str
    gin_file: str = ""  # read when no --gin_file is given; empty: one must be given
    flags: Mapping[str, str] = field(default_factory=dict)  # plain flag -> macro
    positional: str = ""  # the flag whose value may stand without its name
    describes: str = ""  # the command whose configuration is looked at and not run
    joins: bool = False  # whether several processes may be one job of it (`hosts`)
    options: tuple[str, ...] = ()  # plain flags that are arguments of the function itself


# a disk, or a user's share of it, that is full; gin's errors keep the text of one alone
FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

COMMANDS = {
    "train": Command("Trains what a method tunes on a frozen T5.", flags=hosts.FLAGS, joins=True),
    "evaluate": Command(
        "Evaluates an artifact on a task; the last line of output is one JSON object.",
        "runs/evaluate.gin",
        command_line.EVALUATE_FLAGS | hosts.FLAGS,
        joins=True,
    ),
    "infer": Command(
        "Predicts for lines of text or JSONL, from a file or standard input.",
        "runs/infer.gin",
        command_line.INFER_FLAGS | hosts.FLAGS,
        joins=True,
    ),
    "convert": Command(
        "Writes a backbone of any format, or a tuned model, as a folder of ours or Hugging Face's.",
        "runs/convert.gin",
        command_line.CONVERT_FLAGS,
    ),
    "show_task": Command(
        "Prints a task's splits, label words, metrics, examples, tokens, and how much is cut.",
        "runs/show_task.gin",
        command_line.SHOW_TASK_FLAGS,
        positional="task",
    ),
    "train_vocabulary": Command(
        "Trains a SentencePiece vocabulary on a sample of a corpus.",
        "runs/train_vocabulary.gin",
        command_line.TRAIN_VOCABULARY_FLAGS,
    ),
    "describe": Command(
        "Prints what a training run would train, hold and cost, as one JSON object.",
        describes="train",
        options=("topology",),
    ),
}


def main(
    command: str, argv: Sequence[str] | None = None, package: str = "prompt_tuning_jax"
) -> int:
    """Runs `package.command.command` as the command line `argv` configures it.

    Returns the exit status: 0, 2 after bad input or on a full disk, 3 where another process of the
    job was lost, 130 after an interrupt, 141 after a closed pipe, 143 where SIGTERM ended a
    training run, which goes on when it is started again. (Before its first step and in other
    commands SIGTERM ends the process, as always.)
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        status, line = _run(command, argv, package), ""
    except UserError as error:
        status, line = 2, f"error: {_said(error)}"
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        status, line = 2, f"error: {_said(error)}"
    except BrokenPipeError:  # the reader of standard output has left: `infer … | head`
        _drop_output()
        status, line = 141, ""
    except OSError as error:
        text = _said(error)
        if not text.startswith(FULL):
            status, line = _unforeseen(error)
        else:
            if text in FULL:  # what names no file is standard output
                _drop_output()
                text += " for standard output"
            status, line = 2, f"error: {text}: make room, then start the same command again"
    except preemption.Stopped as stopped:
        status, line = preemption.STATUS, _said(stopped)
    except KeyboardInterrupt:
        status, line = 130, "interrupted"
    except Exception as error:
        status, line = _unforeseen(error)
    finally:
        locks.give_back()
    return hosts.end(status, line, argv if COMMANDS[command].joins else None)


def _unforeseen(error: Exception) -> tuple[int, str]:
    """Status and line of what only the others of several processes are told in one line."""
    if not hosts.several():
        raise error
    if line := hosts.lost(error):
        return hosts.LOST, line
    traceback.print_exc(file=sys.__stderr__)
    return 1, f"error: {type(error).__name__}: {reason(error)}"


def _drop_output() -> None:
    """What is still in buffers cannot be written: Python shall not try again as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def operative_config() -> str:
    """The gin text of everything that was called so far, defaults included: a readable gin file."""
    return gin.operative_config_str()


def bound_arguments(function: Callable, names: Container[str] | None = None) -> dict[str, Any]:
    """The keyword arguments that gin would pass to `function`: macros read, references called.

    Only those in `names`, when given: others are not built. Arguments that still wait for a value
    (`%gin.REQUIRED`, at any depth) are left out.
    """
    bindings = gin.get_bindings(function, resolve_references=False)
    return {
        name: copy.deepcopy(value)
        for name, value in bindings.items()
        if (names is None or name in names) and not _waits(value)
    }


def _run(name: str, argv: Sequence[str], package: str) -> int:
    command = COMMANDS[name]
    arguments = command_line.parse(argv, command.flags, command.positional, command.options)
    files = arguments.gin_files or ([command.gin_file] if command.gin_file else [])
    if arguments.help:
        print(_usage(name, command, files, arguments))
        return 0
    if not files:
        raise UserError(f"{name} needs --gin_file=PATH (--help lists the packaged ones)")
    places = gin_files.search_places(arguments.search_paths, files)
    source = gin_files.read(files, arguments.overrides, places)
    gin_checks.check_macros(source.bindings)

    host_memory.keep_freed()
    host_memory.collect_rarely()
    function = _function(package, name)  # JAX is loaded here
    root = command.describes or name
    runs = _function(package, root)
    cache.keep_compiled()
    host_memory.give_back_compilers()
    configuration = gin_checks.Configuration(source)
    joins = COMMANDS[root].joins
    roots = {f"{root}.{root}": runs} | ({"hosts.join": hosts.join} if joins else {})
    reached = configuration.reach(roots)
    configuration.check_overrides(reached)
    configuration.check_types(reached)
    if not command.describes:
        configuration.check_values(reached, {macro: flag for flag, macro in command.flags.items()})
    _parse(files, places, source, arguments.overrides)
    configured = _configurable(runs)
    if command.joins:
        _configurable(hosts.join)()
    if command.describes:
        function(**arguments.options)
    else:
        configured()
    sys.stdout.flush()
    return 0


def _function(package: str, name: str) -> Callable:
    return getattr(importlib.import_module(f"{package}.{name}"), name)


def _parse(files, places, source: gin_files.Source, overrides) -> None:
    """Hands the checked configuration to gin."""
    gin.clear_config()
    for place in places:
        gin.add_config_file_search_path(place)
    # Overrides see what any file imports: gin gives each text a table of names of its own.
    imports = ["from __gin__ import dynamic_registration"]
    imports += dict.fromkeys(statement.format() for statement in source.imports)
    # One of gin's readers takes a file's folder for a package, and fails where the working
    # directory has a folder of that name: "runs".
    del gin.config._FILE_READERS[1:]
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)  # gin logs an error for every place that lacks an include
    try:
        for name in files:
            gin.parse_config_file(str(gin_files.find(name, places)))
        gin.parse_config([*imports, *(override.text for override in overrides)])
    except (AttributeError, NameError, SyntaxError, ValueError) as error:
        raise UserError(str(error)) from None
    finally:
        logging.disable(level)


def _configurable(function: Callable) -> Callable:
    try:
        return gin.get_configurable(function)
    except ValueError:  # no file binds it
        return gin.external_configurable(function)


def _waits(value: Any) -> bool:
    """Whether resolving `value` would meet `gin.REQUIRED`."""
    for reference in gin.config.iterate_references(value):
        if reference.evaluate:
            if reference.configurable.selector == "gin.constant":
                if reference.scoped_configurable_fn() is gin.REQUIRED:
                    return True
                continue
            with gin.config_scope(reference.scopes or gin.current_scope()):
                inner = gin.get_bindings(reference.configurable.wrapped, resolve_references=False)
                if any(_waits(item) for item in inner.values()):
                    return True
    return False


def _said(error: Exception) -> str:
    # gin appends to the message which configurable was being called; the user wrote no code.
    text = str(error).split("\n  In call to configurable")[0]
    if isinstance(error, OSError) and text.startswith("[Errno"):
        text = text.partition("] ")[2]
    return one_line(text)


def _usage(name: str, command: Command, files, arguments: command_line.Arguments) -> str:
    """Help; with gin files, the macros that they define and their values."""
    first = command.positional.upper() or "--gin_file=PATH"
    lines = [
        f"python -m prompt_tuning_jax.{name} {first} [--gin.NAME=VALUE …]",
        "",
        command.summary,
        "",
        "  --gin_file=PATH            a gin file; later ones win (repeatable)"
        + (f"; default {command.gin_file}" if command.gin_file else ""),
        "  --gin_search_paths=A,B     more folders to look gin files up in",
        "  --gin.NAME=VALUE           sets a macro, or module.function.parameter (repeatable)",
        "  --gin_bindings=NAME=VALUE  the same",
        *(f"  --{flag}=…".ljust(29) + f"sets {macro}" for flag, macro in command.flags.items()),
        *(f"  --{option}=…" for option in command.options),
        "",
        "A VALUE is a Python literal, %MACRO or @module.function(); a path or a plain word needs",
        "no quotes. What nothing reads is an error.",
    ]
    if files:
        places = gin_files.search_places(arguments.search_paths, files)
        source = gin_files.read(files, [], places)
        lines += ["", f"NAMEs in {', '.join(files)}:", *_listed(source)]
    else:
        folder = gin_files.packaged()
        found = sorted(str(path.relative_to(folder)) for path in folder.glob("[mr]*/*.gin"))
        lines += ["", "Packaged (--help with one of them lists its NAMEs):"]
        lines += [f"  --gin_file={path}" for path in found]
    return "\n".join(lines)


def _listed(source: gin_files.Source) -> Iterator[str]:
    for macro, binding in sorted(gin_checks.macros(source.bindings).items()):
        value = "(must be given)" if binding.value is gin.REQUIRED else _shown(binding.value)
        yield f"  {macro} = {value}".ljust(52) + f"  {binding.place}"


def _shown(value: Any) -> str:
    if isinstance(value, gin_files.Reference):
        if value.selector == gin_files.MACRO:
            return "%" + "/".join(value.scopes)
        return f"@{'/'.join((*value.scopes, value.selector))}{'()' if value.evaluate else ''}"
    return repr(value)
