"""Corpora to pre-train on, read as a stream: text files, JSON lines, a TensorFlow dataset.

A gin file says, for instance:

    MIXTURE_OR_TASK_NAME = @corpora.Corpus()
    corpora.Corpus:
      name = 'novels'
      texts = @corpora.Texts()
      objective = @objectives.SpanCorruption()
    corpora.Texts:
      train = 'novels/*.txt'
      validation = 'novels/A*.txt'
      document = 'file'
"""

import abc
import contextlib
import dataclasses
import functools
import glob
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.lines import TextFile, reading, text_of
from prompt_tuning_jax.tasks.sources import Tfds
from prompt_tuning_jax.tasks.task import Example, Task

DOCUMENTS = ("line", "paragraph", "file")
# Characters of a document at most, so that no text is ever whole in memory.
LONGEST = 1 << 16
# What tells a file from itself before it was changed: so many pieces of so many bytes.
_SAMPLES, _SAMPLE = 16, 4096


class Shard(Protocol):
    """A part of a corpus, read from its beginning."""

    @property
    def name(self) -> str:
        """What errors call it."""

    def texts(self) -> Iterator[str]:
        """Its documents in order, none blank and none longer than `LONGEST` characters."""

    def state(self) -> str:
        """What tells its content from another, found without reading all of it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream(abc.ABC):
    """A task's source that is too large to be held in memory: shards of documents.

    Attributes:
      together: documents that are joined before they are cut into rows.
      shuffled: rows among which the order is random; the shards' order is random too.
    """

    together: int = 128
    shuffled: int = 8192

    @property
    @abc.abstractmethod
    def splits(self) -> tuple[str, ...]:
        """As `Source.splits`."""

    @abc.abstractmethod
    def shards(self, split: str, data_dir: str | None = None) -> Sequence[Shard]:
        """The split's shards, always in one order."""

    @abc.abstractmethod
    def origin(self, split: str, data_dir: str | None = None) -> str:
        """As `Source.origin`."""

    @abc.abstractmethod
    def describe(self) -> dict:
        """As `Source.describe`."""

    def records(self, split: str, data_dir: str | None = None) -> Iterator[dict]:
        """As `Source.records`, {"text", "_at"}."""
        for shard in self.shards(split, data_dir):
            for text in shard.texts():
                yield {"text": text, "_at": shard.name}

    def _numbers(self) -> dict:
        return {"together": self.together, "shuffled": self.shuffled}


def Texts(
    train: str | Sequence[str] | None = None,
    validation: str | Sequence[str] | None = None,
    tfds: str | None = None,
    document: str = "paragraph",
    field: str = "text",
    together: int = 128,
    shuffled: int = 8192,
) -> Stream:
    """The texts of files or of a TensorFlow dataset.

    Args:
      train: the files of this split, a path in which *, ? and ** stand for what they do in a
        shell, or a list of such. JSON lines where they end in .jsonl or .json, text otherwise, both
        also gzipped (.gz).
      validation: likewise; a file that is in both is held out of training.
      tfds: instead of files a TensorFlow dataset that is prepared, "c4/en:3.1.0", in DATA_DIR or
        in TFDS's own data folder.
      document: what of a text file is a document: a "line", a "paragraph" (blank lines separate)
        or the "file".
      field: the text's name in JSON lines and in the TensorFlow dataset.
      together: documents that are joined before they are cut into rows, 128 in T5.
      shuffled: rows among which the order is random.

    Raises:
      UserError: neither files nor a dataset, or both, or an unknown `document`.
    """
    if document not in DOCUMENTS:
        raise UserError(f"corpus: document = {document!r} is none of {', '.join(DOCUMENTS)}")
    for setting, value in (("together", together), ("shuffled", shuffled)):
        if value < 1:
            raise UserError(f"corpus: {setting} = {value}, at least 1")
    given = {"train": _listed(train), "validation": _listed(validation)}
    files = {split: patterns for split, patterns in given.items() if patterns}
    if bool(files) == (tfds is not None):
        raise UserError(
            "corpus: give its files (TRAIN_FILES) or a TensorFlow dataset (TFDS_NAME), the one or "
            "the other"
        )
    if tfds is not None:
        return CorpusTfds(tfds, field, together=together, shuffled=shuffled)
    return CorpusFiles(files, document, field, together=together, shuffled=shuffled)


