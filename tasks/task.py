"""A task: records of a source made into text-to-text examples, and how predictions are scored."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from prompt_tuning_jax.errors import UserError

# "inputs": str, "targets": str, and what postprocess, metrics and prediction files need besides
# ("idx", "answers", ...); JSON-able. Targets are "" where the answer is not known. A source that
# has tokens already adds "inputs_tokens" and "targets_tokens", lists of ids without EOS.
Example = dict[str, Any]
Metric = Callable[[list, list], dict[str, float]]


class Source(Protocol):
    """Where a task's records come from: `Files`, `Tfds` and `Generated` in tasks/sources.py."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that there may be, "train" first."""

    def records(self, split: str, data_dir: str | None = None) -> Iterator[dict]:
        """The split's raw records in order; "_at" says where each comes from, for errors."""

    def origin(self, split: str, data_dir: str | None = None) -> str:
        """Where the split's records are read: a file, a folder, or a name."""

    def describe(self) -> dict:
        """JSON-able facts that tell this source from another."""


def same_text(text: str, example: Example) -> str:
    """The text itself: the default `Task.postprocess`."""
    return text


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What to learn, as text to text.

    Attributes:
      name: what gin, seqio and results call it.
      source: where its records come from.
      format: makes one raw record into examples, in order.
      label_words: the closed set of what a model may say, in the order of label ids: the targets,
        but for a task scored in another's words; empty for free text.
      postprocess: (text, example) -> what the metrics compare; for predictions, and for targets.
      target: example -> what the metrics compare predictions to, where that is not
        `postprocess(example["targets"], example)` (many right answers).
      metrics: (targets, predictions) -> {"accuracy": 93.1}, each 0-100.
      selection: names of the metrics whose mean chooses the best step, higher being better; beside
        the task's own there is what evaluation adds, as "teacher_forced_accuracy".
      objective: pre-training alone: (token ids, rng, vocabulary, lengths) -> (input ids, target
        ids), none with EOS. Applied to the tokens of "targets" each time that an example is drawn.
      vocabulary_digest: the only vocabulary that the examples' tokens belong to; "" for any.
      sentinel: whether what a model is to say begins with the first sentinel (tasks/sentinel.py);
        texts, label words and what is scored are without it.
    """

    name: str
    source: Source
    format: Callable[[dict], list[Example]]
    label_words: tuple[str, ...] = ()
    postprocess: Callable[[str, Example], Any] = same_text
    target: Callable[[Example], Any] | None = None
    metrics: tuple[Metric, ...] = ()
    selection: tuple[str, ...] = ("accuracy",)
    objective: Callable | None = None
    vocabulary_digest: str = ""
    sentinel: bool = False

    def examples(self, split: str, data_dir: str | None = None) -> list[Example]:
        """The split's examples in order; those without "idx" get their number as "idx".

        Args:
          split: "train", "validation", "test"...
          data_dir: folder of the official files; None for the source's own place.

        Raises:
          UserError: no such split, an empty split, or a record that is wrong (file and line named);
            only the test split may lack labels, and then all of them.
        """
        if split not in self.source.splits:
            raise UserError(
                f"task {self.name} has no split '{split}'; it has {', '.join(self.source.splits)}"
            )
        examples: list[Example] = []
        lacked = False
        for record in self.source.records(split, data_dir):
            for example in self.format(record):
                lacks = self._lacks_answer(example)
                if lacks and split != "test":
                    raise UserError(f"{record['_at']}: no label, which split '{split}' needs")
                if examples and lacks != lacked:
                    which = "no label" if lacks else "a label"
                    raise UserError(f"{record['_at']}: {which}, unlike the examples before it")
                lacked = lacks
                examples.append({"idx": len(examples), **example})
        if not examples:
            place = self.source.origin(split, data_dir)
            raise UserError(f"task {self.name}, split '{split}': no examples in {place}")
        return examples

    def _lacks_answer(self, example: Example) -> bool:
        # A text to learn may be empty; a label or an answer may not. Who brings tokens knows.
        answers = self.label_words or (self.target and "targets_tokens" not in example)
        return bool(answers) and not example["targets"]

    def identity(self) -> dict:
        """Facts (for `settings.encode`) that tell this task from another; so they do runs."""
        facts = {"name": self.name, "source": self.source.describe()}
        # a function has no settings to compare
        objective = self.objective if dataclasses.is_dataclass(self.objective) else None
        return facts | ({"objective": objective} if objective else {})


@dataclasses.dataclass(frozen=True)
class LabelId:
    """Postprocess of a closed set: the text's place among the words, -1 for any other text.

    As T5's `string_label_to_class_id`: the match is exact.
    """

    words: tuple[str, ...]

    def __call__(self, text: str, example: Example) -> int:
        return self.words.index(text) if text in self.words else -1


@dataclasses.dataclass(frozen=True)
class _WithoutFirstWord:
    format: Callable[[dict], list[Example]]

    def __call__(self, record: dict) -> list[Example]:
        return [
            {**example, "inputs": example["inputs"].partition(" ")[2]}
            for example in self.format(record)
        ]


def twin(task: Task) -> Task:
    """The task without the task name that T5 starts its inputs with, as `taskless_{name}`.

    As the tasks of that name in google-research/prompt-tuning: a prompt alone says what to do.
    """
    return dataclasses.replace(
        task, name=f"taskless_{task.name}", format=_WithoutFirstWord(task.format)
    )


def with_twins(*tasks: Task) -> dict[str, Task]:
    """The tasks and their twins by name, as a module's `TASKS`."""
    return {task.name: task for task in (*tasks, *map(twin, tasks))}
