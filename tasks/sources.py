"""Where records come from: a user's files, a benchmark's files, TFDS, or the project itself."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

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


@dataclasses.dataclass(frozen=True)
class Tfds:
    """A TensorFlow dataset, as `super_glue/rte:1.0.2`.

    The first reading imports TensorFlow and leaves the records beside the token cache, so that
    later ones do not.
    """

    name: str
    splits: tuple[str, ...] = ("train", "validation", "test")

    def records(self, split: str, data_dir: str | None = None) -> Iterator[dict]:
        copy = cache.folder() / "tfds" / f"{self.name.replace(':', '-')}-{split}.jsonl"
        if not copy.is_file():
            records = "".join(json.dumps(record) + "\n" for record in self._download(split))
            cache.write(copy, records.encode())
        return TextFile(str(copy), "jsonl").records()

    def _download(self, split: str) -> Iterator[dict]:
        import tensorflow_datasets  # takes seconds

        try:
            dataset = tensorflow_datasets.load(self.name, split=split)
        except Exception as error:  # whatever went wrong with network, disk or name
            raise UserError(
                f"TFDS cannot read {self.name} ({error!s:.200}); name the folder of the official "
                "files instead"
            ) from error
        for record in tensorflow_datasets.as_numpy(dataset):
            yield {field: plain(value) for field, value in record.items()}

    def describe(self) -> dict:
        return {"tfds": self.name}


@dataclasses.dataclass(frozen=True)
class Official:
    """A benchmark's official files below `data_dir`; without a `data_dir`, the same data by TFDS.

    Attributes:
      folders: where in `data_dir` the task's files may be, "" being `data_dir` itself.
      files: for each split the files that may hold it, the first that exists being read.
      tfds: the TensorFlow dataset of the same records.
    """

    folders: tuple[str, ...]
    files: Mapping[str, tuple[TextFile, ...]]
    tfds: Tfds

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def records(self, split: str, data_dir: str | None = None) -> Iterator[dict]:
        if data_dir is None:
            return self.tfds.records(split)
        return self._find(split, pathlib.Path(data_dir)).records()

    def _find(self, split: str, data_dir: pathlib.Path) -> TextFile:
        for folder in self.folders:
            for file in self.files[split]:
                path = data_dir / folder / file.path
                if path.is_file():
                    return dataclasses.replace(file, path=str(path))
        names = " or ".join(file.path for file in self.files[split])
        places = ", ".join(str(data_dir / folder) for folder in self.folders)
        raise UserError(f"no file of split '{split}': looked for {names} in {places}")

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
