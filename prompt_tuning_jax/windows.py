"""A corpus as windows of tokens, each of which an objective makes one full row of.

As T5 packs it (`reduce_concat_tokens`, `split_tokens` of `t5.data.preprocessors`): the tokens of
128 documents are joined and cut every so many tokens; only the last window of each 128 is shorter.
T5 takes of a document one piece of at most 65,536 tokens (`select_random_chunk`); here every piece
of a long document is taken, as a document of its own (`corpora.pieces`).
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sentencepiece

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.corpora import Stream
from prompt_tuning_jax.tasks.task import Task
from prompt_tuning_jax.token_cache import Ragged
from prompt_tuning_jax.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class Position:
    """Where one can begin to read: so many windows, epochs, shards and documents were before it.

    `shard` counts in the order of the epoch, `document` in the shard.
    """

    window: int = 0
    epoch: int = 0
    shard: int = 0
    document: int = 0


class Windows:
    """One split of a corpus, read anew whenever it is asked for.

    Attributes:
      task: its source is a `Stream`, its objective says how long a window is.
      split: the name of the split.
      vocabulary: what the ids belong to.
      lengths: {"inputs": T, "targets": U}, EOS included.
      size: tokens of a window.
    """

    def __init__(
        self,
        task: Task,
        split: str,
        vocabulary: Vocabulary,
        lengths: Mapping[str, int],
        data_dir: str | None = None,
    ):
        """Finds the shards; nothing is read.

        Raises:
          UserError: there are none, or what the objective raises of a full row.
        """
        assert isinstance(task.source, Stream)
        if split not in task.source.splits:
            known = ", ".join(task.source.splits)
            raise UserError(
                f"corpus {task.name} has no split '{split}', it has {known}: give files of it "
                "(VALIDATION_FILES), or EVAL_TASKS=[] to evaluate nothing"
            )
        self.task, self.split, self.vocabulary, self.lengths = task, split, vocabulary, lengths
        objective: Any = task.objective
        self.size: int = objective.window(lengths)
        # too few sentinels, for instance, are known before there is a row
        objective(np.zeros(self.size, np.int32), np.random.default_rng(0), vocabulary, lengths)
        self.source = task.source
        self.shards = task.source.shards(split, data_dir)

    def digest(self) -> str:
        """What tells these shards from others, and from themselves before they were changed."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        # asked for twice, and every shard is looked into for it
        facts = [(pathlib.Path(shard.name).name, shard.state()) for shard in self.shards]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        return f"{len(self.shards)} shards, sha256 {digest[:16]}"

    def made_by(self) -> str:
        """What else the windows depend on."""
        facts = [sentencepiece.__version__, self.vocabulary.digest, self.vocabulary.extra_ids]
        return json.dumps([*facts, self.size, self.source.together])

    def read(
        self, start: Position = Position(), order: Sequence[int] | np.ndarray | None = None
    ) -> Iterator[tuple[list[np.ndarray], Position]]:
        """What is left of an epoch: the windows of so many documents, and where the next begin.

        Args:
          start: where to begin.
          order: the shards' order in this epoch, None for their own.

        Yields:
          windows: int32 [size] each, but the last is shorter.
          next: a later `start`.
        """
        documents = self._documents(start, range(len(self.shards)) if order is None else order)
        window = start.window
        while group := list(itertools.islice(documents, self.source.together)):
            tokens = np.concatenate([ids for ids, _, _ in group])
            windows = np.split(tokens, range(self.size, len(tokens), self.size))
            window += len(windows)
            _, shard, document = group[-1]
            yield windows, Position(window, start.epoch, shard, document)

    def first(self, count: int) -> Ragged:
        """The first `count` windows, or all where there are fewer.

        Raises:
          UserError: count is not positive, or there is no text.
        """
        if count < 1:
            raise UserError(f"{count} windows of {self.task.name}/{self.split}: take at least one")
        found: list[np.ndarray] = []
        for windows, _ in self.read():
            found += windows
            if len(found) >= count:
                break
        if not found:
            raise self.empty()
        return Ragged.of(found[:count])

    def empty(self) -> UserError:
        """The error that there is no text."""
        place = self.source.origin(self.split)
        return UserError(f"corpus {self.task.name}, split '{self.split}': no text in {place}")

    def _documents(
        self, start: Position, order: Sequence[int] | np.ndarray
    ) -> Iterator[tuple[np.ndarray, int, int]]:
        """Each document's tokens, its shard's place, and the documents of the shard up to it."""
        for place in range(start.shard, len(order)):
            skipped = start.document if place == start.shard else 0
            texts = itertools.islice(self.shards[order[place]].texts(), skipped, None)
            for document, text in enumerate(texts, skipped + 1):
                ids = np.asarray(self.vocabulary.encode(text), np.int32)
                if len(ids):
                    yield ids, place, document
