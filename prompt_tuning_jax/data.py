"""From tasks to tokens: a split read and tokenised, and its examples as the model sees them."""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence

import numpy as np

from prompt_tuning_jax import packing, token_cache
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import sentinel
from prompt_tuning_jax.tasks.corpora import Stream
from prompt_tuning_jax.tasks.task import Example, Task
from prompt_tuning_jax.token_cache import Ragged
from prompt_tuning_jax.vocabulary import Vocabulary
from prompt_tuning_jax.windows import Windows

# Windows of a corpus that stand for it where nobody says how many.
WINDOWS = 1024


@dataclasses.dataclass(frozen=True)
class TokenSet:
    """One split of a task as token ids.

    Attributes:
      task: the task.
      split: the name of the split.
      vocabulary: what the ids belong to.
      lengths: {"inputs": T, "targets": U}, EOS included.
      examples: the examples, in the split's order.
      inputs: their ids, uncut and without EOS.
      targets: likewise.
    """

    task: Task
    split: str
    vocabulary: Vocabulary
    lengths: Mapping[str, int]
    examples: list[Example]
    inputs: Ragged
    targets: Ragged

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def cut(self) -> dict[str, int]:
        """How many inputs and targets are longer than their length; an objective makes them fit."""
        if self.task.objective:
            return {"inputs": 0, "targets": 0}
        features = {"inputs": self.inputs, "targets": self.targets}
        return {
            feature: int(np.sum(tokens.lengths >= self.lengths[feature]))
            for feature, tokens in features.items()
        }

    def first(self, count: int) -> "TokenSet":
        """The first `count` examples, or all where there are fewer.

        Raises:
          UserError: count is not positive.
        """
        if count < 1:
            raise UserError(f"{count} examples of {self.task.name}/{self.split}: take at least one")
        return dataclasses.replace(
            self,
            examples=self.examples[:count],
            inputs=self.inputs.first(count),
            targets=self.targets.first(count),
        )

    def digest(self) -> str:
        """What tells these examples from those of other files, templates or vocabularies."""
        digest = hashlib.sha256(json.dumps(self.examples).encode())
        for ids in (self.inputs, self.targets):
            digest.update(ids.offsets.tobytes() + ids.values.tobytes())
        return f"{len(self)} examples, sha256 {digest.hexdigest()[:16]}"

    @property
    def sizes(self) -> np.ndarray:
        """Input and target tokens of each example as `pair` gives them, int64 [examples,2]; what an
        objective may give at most."""
        limits = [self.lengths["inputs"], self.lengths["targets"]]
        if self.task.objective:
            return np.tile(limits, (len(self), 1))
        return np.minimum(np.stack([self.inputs.lengths, self.targets.lengths], 1) + 1, limits)

    def pair(self, index: int, seed: Sequence[int]) -> packing.Pair:
        """Inputs and targets of one example as the model sees them, cut and with EOS, int32.

        A text longer than its length keeps its beginning and ends with EOS all the same (seqio's
        `append_eos_after_trim`). `seed` is for what a pre-training objective draws.
        """
        return pair(self, self.inputs[index], self.targets[index], seed)


def tokenise(
    task: Task,
    split: str,
    vocabulary: Vocabulary,
    lengths: Mapping[str, int],
    data_dir: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    warn: bool = True,
    windows: int | None = None,
) -> TokenSet:
    """Reads a split and gives its tokens; says in one line how many texts will be cut.

    Args:
      task: what to read.
      split: which part of it.
      vocabulary: what to tokenise with.
      lengths: {"inputs": T, "targets": U} in tokens, EOS included.
      data_dir: folder of the official files, None for the task's own source.
      cache_dir: where tokens are kept between runs, None for the default (`cache.folder`).
      warn: whether to say it.
      windows: of a corpus so many windows from its beginning are the examples, 1024 by default.

    Raises:
      UserError: as `Task.examples`, a length that leaves no room for a token and EOS, or the task's
        tokens belong to another vocabulary.
    """
    check_lengths(lengths)
    if isinstance(task.source, Stream):
        streamed = Windows(task, split, vocabulary, lengths, data_dir)
        few = streamed.first(WINDOWS if windows is None else windows)
        texts = [vocabulary.decode(few[row].tolist()) for row in range(len(few))]
        parts: list[Example] = [{"idx": i, "inputs": "", "targets": t} for i, t in enumerate(texts)]
        return TokenSet(task, split, vocabulary, lengths, parts, Ragged.of([] for _ in texts), few)
    if task.vocabulary_digest not in ("", vocabulary.digest):
        raise UserError(f"task {task.name} has another vocabulary than {vocabulary.model_file}")
    examples = task.examples(split, data_dir)
    tokens = {}
    for feature in ("inputs", "targets"):
        if f"{feature}_tokens" in examples[0]:
            tokens[feature] = Ragged.of(example.pop(f"{feature}_tokens") for example in examples)
        else:
            texts = [example[feature] for example in examples]
            tokens[feature] = token_cache.encode(texts, vocabulary, cache_dir)
    if first := sentinel.beginning(task, vocabulary):
        targets = tokens["targets"]
        tokens["targets"] = Ragged.of([*first, *targets[i]] for i in range(len(targets)))
    result = TokenSet(task, split, vocabulary, lengths, examples, **tokens)
    for feature, count in result.cut.items():
        if warn and count:
            logging.getLogger(__name__).warning(
                "%d of %d %s of %s/%s were longer than %d tokens and cut",
                *(count, len(result), feature, task.name, split, lengths[feature]),
            )
    return result


def training_set(
    task: Task,
    vocabulary: Vocabulary,
    lengths: Mapping[str, int],
    data_dir: str | None = None,
) -> TokenSet | Windows:
    """What to train a task on: its training split, all of it as tokens or, of a corpus, a stream.

    Raises:
      UserError: as `tokenise`, but what a corpus holds is only known as it is read.
    """
    if not isinstance(task.source, Stream):
        return tokenise(task, "train", vocabulary, lengths, data_dir)
    check_lengths(lengths)
    return Windows(task, "train", vocabulary, lengths, data_dir)


def pair(
    of: TokenSet | Windows, inputs: np.ndarray, targets: np.ndarray, seed: Sequence[int]
) -> packing.Pair:
    """As `TokenSet.pair`, of ids without EOS."""
    if of.task.objective:
        rng = np.random.default_rng(seed)
        inputs, targets = of.task.objective(targets, rng, of.vocabulary, of.lengths)
    return _ended(of, inputs, "inputs"), _ended(of, targets, "targets")


def _ended(of: TokenSet | Windows, ids: np.ndarray, feature: str) -> np.ndarray:
    kept = min(len(ids), of.lengths[feature] - 1)
    ended = np.full(kept + 1, of.vocabulary.eos_id, np.int32)
    ended[:kept] = ids[:kept]
    return ended


def check_lengths(lengths: Mapping[str, int]) -> None:
    """UserError unless these are TASK_FEATURE_LENGTHS."""
    known = isinstance(lengths, Mapping) and set(lengths) == {"inputs", "targets"}
    if not known or not all(isinstance(n, int) and n >= 2 for n in lengths.values()):
        raise UserError(f"TASK_FEATURE_LENGTHS {lengths}: give inputs and targets 2 tokens or more")