def Corpus(name: str, texts: Stream, objective: Any) -> Task:
    """A pre-training task.

    Args:
      name: what results call it.
      texts: what to train on, `Texts` or a user's own `Stream`.
      objective: of tasks/objectives.py, or a user's own with the same methods.

    Raises:
      UserError: an objective that is none.
    """
    if isinstance(objective, type) or not hasattr(objective, "window"):
        raise UserError(
            f"corpus {name}: objective = {objective!r}; write @objectives.SpanCorruption() or "
            "@objectives.PrefixLM()"
        )
    return Task(
        name=name,
        source=texts,
        format=_document,
        selection=("teacher_forced_accuracy",),
        objective=objective,
    )


@dataclasses.dataclass(frozen=True)
class CorpusFiles(Stream):
    """Files of text or of JSON lines; each is a shard. The attributes are those of `Texts`."""

    files: Mapping[str, tuple[str, ...]]
    document: str = "paragraph"
    field: str = "text"

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def shards(self, split: str, data_dir: str | None = None) -> Sequence[Shard]:
        """The files in the order of their names.

        Raises:
          UserError: a pattern that no file matches.
        """
        held_out = set() if split == "validation" else set(self._paths("validation"))
        paths = [path for path in self._paths(split) if path not in held_out]
        if not paths:
            raise UserError(f"{self.origin(split)}: every file is held out, for validation")
        return [TextShard(path, self.document, self.field) for path in paths]

    def _paths(self, split: str) -> list[str]:
        paths: set[str] = set()
        for pattern in self.files.get(split, ()):
            found = glob.glob(os.path.expanduser(pattern), recursive=True)
            found = [path for path in found if os.path.isfile(path)]
            if not found:
                folder = os.path.isdir(os.path.expanduser(pattern))
                reason = f"is a folder: write {pattern}/*" if folder else "no such file"
                raise UserError(f"corpus, split '{split}': {pattern}: {reason}")
            paths.update(map(os.path.normpath, found))
        return sorted(paths)

    def origin(self, split: str, data_dir: str | None = None) -> str:
        return " ".join(self.files[split])

    def describe(self) -> dict:
        # not where the files are: what they hold is told by their states
        read = {"document": self.document, "field": self.field}
        return {"files": list(self.files)} | read | self._numbers()


