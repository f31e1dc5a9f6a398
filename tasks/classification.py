"""Classification in T5's text format, `name field: value … field: value` -> a label word."""

import dataclasses
from collections.abc import Mapping

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import metrics
from prompt_tuning_jax.tasks.lines import number_of, text_of
from prompt_tuning_jax.tasks.task import Example, LabelId, Metric, Source, Task


@dataclasses.dataclass(frozen=True)
class FieldsToText:
    """Format of a record with named texts and a label.

    T5 sorts the fields by name (`t5.data.preprocessors.glue`), so "hypothesis" precedes "premise".
    A record without a label has the targets "", where T5 has "<unk>". What a record has as "idx"
    becomes a whole number.

    Attributes:
      name: what the inputs begin with.
      fields: the texts, in order.
      words: the label words, in the order of label ids.
      rename: fields that another file of the same data calls otherwise, its name -> ours.
    """

    name: str
    fields: tuple[str, ...]
    words: tuple[str, ...]
    rename: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __call__(self, record: dict) -> list[Example]:
        record = {self.rename.get(field, field): value for field, value in record.items()}
        texts = [f"{field}: {text_of(record, field, self.name)}" for field in self.fields]
        example: Example = {"inputs": " ".join([self.name, *texts]), "targets": self._word(record)}
        if "idx" in record:
            example["idx"] = number_of(record, "idx", self.name)
        return [example]

    def _word(self, record: dict) -> str:
        """The label's word: files and TFDS have the word itself, a boolean, or its number."""
        label = str(record.get("label"))
        if label in ("None", "-1"):
            return ""
        if label not in self.words and label.isdecimal() and int(label) < len(self.words):
            label = self.words[int(label)]
        if label not in self.words:
            raise UserError(
                f"{record['_at']}: label '{label}' is not one of {', '.join(self.words)}"
            )
        return label


def classification(
    name: str,
    source: Source,
    prefix: str,
    fields: tuple[str, ...],
    words: tuple[str, ...],
    measures: tuple[Metric, ...] = (metrics.accuracy,),
    selection: tuple[str, ...] = ("accuracy",),
    rename: Mapping[str, str] | None = None,
) -> Task:
    """A task whose format is `FieldsToText`.

    Args:
      name: the task's name.
      source: where its records are.
      prefix: what its inputs begin with: T5's name of the task.
      fields: the texts of a record in T5's order.
      words: the label words in the order of TFDS's label ids.
      measures: the metrics that T5 has for it.
      selection: names of the metrics whose mean chooses the best step.
      rename: fields that one of the files calls otherwise, its name -> ours.
    """
    return Task(
        name=name,
        source=source,
        format=FieldsToText(prefix, fields, words, rename or {}),
        label_words=words,
        postprocess=LabelId(words),
        metrics=measures,
        selection=selection,
    )
