"""Metrics of an artifact: artifact + backbone + task or mixture -> metrics (0-100), predictions.

python -m prompt_tuning_jax.evaluate --artifact=MODEL_DIR/artifact --task=super_glue_rte
"""

if __name__ == "__main__":
    from prompt_tuning_jax.launch import main

    raise SystemExit(main("evaluate"))

import functools
import json
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from prompt_tuning_jax import cache, data, hosts, prefetch, scoring, sharding, tasks
from prompt_tuning_jax.batches import EvaluationSet
from prompt_tuning_jax.decoding import Greedy, keys
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.predictor import decode, load
from prompt_tuning_jax.progress import Progress
from prompt_tuning_jax.tasks import leaderboard, sentinel


@functools.partial(jax.jit, static_argnames=("model", "loss"))
def _sums(model, loss, theta, tuned, batch):
    return loss.sums(model.apply({"params": theta}, tuned, batch), batch)


class Evaluation:
    """One task's split, ready to be run again and again on what is being tuned."""

    def __init__(
        self,
        tokens: data.TokenSet,
        *,
        batch_size: int,
        partitioner: sharding.Partitioner,
        decoder: Any = Greedy(),
        loss: Loss = Loss(),
        examples: int | None = None,
        seed: int = 0,
    ):
        """examples: so many from the beginning, None for all; batch_size is rounded up to a
        multiple of what the mesh cuts it into."""
        if batch_size < 1:
            raise UserError(f"BATCH_SIZE = {batch_size}: at least 1")
        self.task = tokens.task
        self._tokens = tokens if examples is None else tokens.first(examples)
        self._decoder, self._loss, self._partitioner = decoder, loss, partitioner
        self._rng = jax.random.key(seed)
        rows = partitioner.pieces("batch")
        self._batches = EvaluationSet(self._tokens, -(-batch_size // rows) * rows)
        self._labels = self._label_tokens()

    def _label_tokens(self) -> np.ndarray | None:
        """The label words' ids [C,U'], with their ends, zero padded."""
        vocabulary, length = self._tokens.vocabulary, self._tokens.lengths["targets"]
        first = sentinel.beginning(self.task, vocabulary)
        words = [
            [*first, *vocabulary.encode(word), vocabulary.eos_id] for word in self.task.label_words
        ]
        if not words:
            return None
        ids = np.zeros((len(words), max(map(len, words))), np.int32)
        for row, word in enumerate(words):
            ids[row, : len(word)] = word
        if ids.shape[1] > length:
            raise UserError(
                f"task {self.task.name}: its label words need {ids.shape[1]} tokens, "
                f"TASK_FEATURE_LENGTHS has {length} for targets"
            )
        return ids

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._tokens)

    @property
    def labelled(self) -> bool:
        """Whether the split has labels; without them `run` only predicts."""
        return scoring.labelled(self._tokens.examples)

    def check(self, model, theta, tuned, labels: bool = True) -> dict[str, float]:
        """UserError for what `run` would refuse, so that it is known before training begins.

        Traces the decoder (for `run` too, on arrays that lie as its own do) and scores the targets
        as if they were predictions -> those metrics; arrays may be shapes. With `labels`, a split
        without them is refused too.
        """
        forced = {"teacher_forced_loss": 0.0, "teacher_forced_accuracy": 100.0}
        if not self.task.metrics:
            return forced
        length = self._tokens.lengths["targets"]
        with self._partitioner.use():
            rows, inputs = next(self._inputs())
            rng = keys(self._rng, rows, len(inputs["encoder_input_tokens"]))
            decode.trace(model, self._decoder, length, theta, tuned, inputs, rng, self._labels)
        if not self.labelled and not labels:
            return {}
        examples = self._tokens.examples
        return scoring.score(self.task, examples, [e["targets"] for e in examples]) | forced

    def run(
        self,
        model,
        theta,
        tuned,
        folder: pathlib.Path | None = None,
        submission: pathlib.Path | None = None,
    ) -> dict[str, float]:
        """The task's metrics and the teacher-forced loss and accuracy; `tuned` as exported.

        A task without metrics (a pre-training objective) is not decoded, a split without labels
        has no metrics. With `folder`, FOLDER/TASK.jsonl gets a line an example: {"inputs",
        "targets", "prediction", …}; with `submission`, that folder gets the leaderboard's file.
        """
        metrics = {}
        if self.task.metrics:
            texts = self._predict(model, theta, tuned)
            if folder is not None:
                self._save(folder, texts)
            if submission is not None:
                lines = leaderboard.lines(self.task, self._tokens.examples, texts)
                _write(submission / leaderboard.file_name(self.task), lines)
            if not self.labelled:
                return {}
            metrics = scoring.score(self.task, self._tokens.examples, texts)
        return metrics | self._teacher_forced(model, theta, tuned)

    def _inputs(self) -> Iterator[tuple[np.ndarray, dict[str, jax.Array]]]:
        """Every batch's examples, and itself on the devices: each process makes its rows."""
        for rows, examples in self._batches.batches(*self._partitioner.share):
            yield examples, self._partitioner.put_batch(rows)

    def _predict(self, model, theta, tuned) -> list[str]:
        length, vocabulary = self._tokens.lengths["targets"], self._tokens.vocabulary
        texts = [""] * len(self)

        def predicted():
            for examples, inputs in self._inputs():
                rng = keys(self._rng, examples, len(inputs["encoder_input_tokens"]))
                ids = decode(model, self._decoder, length, theta, tuned, inputs, rng, self._labels)
                yield examples, ids

        with self._partitioner.use(), Progress(self.task.name, len(self), unit="example") as bar:
            for examples, ids in prefetch.one_behind(predicted()):
                for example, row in zip(examples, np.asarray(ids), strict=False):
                    texts[example] = vocabulary.decode(row.tolist())
                bar.update(len(examples))
        return [sentinel.without(text) for text in texts] if self.task.sentinel else texts

    def _teacher_forced(self, model, theta, tuned) -> dict[str, float]:
        """Loss in nats a target token and accuracy (0-100); nothing where targets are unknown."""
        with self._partitioner.use():
            parts = [_sums(model, self._loss, theta, tuned, inputs) for _, inputs in self._inputs()]
        sums = jax.tree.map(lambda *values: float(sum(values)), *parts)
        if not sums.tokens:
            return {}
        return {
            "teacher_forced_loss": sums.loss / sums.tokens,
            "teacher_forced_accuracy": 100 * sums.correct / sums.tokens,
        }

    def _save(self, folder: pathlib.Path, texts: list[str]) -> None:
        lines = [
            json.dumps({**example, "prediction": text}, ensure_ascii=False)
            for example, text in zip(self._tokens.examples, texts, strict=True)
        ]
        _write(folder / f"{self.task.name}.jsonl", lines)


def evaluate(
    *,
    mixture_or_task_name: Any,
    artifact: str | None = None,
    initial_checkpoint_path: str | None = None,
    split: str = "validation",
    mixture_or_task_module: str | None = None,
    data_dir: str | None = None,
    task_feature_lengths: dict[str, int] | None = None,
    decoder: Any = Greedy(),
    batch_size: int = 32,
    eval_examples: int | None = None,
    output: str | None = None,
    leaderboard_folder: str | None = None,
    random_seed: int = 0,
    vocabulary_file: str | None = None,
    extra_ids: int = 100,
    dtype: str = "float32",
    frozen_dtype: str = "float32",
    mesh: dict[str, int] | None = None,
    logical_axis_rules: sharding.Rules | None = None,
) -> dict[str, Any]:
    """Evaluates and prints, as its last line, {"task", "split", "examples", "metrics": {…}}.

    Of a mixture, such a line for each task, and last {"task": its name, "split", "examples",
    "metrics": {task: {…}}, "average"}; the average is that of `scoring.average`. artifact None: the
    plain backbone. task_feature_lengths None: those the artifact was trained with. output: a folder
    for the predictions; leaderboard_folder: one for SuperGLUE's leaderboard files. With either, a
    split without labels is predicted and has no metrics. Raises UserError for what a user can mend.
    """
    for folder in (output, leaderboard_folder):
        if folder is not None and pathlib.Path(folder).is_file():
            raise UserError(f"{folder} is a file: predictions go into a folder")
    mixture = [task for task, _ in tasks.mixture(mixture_or_task_name, mixture_or_task_module)]
    if leaderboard_folder is not None:
        leaderboard.check(mixture)
        if split != "test":
            raise UserError(f"the leaderboard scores no {split} split: give --split=test")
        if eval_examples is not None:
            raise UserError("the leaderboard wants every example: leave EVAL_EXAMPLES out")
    predictor = load(
        artifact,
        initial_checkpoint_path,
        vocabulary_file=vocabulary_file,
        extra_ids=extra_ids,
        dtype=dtype,
        frozen_dtype=frozen_dtype,
        mesh=mesh,
        logical_axis_rules=logical_axis_rules,
    )
    lengths = task_feature_lengths or predictor.facts.get("lengths")
    if lengths is None:
        raise UserError("TASK_FEATURE_LENGTHS is needed where there is no artifact to tell it")
    evaluations = [
        Evaluation(
            data.tokenise(
                task, split, predictor.vocabulary, lengths, data_dir, windows=eval_examples
            ),
            batch_size=batch_size,
            decoder=decoder,
            partitioner=predictor.partitioner,
            examples=eval_examples,
            seed=random_seed,
        )
        for task in mixture
    ]
    loaded = predictor.model, predictor.theta, predictor.tuned
    folders = [pathlib.Path(folder) if folder else None for folder in (output, leaderboard_folder)]
    unlabelled = [evaluation.task.name for evaluation in evaluations if not evaluation.labelled]
    could = [
        (evaluation.task, evaluation.check(*loaded, labels=not any(folders)))
        for evaluation in evaluations
    ]
    if len(could) > 1 and not unlabelled:
        scoring.average(could)
    scored = []
    for evaluation in evaluations:
        scored.append(evaluation.run(*loaded, *folders))
        result = {
            "task": evaluation.task.name,
            "split": split,
            "examples": len(evaluation),
            "metrics": scored[-1],
        }
        print(json.dumps(result), flush=True)
    for name in unlabelled:
        logging.getLogger(__name__).warning(
            "task %s: split %s has no labels, so it was only predicted", name, split
        )
    if len(mixture) > 1:
        named = isinstance(mixture_or_task_name, str)
        result = {
            "task": mixture_or_task_name if named else "mixture",
            "split": split,
            "examples": sum(len(evaluation) for evaluation in evaluations),
            "metrics": {task.name: metrics for task, metrics in zip(mixture, scored, strict=True)},
            "average": None if unlabelled else scoring.average(zip(mixture, scored, strict=True)),
        }
        print(json.dumps(result))
    return result


def _write(file: pathlib.Path, lines: list[str]) -> None:
    if hosts.first():
        cache.write(file, "\n".join([*lines, ""]).encode())
