"""Records inside records: files that are one JSON value, and checked ways into nested fields.

What is found inside carries its place as "_at", as records do: "dev.json, data[3], qas[0]".
"""

import dataclasses
import json
from collections.abc import Iterator

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.lines import checked_text, parsed, reading


@dataclasses.dataclass(frozen=True)
class JsonFile:
    """A file of one JSON object, one of whose fields lists the records.

    Attributes:
      path: the file, as `lines.reading` opens it.
      field: the field with the records.
    """

    path: str
    field: str

    def at(self, path: str) -> "JsonFile":
        """The same with another path."""
        return dataclasses.replace(self, path=path)

    def records(self) -> Iterator[dict]:
        """Yields each record in order with its place.

        Raises:
          UserError: the file cannot be read, is no JSON object, or has no such list of objects.
        """
        with reading(self.path) as file:
            content = parsed(file.read(), self.path)
        if not isinstance(content, dict):
            raise UserError(f"{self.path}: no JSON object with a field '{self.field}'")
        yield from each({**content, "_at": self.path}, self.field)


def inside(record: dict, field: str) -> dict:
    """The object that a field holds.

    Raises:
      UserError: there is none.
    """
    value = record.get(field)
    if not isinstance(value, dict):
        raise UserError(f"{record['_at']}: no object '{field}'; it has {_fields(record)}")
    return {**value, "_at": f"{record['_at']}, {field}"}


def each(record: dict, field: str) -> Iterator[dict]:
    """Yields the objects of the list that a field holds.

    Raises:
      UserError: there is no list, or something in it is no object.
    """
    for number, value in enumerate(list_of(record, field)):
        place = f"{field}[{number}]"
        if not isinstance(value, dict):
            raise UserError(f"{record['_at']}, {place}: no object but {json.dumps(value):.40}")
        yield {**value, "_at": f"{record['_at']}, {place}"}


def list_of(record: dict, field: str) -> list:
    """The list that a field holds.

    Raises:
      UserError: there is none.
    """
    value = record.get(field)
    if not isinstance(value, list):
        raise UserError(f"{record['_at']}: no list '{field}'; it has {_fields(record)}")
    return value


def texts_of(record: dict, field: str) -> list[str]:
    """The texts of the list that a field holds.

    Raises:
      UserError: there is no list, or something in it is no text or has half a character.
    """
    return [
        checked_text(text, f"{record['_at']}, {field}[{number}]")
        for number, text in enumerate(list_of(record, field))
    ]


def _fields(record: dict) -> str:
    return ", ".join(name for name in record if name != "_at") or "nothing"
