"""What a command line says: gin files, search paths and overrides. The flags are T5X's.

    --gin_file=PATH           a gin file; later ones win (repeatable)
    --gin_search_paths=A,B    more folders in which gin files and their includes are looked up
    --gin.NAME=VALUE          sets a macro or `module.function.parameter` (repeatable)
    --gin_bindings=NAME=VALUE the same

Commands other than `train` also take plain flags (`--artifact=PATH`), each of which sets one macro
to a string, and one of them without its name where the command says so (`show_task NAME`).
`--flag value` means `--flag=value` everywhere; of a switch (`--multiprocess_gpu`), True.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gin import config_parser

from prompt_tuning_jax.errors import UserError

EVALUATE_FLAGS = {
    "artifact": "ARTIFACT",
    "backbone": "INITIAL_CHECKPOINT_PATH",
    "vocabulary": "VOCABULARY_FILE",
    "task": "MIXTURE_OR_TASK_NAME",
    "split": "SPLIT",
    "data_dir": "DATA_DIR",
    "output": "OUTPUT",
    "leaderboard": "LEADERBOARD",
}
INFER_FLAGS = {
    "artifact": "ARTIFACT",
    "backbone": "INITIAL_CHECKPOINT_PATH",
    "vocabulary": "VOCABULARY_FILE",
    "input": "INPUT",
    "output": "OUTPUT",
}
CONVERT_FLAGS = {
    "artifact": "ARTIFACT",
    "backbone": "INITIAL_CHECKPOINT_PATH",
    "vocabulary": "VOCABULARY_FILE",
    "output": "OUTPUT",
    "format": "FORMAT",
    "dtype": "DTYPE",
}
SHOW_TASK_FLAGS = {
    "task": "MIXTURE_OR_TASK_NAME",
    "data_dir": "DATA_DIR",
    "split": "SPLIT",
    "vocabulary": "VOCABULARY_FILE",
    "backbone": "INITIAL_CHECKPOINT_PATH",
}
TRAIN_VOCABULARY_FLAGS = {
    "files": "TRAIN_FILES",
    "tfds": "TFDS_NAME",
    "data_dir": "DATA_DIR",
    "output": "OUTPUT",
}
# flags that need no value
_SWITCHES = ("multiprocess_gpu",)
_GIN_FLAGS = ("gin_file", "gin_search_paths", "gin_bindings")
# A path, a pattern of paths or a word that the user need not quote: letters first, or a path's
# usual beginning.
_BARE = re.compile(r"[A-Za-z_./~][\w./~:+@=*?-]*")


@dataclass(frozen=True)
class Override:
    """One setting of the command line: `flag` as it was typed, `text` as a gin statement."""

    flag: str
    text: str


@dataclass
class Arguments:
    """A parsed command line."""

    gin_files: list[str] = field(default_factory=list)
    search_paths: list[str] = field(default_factory=list)
    overrides: list[Override] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    help: bool = False


def parse(
    argv: Sequence[str],
    flags: Mapping[str, str],
    positional: str = "",
    options: Sequence[str] = (),
) -> Arguments:
    """Reads `argv` (without the program's name).

    `flags` maps the command's plain flags to the macros that they set; one word on its own is the
    value of the flag `positional`; `options` are plain flags that set none. Raises UserError for an
    unknown flag, a flag without its value, a value that is neither gin's syntax nor a bare word,
    and both a word and the flag for it.
    """
    arguments = Arguments()
    rest = list(argv)
    alone = ""
    while rest:
        word = rest.pop(0)
        if word in ("-h", "--help"):
            arguments.help = True
            continue
        if positional and not alone and not word.startswith("-"):
            alone, word = word, f"--{positional}={word}"
        if not word.startswith("--"):
            raise UserError(f"unexpected argument {word!r}: options look like --gin_file=PATH")
        name, equals, value = word[2:].partition("=")
        if not (name in (*_GIN_FLAGS, *flags, *options) or name.startswith("gin.")):
            plain = (*_GIN_FLAGS, *flags, *options)
            known = ["--help", *(f"--{flag}" for flag in plain), "--gin.NAME"]
            hint = nearest(f"--{name}", known) or "--help lists them"
            raise UserError(f"unknown flag --{name}; {hint}")
        if not equals and name in _SWITCHES:
            equals, value = "=", "True"
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"--{name} needs a value: --{name}=…")
            value = rest.pop(0)
        if name == "gin_file":
            arguments.gin_files.append(value)
        elif name == "gin_search_paths":
            arguments.search_paths += [path for path in value.split(",") if path]
        elif name == "gin_bindings":
            key, equals, value = value.partition("=")
            if not equals:
                raise UserError(f"--gin_bindings={key}: write --gin_bindings='NAME = VALUE'")
            arguments.overrides.append(_override(key.strip(), value.strip()))
        elif name.startswith("gin."):
            arguments.overrides.append(_override(name[len("gin.") :], value))
        elif name in options:
            arguments.options[name] = value
        else:
            quoted = repr(os.path.expanduser(value))
            arguments.overrides.append(Override(f"--{name}", f"{flags[name]} = {quoted}"))
    given = [override.flag for override in arguments.overrides]
    if alone and given.count(f"--{positional}") > 1:
        raise UserError(f"{alone} and --{positional}=… are there: give one of them")
    return arguments


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean X?` with the closest of `known`, or an empty string when none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {matches[0]}?" if matches else ""


def _override(name: str, value: str) -> Override:
    flag = f"--gin.{name}"
    if not _is_gin_value(value):
        quoted = f"{flag}='\"{value}\"'"
        for literal in ("True", "False", "None"):
            if value.lower() == literal.lower():
                raise UserError(f"{flag}={value}: did you mean {literal}? As a text: {quoted}")
        if not _BARE.fullmatch(value):
            raise UserError(f"{flag}={value}: not a gin value; a string is written {quoted}")
        value = repr(os.path.expanduser(value))
    return Override(flag, f"{name} = {value}")


class _AnyName(config_parser.ParserDelegate):
    """Accepts every reference and macro: only the syntax counts here."""

    def configurable_reference(self, scoped_configurable_name, evaluate):
        return None

    def macro(self, macro_name):
        return None


def _is_gin_value(text: str) -> bool:
    try:
        # A whole statement, so that words left over behind the value are an error too.
        return len(list(config_parser.ConfigParser(f"NAME = {text}\n", _AnyName()))) == 1
    except Exception:  # the tokenizer has errors of its own, other ones in each Python
        return False
