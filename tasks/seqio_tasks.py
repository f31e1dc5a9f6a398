"""Tasks that a user registered with seqio, as ours. This imports seqio, and so TensorFlow."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.sources import plain
from prompt_tuning_jax.tasks.task import Example, Task


def find(name: str) -> Task | None:
    """The task that seqio knows by this name, None where there is none.

    Its examples come as tokens, so that whatever its preprocessors do is kept; no preprocessor may
    need the feature lengths. Beside its metrics stands their mean, which chooses the best step.

    Raises:
      UserError: its features are not inputs and targets of one SentencePiece vocabulary with EOS.
    """
    if name not in seqio.TaskRegistry.names():
        return None
    task = seqio.TaskRegistry.get(name)
    features = task.output_features
    vocabulary = features["targets"].vocabulary if "targets" in features else None
    if (
        not isinstance(vocabulary, seqio.SentencePieceVocabulary)
        or set(features) != {"inputs", "targets"}
        or any(not f.add_eos or f.vocabulary != vocabulary for f in features.values())
    ):
        raise UserError(
            f"seqio task {name}: its features must be inputs and targets of one SentencePiece "
            "vocabulary, with add_eos"
        )
    with tf.io.gfile.GFile(vocabulary.sentencepiece_model_file, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return Task(
        name=name,
        source=_Source(task),
        format=functools.partial(_example, vocabulary),
        postprocess=functools.partial(_prediction, task),
        target=functools.partial(_target, task),
        metrics=(functools.partial(_metrics, task),) if task.predict_metric_fns else (),
        selection=("mean" if task.predict_metric_fns else "teacher_forced_accuracy",),
        vocabulary_digest=digest,
    )


@dataclasses.dataclass(frozen=True)
class _Source:
    task: seqio.Task

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.task.splits)

    def records(self, split: str, data_dir: str | None = None) -> Iterator[dict]:
        try:
            records = list(self.task.get_dataset(None, split, shuffle=False).as_numpy_iterator())
        except Exception as error:  # whatever the source or a preprocessor raises
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"seqio task {self.task.name}: {reason:.200}") from error
        for number, record in enumerate(records):
            yield {**plain(record), "_at": f"{self.task.name}/{split}:{number}"}

    def origin(self, split: str, data_dir: str | None = None) -> str:
        return "seqio"

    def describe(self) -> dict:
        return {"seqio": self.task.name}


def _example(vocabulary: seqio.Vocabulary, record: dict) -> list[Example]:
    example: Example = {"record": record}
    for feature in ("inputs", "targets"):
        tokens = record[feature]
        text = record.get(f"{feature}_pretokenized")
        example[feature] = text if isinstance(text, str) else vocabulary.decode(tokens)
        # Whoever cuts them to the feature's length adds EOS again.
        example[f"{feature}_tokens"] = tokens[:-1] if tokens[-1:] == [1] else tokens
    return [example | {"idx": record["idx"]} if "idx" in record else example]


def _prediction(task: seqio.Task, text: str, example: Example) -> Any:
    return task.postprocess_fn(text, example=_as_numpy(example["record"]), is_target=False)


def _target(task: seqio.Task, example: Example) -> Any:
    record = _as_numpy(example["record"])
    return task.postprocess_fn(example["targets"], example=record, is_target=True)


def _metrics(task: seqio.Task, targets: list, predictions: list) -> dict[str, float]:
    results: dict[str, float] = {}
    for metric in task.predict_metric_fns:
        results |= metric(targets, predictions)
    return results | {"mean": float(np.mean(list(results.values())))}


def _as_numpy(value: Any) -> Any:
    """A value of JSON as seqio's postprocessors expect it: texts as bytes, lists as arrays."""
    if isinstance(value, dict):
        return {key: _as_numpy(inner) for key, inner in value.items()}
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return np.asarray([_as_numpy(inner) for inner in value])
    return value
