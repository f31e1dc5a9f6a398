"""Records out of text files: JSONL, TSV, CSV and `label text` lines, and where each was."""

import contextlib
import csv
import dataclasses
import gzip
import json
import pathlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

from prompt_tuning_jax.errors import UserError

FORMATS = ("jsonl", "tsv", "csv", "label_text")
_WHOLE = re.compile("[0-9]{1,18}")
_ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that are no UTF-8, as "surrogateescape" reads them


@dataclasses.dataclass(frozen=True)
class TextFile:
    """A file of records.

    Attributes:
      path: the file, UTF-8 with or without a byte order mark, gzipped where it ends in ".gz".
      format: "jsonl" (one JSON object a line), "tsv" (tabs alone separate, quotes are text, as in
        GLUE), "csv" (quotes as spreadsheets write them), "label_text" (a word, a space, a text);
        None to go by the file's extension.
      fields: the columns' names where the file's first line does not give them.
      skip_short: leave out the rows that lack a column, as TFDS does with GLUE's (QQP has a few);
        "idx" is then the row's number in the file, from 0.
    """

    path: str
    format: str | None = None
    fields: tuple[str, ...] | None = None
    skip_short: bool = False

    def records(self) -> Iterator[dict]:
        """Yields each record in order, its fields and its place, "_at": "file:line".

        Raises:
          UserError: the file is missing or no UTF-8, or a line is not of the format.
        """
        parse = {
            "jsonl": self._jsonl,
            "tsv": self._tsv,
            "csv": self._csv,
            "label_text": self._label_text,
        }[self.known_format()]
        with reading(self.path) as file:
            for line, record in parse(file):
                yield {**record, "_at": f"{self.path}:{line}"}

    def at(self, path: str) -> "TextFile":
        """The same with another path."""
        return dataclasses.replace(self, path=path)

    def known_format(self) -> str:
        """The format, by the extension where none is named.

        Raises:
          UserError: the format is none that there is, or the extension tells none.
        """
        suffix = pathlib.Path(self.path.removesuffix(".gz")).suffix
        format = self.format or {".json": "jsonl"}.get(suffix, suffix.removeprefix("."))
        if format not in FORMATS:
            raise UserError(
                f"data file {self.path}: unknown format '{format}'; there are {', '.join(FORMATS)}"
            )
        return format

    def _jsonl(self, file: TextIO) -> Iterator[tuple[int, dict]]:
        for line, text in _lines(file):
            record = parsed(text, f"{self.path}:{line}")
            if not isinstance(record, dict):
                raise UserError(f"{self.path}:{line}: no JSON object with fields, but {text[:40]}")
            yield line, record

    def _tsv(self, file: TextIO) -> Iterator[tuple[int, dict]]:
        return self._columns((line, text.split("\t")) for line, text in _lines(file))

    def _csv(self, file: TextIO) -> Iterator[tuple[int, dict]]:
        return self._columns(self._csv_rows(file))

    def _csv_rows(self, file: TextIO) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(file, strict=True)
        try:
            for row in reader:
                if row:
                    yield reader.line_num, row
        except csv.Error as error:
            raise UserError(f"{self.path}:{reader.line_num}: no CSV ({error})") from error

    def _columns(self, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, dict]]:
        names: Iterable[str] = self.fields or next(rows, (0, []))[1]
        names = tuple(names)
        if len(set(names)) < len(names):
            raise UserError(f"{self.path}: two columns of the same name in {', '.join(names)}")
        for number, (line, row) in enumerate(rows):
            if len(row) > len(names):
                raise UserError(
                    f"{self.path}:{line}: {len(row)} columns, but {len(names)} names for them: "
                    f"{', '.join(names)}"
                )
            # A short row lacks its last fields, as whoever needs them says.
            record = dict(zip(names, row, strict=False))
            if not self.skip_short:
                yield line, record
            elif len(row) == len(names):
                yield line, {**record, "idx": number}

    def _label_text(self, file: TextIO) -> Iterator[tuple[int, dict]]:
        names = self.fields or ("label", "text")
        for line, text in _lines(file):
            parts = text.split(" ", 1)
            if len(parts) < 2:
                raise UserError(f"{self.path}:{line}: no text after the label '{text[:40]}'")
            yield line, dict(zip(names, parts, strict=True))


@contextlib.contextmanager
def reading(path: str) -> Iterator[TextIO]:
    """A text file to read, UTF-8 with or without a byte order mark, gzipped if it ends in ".gz".

    Raises:
      UserError: it is missing, damaged or no UTF-8, also where that shows only as it is read.
    """
    opened = gzip.open if path.endswith(".gz") else open
    try:
        # Only "\n" ends a line: a text may hold a lone "\r". csv wants to see them all.
        with opened(path, "rt", encoding="utf-8-sig", newline="\n") as file:
            yield cast(TextIO, file)
    except (EOFError, zlib.error) as error:
        raise UserError(f"data file {path}: {error}") from error
    except OSError as error:
        raise UserError(f"data file {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        place = path
        # a damaged archive may end here otherwise
        with (
            contextlib.suppress(OSError, EOFError, zlib.error, StopIteration),
            opened(path, "rt", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
        ):
            place += f":{next(n for n, text in enumerate(file, 1) if _ESCAPED.search(text))}"
        raise UserError(f"data file {place}: not UTF-8 text ({error.reason})") from error


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(file, start=1):
        text = text.rstrip("\r\n")
        if text.strip():
            yield number, text


def parsed(text: str, place: str) -> Any:
    """The value that a JSON text stands for.

    Raises:
      UserError: it is no JSON, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: no JSON ({error})") from error


def text_of(record: dict, field: str, needed_by: str) -> str:
    """A field's value, a text.

    Raises:
      UserError: the record has no such field, or it is no text or has half a character.
    """
    return checked_text(_value_of(record, field, needed_by), f"{record['_at']}: field '{field}'")


def checked_text(value: Any, place: str) -> str:
    """The value where it is a text.

    Raises:
      UserError: it is something else, or has half a character, which JSON can write: "\\ud800".
    """
    if not isinstance(value, str):
        raise UserError(f"{place} is no text but {json.dumps(value):.40}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = json.dumps(value[error.start])
        raise UserError(f"{place} has half a character, {half}") from error
    return value


def number_of(record: dict, field: str, needed_by: str) -> int:
    """A field's value, a whole number; AX-b's file writes its numbers as texts.

    Raises:
      UserError: the record has no such field, or it is no whole number.
    """
    value = _value_of(record, field, needed_by)
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if type(value) is not int:  # true is an int too
        place = f"{record['_at']}: field '{field}'"
        raise UserError(f"{place} is no whole number but {json.dumps(value):.40}")
    return value


def _value_of(record: dict, field: str, needed_by: str) -> Any:
    value = record.get(field)
    if value is None:
        known = ", ".join(name for name in record if name != "_at")
        raise UserError(
            f"{record['_at']}: no field '{field}', which {needed_by} needs; it has {known}"
        )
    return value