@dataclasses.dataclass(frozen=True)
class TextShard:
    """A file of `CorpusFiles`."""

    name: str
    document: str
    field: str

    def texts(self) -> Iterator[str]:
        """As `Shard.texts`; UserError that names file and line where it cannot be read."""
        if pathlib.Path(self.name.removesuffix(".gz")).suffix in (".jsonl", ".json"):
            for record in TextFile(self.name, "jsonl").records():
                yield from pieces([text_of(record, self.field, "a corpus")])
            return
        with reading(self.name) as file:
            if self.document == "line":
                for line in file:
                    yield from pieces([line])
            elif self.document == "paragraph":
                for blank, lines in itertools.groupby(file, str.isspace):
                    if not blank:
                        yield from pieces(lines)
            else:
                yield from pieces(iter(lambda: file.read(LONGEST), ""))

    def state(self) -> str:
        """The file's size and samples of it; all of it where it is small."""
        try:
            with open(self.name, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest = hashlib.sha256()
                for index in range(_SAMPLES):
                    file.seek(index * max(size - _SAMPLE, 0) // (_SAMPLES - 1))
                    digest.update(file.read(_SAMPLE))
        except OSError as error:
            raise UserError(f"data file {self.name}: {error.strerror}") from error
        return f"{size} {digest.hexdigest()}"


@dataclasses.dataclass(frozen=True)
class CorpusTfds(Stream):
    """A TensorFlow dataset, each of its files a shard. The attributes are those of `Texts`.

    TensorFlow is imported as it is read; nothing is copied.
    """

    tfds: str
    field: str = "text"
    splits: tuple[str, ...] = ("train", "validation")

    def shards(self, split: str, data_dir: str | None = None) -> Sequence[Shard]:
        """The dataset's files, in order.

        Raises:
          UserError: TFDS has not prepared it, or it has no such split or field.
        """
        found = Tfds(self.tfds).folder(data_dir) if data_dir else None
        folder = None if found is None else str(found)
        with _told(self.origin(split, data_dir)):
            builder = _builder(self.tfds, folder)
            if not builder.data_path.exists():
                places = " nor in ".join(filter(None, [str(builder.data_path), data_dir]))
                raise OSError(f"it is not in {places}")
            if split not in builder.info.splits:
                raise OSError(f"its splits are {', '.join(sorted(builder.info.splits))}")
            if self.field not in builder.info.features:
                fields = ", ".join(sorted(builder.info.features))
                raise OSError(f"no field '{self.field}'; it has {fields}")
            lengths = builder.info.splits[split].shard_lengths
        ends = list(itertools.accumulate(lengths))
        starts = [0, *ends]
        return [
            TfdsShard(self.tfds, folder, split, start, end, self.field)
            for start, end in zip(starts, ends, strict=False)
            if start < end
        ]

    def origin(self, split: str, data_dir: str | None = None) -> str:
        return f"TFDS's {self.tfds}"

    def describe(self) -> dict:
        return {"tfds": self.tfds, "field": self.field} | self._numbers()


@dataclasses.dataclass(frozen=True)
class TfdsShard:
    """Records `start` to `end` of a split, which are one file of TFDS's."""

    tfds: str
    folder: str | None
    split: str
    start: int
    end: int
    field: str

    @property
    def name(self) -> str:
        return f"{self.tfds} {self.split}[{self.start}:{self.end}]"

    def texts(self) -> Iterator[str]:
        import tensorflow_datasets as tfds

        with _told(f"TFDS's {self.name}"):
            dataset = _builder(self.tfds, self.folder).as_dataset(
                split=f"{self.split}[{self.start}:{self.end}]",
                decoders=tfds.decode.PartialDecoding({self.field: True}),
            )
            for record in tfds.as_numpy(dataset):
                yield from pieces([record[self.field].decode()])

    def state(self) -> str:
        info = _builder(self.tfds, self.folder).info
        return f"{info.full_name} {info.splits[self.split].num_bytes} {self.start} {self.end}"


def pieces(chunks: Iterable[str], longest: int = LONGEST) -> Iterator[str]:
    """The text that the chunks make, in pieces of at most so many characters.

    It is cut between words, or anywhere in a word that is longer; what is blank is left out.
    """
    rest = ""
    for chunk in chunks:
        rest, start = rest + chunk, 0
        while len(rest) - start > longest:
            if rest[start].isspace():
                start += 1
                continue
            end = max(rest.rfind(blank, start, start + longest + 1) for blank in " \n")
            end = end if end > start else start + longest
            yield rest[start:end].rstrip()
            start = end
        rest = rest[start:]
    if rest := rest.strip():
        yield rest


def _document(record: dict) -> list[Example]:
    return [{"inputs": "", "targets": record["text"]}]


def _listed(patterns: str | Sequence[str] | None) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns or ())


@functools.lru_cache(8)
def _builder(name: str, folder: str | None) -> Any:
    import tensorflow as tf
    import tensorflow_datasets as tfds  # takes seconds

    # TensorFlow would take an accelerator's memory, and only reads here; who has used it already
    # has decided about that
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
    return tfds.builder_from_directory(folder) if folder else tfds.builder(name)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """UserError for whatever goes wrong in TFDS: network, disk, name or record."""
    try:
        yield
    except Exception as error:
        reason = f"{str(error).strip().partition(chr(10))[0]:.200}"
        raise UserError(
            f"{what} cannot be read ({reason}); prepare it with TFDS, or give files"
        ) from error
