"""Where records come from: a user's files, a benchmark's files, TFDS, or the project itself."""

import dataclasses
import hashlib
import itertools
import json
import logging
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, Self

from prompt_tuning_jax import cache
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.lines import TextFile, text_of

# Folders of benchmarks' tasks, in lower case: files in one of them are no other task's.
TASK_FOLDERS = frozenset(
    "ax ax-b ax-g boolq cb cola copa mnli mnli_mismatched mrpc mrqa multirc qnli qqp record "
    "rte squad sst-2 sst2 sts-b stsb wic wnli wsc xquad xquad_en".split()
)


@dataclasses.dataclass(frozen=True)
class Files:
    """A user's own files, one a split, wherever they are."""

    files: Mapping[str, TextFile]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def records(self, split: str, data_dir: str | None = None) -> Iterator[dict]:
        return self.files[split].records()

    def origin(self, split: str, data_dir: str | None = None) -> str:
        return self.files[split].path

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
            lines = [json.dumps(record) for record in records]
            try:
                cache.write(copy, "".join(f"{line}\n" for line in lines).encode())
            except OSError as error:
                # only speed is lost
                logging.getLogger(__name__).warning("records of TFDS were not kept: %s", error)
                return map(json.loads, lines)
        return TextFile(str(copy), "jsonl").records()

    def origin(self, split: str, data_dir: str | None = None) -> str:
        folder = None if data_dir is None else self.folder(data_dir)
        return f"TFDS's {folder or self.name}"

    def folder(self, data_dir: str) -> pathlib.Path | None:
        """Where TFDS's data folder `data_dir` has the data set: its version, else the newest."""
        name, _, version = self.name.partition(":")

        def preferred(folder: pathlib.Path) -> tuple:
            return folder.name == version, [int(part) for part in re.findall("[0-9]+", folder.name)]

        infos = pathlib.Path(data_dir, name).glob("*/dataset_info.json")
        return max((info.parent for info in infos), key=preferred, default=None)

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
                builder = tfds.builder(self.name)
                if not builder.data_path.exists():
                    _reachable(builder.url_infos)
                builder.download_and_prepare()
                dataset = builder.as_dataset(split=split)
            else:
                dataset = tfds.builder_from_directory(folder).as_dataset(split=split)
            records = [
                {name: plain(record[name]) for name in self.fields or record}
                for record in tfds.as_numpy(dataset)
            ]
        except Exception as error:  # whatever went wrong with network, disk or name
            # TensorFlow says in braces and brackets which of its nodes it was
            reason = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*", "", str(error))
            remedy = "prepare it again" if folder else "name the folder of the official files"
            raise UserError(
                f"TFDS cannot read {folder or self.name} ({reason:.200}); {remedy}"
            ) from error
        return sorted(records, key=_place)

    def describe(self) -> dict:
        return {"tfds": self.name}


def _reachable(addresses: Iterable[str]) -> None:
    """OSError where no host of these is known here, at once: TFDS would try for many minutes."""
    import socket  # with urllib, a twentieth of a second that most runs need not spend
    import urllib.parse
    import urllib.request

    hosts = {urllib.parse.urlsplit(address).hostname for address in addresses}
    if urllib.request.getproxies():  # which know hosts that this machine does not
        return
    failures = []
    for host in sorted(filter(None, hosts)):
        try:
            socket.getaddrinfo(host, 443)
            return
        except OSError:
            failures.append(host)
    if failures:
        raise OSError(f"no network: {', '.join(failures)} cannot be found")


@dataclasses.dataclass(frozen=True)
class Official:
    """A benchmark's official files below `data_dir`, or the same data by TFDS.

    `data_dir` is a folder with the files or TFDS's data folder; None is TFDS's own. The examples
    are the same ones. The task's own folder in `data_dir` goes before TFDS's, and that before files
    in `data_dir` itself, which are read unless it has the name of another task's folder.

    Attributes:
      folders: the names that the task's folder in `data_dir` may have.
      files: for each split the files that may hold it, the first that exists being read.
      tfds: the TensorFlow dataset of the same records.
      flatten: makes of a file's record the records that TFDS has, None where they are the same.
      sort_by: the field by which TFDS's records are sorted, where a file has another order.
    """

    folders: tuple[str, ...]
    files: Mapping[str, tuple[RecordFile, ...]]
    tfds: Tfds
    flatten: Callable[[dict], Iterable[dict]] | None = None
    sort_by: str = ""

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def records(self, split: str, data_dir: str | None = None) -> Iterator[dict]:
        file = self._find(split, data_dir)
        if file is None:
            return self.tfds.records(split, data_dir)
        records: Iterable[dict] = file.records()
        if self.flatten is not None:
            records = itertools.chain.from_iterable(map(self.flatten, records))
        if self.sort_by:
            records = sorted(records, key=lambda record: text_of(record, self.sort_by, "its order"))
        return _numbered_once(records)

    def origin(self, split: str, data_dir: str | None = None) -> str:
        file = self._find(split, data_dir)
        return file.path if file else self.tfds.origin(split, data_dir)

    def _find(self, split: str, data_dir: str | None) -> RecordFile | None:
        """The file to read, None to have TFDS do so."""
        if data_dir is None:
            return None
        if not os.path.isdir(data_dir):
            raise UserError(f"data_dir {data_dir}: there is no such folder on this machine")
        own = [os.path.join(data_dir, folder) for folder in self.folders]
        found = self._file(split, own)
        if found or self.tfds.folder(data_dir):
            return found
        name = os.path.basename(os.path.abspath(data_dir)).lower()
        other = name in TASK_FOLDERS and name not in map(str.lower, self.folders)
        if not other:
            own.append(data_dir)
            found = self._file(split, [data_dir])
        if found is None:
            names = " or ".join(file.path for file in self.files[split])
            hint = f"; {data_dir} itself is another task's folder" if other else ""
            raise UserError(
                f"no file of split '{split}': looked for {names} in {', '.join(own)}, and for "
                f"TFDS's {self.tfds.name}{hint}"
            )
        return found

    def _file(self, split: str, folders: Iterable[str]) -> RecordFile | None:
        paths = (
            file.at(os.path.join(folder, file.path))
            for folder in folders
            for file in self.files[split]
        )
        return next((file for file in paths if os.path.isfile(file.path)), None)

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

    def origin(self, split: str, data_dir: str | None = None) -> str:
        return self.name

    def describe(self) -> dict:
        return {"generated": self.name}


def _numbered_once(records: Iterable[dict]) -> Iterator[dict]:
    """The records; UserError where one has another's number."""
    seen: set[str] = set()
    for record in records:
        idx = record.get("idx")
        if isinstance(idx, dict):
            # ReCoRD's queries are numbered through; its leaderboard file names no passage.
            idx = idx.get("query", tuple(idx.values()))
        if idx is not None and str(idx) in seen:
            raise UserError(f"{record['_at']}: idx {record['idx']} is there already")
        seen.add(str(idx))
        yield record


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
