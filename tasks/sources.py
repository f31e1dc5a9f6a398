"""Where records come from: a user's files, a benchmark's files, TFDS, or the project itself."""

import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, Self

from prompt_tuning_jax import cache
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.lines import TextFile


@dataclasses.dataclass(frozen=True)
class Files:
    """A user's own files, one a split, wherever they are."""

    files: Mapping[str, TextFile]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def records(self, split: str, data_dir: str | None = None) -> Iterator[dict]:
        return self.files[split].records()

    def describe(self) -> dict:
        return {split: file.path for split, file in self.files.items()}


class RecordFile(Protocol):
    """A file of records: a `TextFile` of lines, or a `JsonFile` as a whole."""

    @property
    def path(self) -> str:
        """The file's path."""

    def at(self, path: str) -> Self:
        """The same with another path."""

    def records(self) -> Iterator[dict]:
        """Yields each record in order with its place, "_at"."""


@dataclasses.dataclass(frozen=True)
class Tfds:
    """A TensorFlow dataset, as `super_glue/rte:1.0.2`.

    The first reading imports TensorFlow and leaves the records beside the token cache, so that
    later ones do not. TFDS shuffles what it stores: the records are put in the order of their
    "idx" or "id".

    Attributes:
      name: config and version included.
      splits: the splits that there may be.
      renamed: splits that TFDS calls otherwise, ours -> its name.
      fields: the fields to read, None for all.
    """

    name: str
    splits: tuple[str, ...] = ("train", "validation", "test")
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fields: tuple[str, ...] | None = None

    def records(self, split: str, data_dir: str | None = None) -> Iterator[dict]:
        """As `Source.records`; `data_dir` is TFDS's data folder, None for TFDS's default.

        Raises:
          UserError: TFDS cannot read it, or `data_dir` has no such data set.
        """
        folder = None if data_dir is None else self.folder(data_dir)
        if data_dir is not None and folder is None:
            raise UserError(f"{data_dir} has no folder {self.name} of TFDS")
        digest = hashlib.sha256(self._state(folder).encode()).hexdigest()[:16]
        copy = cache.folder() / "tfds" / f"{self.name.replace(':', '-')}-{split}-{digest}.jsonl"
        if not copy.is_file():
            records = self._read(self.renamed.get(split, split), folder)
            cache.write(copy, "".join(json.dumps(record) + "\n" for record in records).encode())
        return TextFile(str(copy), "jsonl").records()

    def folder(self, data_dir: str) -> pathlib.Path | None:
        """Where TFDS's data folder `data_dir` has the data set: its version, else another."""
        name, _, version = self.name.partition(":")
        infos = pathlib.Path(data_dir, name).glob("*/dataset_info.json")
        folders = [info.parent for info in infos]
        return max(folders, key=lambda folder: (folder.name == version, folder.name), default=None)

    def _state(self, folder: pathlib.Path | None) -> str:
        """What tells a data folder from another, or from itself before it was written anew."""
        if folder is None:
            return os.environ.get("TFDS_DATA_DIR", "")
        stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
        sizes = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        return f"{folder.resolve()} {sizes}"

    def _read(self, split: str, folder: pathlib.Path | None) -> list[dict]:
        import tensorflow_datasets as tfds  # takes seconds

        try:
            if folder is None:
                dataset = tfds.load(self.name, split=split)
            else:
                dataset = tfds.builder_from_directory(folder).as_dataset(split=split)
            records = [
                {name: plain(record[name]) for name in self.fields or record}
                for record in tfds.as_numpy(dataset)
            ]
        except Exception as error:  # whatever went wrong with network, disk or name
            raise UserError(
                f"TFDS cannot read {self.name} ({error!s:.200}); name the folder of the official "
                "files instead"
            ) from error
        return sorted(records, key=_place)

    def describe(self) -> dict:
        return {"tfds": self.name}


@dataclasses.dataclass(frozen=True)
class Official:
    """A benchmark's official files below `data_dir`, or the same data by TFDS.

    `data_dir` is a folder with the files or TFDS's data folder; None is TFDS's own. The examples
    are the same ones.

    Attributes:
      folders: where in `data_dir` the task's files may be, "" being `data_dir` itself.
      files: for each split the files that may hold it, the first that exists being read.
      tfds: the TensorFlow dataset of the same records.
      flatten: makes of a file's record the records that TFDS has, None where they are the same.
    """

    folders: tuple[str, ...]
    files: Mapping[str, tuple[RecordFile, ...]]
    tfds: Tfds
    flatten: Callable[[dict], Iterable[dict]] | None = None

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def records(self, split: str, data_dir: str | None = None) -> Iterator[dict]:
        if data_dir is None:
            return self.tfds.records(split)
        file = self._find(split, pathlib.Path(data_dir))
        if file is None:
            return self.tfds.records(split, data_dir)
        if self.flatten is None:
            return file.records()
        return itertools.chain.from_iterable(map(self.flatten, file.records()))

    def _find(self, split: str, data_dir: pathlib.Path) -> RecordFile | None:
        """The file to read, None to have TFDS read `data_dir`."""
        for folder in self.folders:
            for file in self.files[split]:
                path = data_dir / folder / file.path
                if path.is_file():
                    return file.at(str(path))
        if self.tfds.folder(str(data_dir)):
            return None
        names = " or ".join(file.path for file in self.files[split])
        places = ", ".join(str(data_dir / folder) for folder in self.folders)
        raise UserError(
            f"no file of split '{split}': looked for {names} in {places}, and for TFDS's "
            f"{self.tfds.name}"
        )

    def describe(self) -> dict:
        return {"official": self.tfds.name}


@dataclasses.dataclass(frozen=True)
class Generated:
    """Records that the project makes up, the same at every call.

    Attributes:
      name: what `make` is called in a run's identity.
      make: split -> its records.
      splits: the splits that `make` knows.
    """

    name: str
    make: Callable[[str], Iterable[dict]]
    splits: tuple[str, ...] = ("train", "validation")

    def records(self, split: str, data_dir: str | None = None) -> Iterator[dict]:
        for number, record in enumerate(self.make(split)):
            yield {**record, "_at": f"{self.name}/{split}:{number}"}

    def describe(self) -> dict:
        return {"generated": self.name}


def _place(record: dict) -> tuple:
    """What to sort by: a record's number, which is its place in the official files, or its name."""
    idx = record.get("idx", record.get("id", record.get("qid")))
    if not isinstance(idx, dict):
        return (idx,)
    parts = ("paragraph", "passage", "question", "query", "answer")
    return tuple(idx[part] for part in parts if part in idx)


def plain(value: Any) -> Any:
    """A value of TFDS's numpy world as JSON has it: bytes as text, arrays as lists."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value
