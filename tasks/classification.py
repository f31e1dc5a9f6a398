"""Classification tasks of GLUE and SuperGLUE: T5's `name field: value …` text, official files."""

import dataclasses
from collections.abc import Mapping

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import metrics
from prompt_tuning_jax.tasks.lines import TextFile, text_of
from prompt_tuning_jax.tasks.sources import Official, Tfds
from prompt_tuning_jax.tasks.task import Example, LabelId, Metric, Task

# How publishers name the files of a task, split -> file.
GLUE_FILES = {
    "train": TextFile("train.tsv"),
    "validation": TextFile("dev.tsv"),
    "test": TextFile("test.tsv"),
}
SUPER_GLUE_FILES = {
    "train": TextFile("train.jsonl"),
    "validation": TextFile("val.jsonl"),
    "test": TextFile("test.jsonl"),
}


@dataclasses.dataclass(frozen=True)
class FieldsToText:
    """Format of a record with named texts and a label.

    T5 sorts the fields by name (`t5.data.preprocessors.glue`), so "hypothesis" precedes "premise".
    A record without a label has the targets "", where T5 has "<unk>".

    Attributes:
      name: what the inputs begin with.
      fields: the texts, in order.
      words: the label words, in the order of label ids.
      rename: fields that another file of the same data calls otherwise, its name -> ours.
    """

    name: str
    fields: tuple[str, ...]
    words: tuple[str, ...]
    rename: Mapping[str, str]

    def __call__(self, record: dict) -> list[Example]:
        record = {self.rename.get(field, field): value for field, value in record.items()}
        texts = [f"{field}: {text_of(record, field, self.name)}" for field in self.fields]
        example = {"inputs": " ".join([self.name, *texts]), "targets": self._word(record)}
        return [example | {"idx": record["idx"]} if "idx" in record else example]

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
    benchmark: str,
    name: str,
    tfds: str,
    folders: tuple[str, ...],
    files: tuple[Mapping[str, TextFile], ...],
    fields: tuple[str, ...],
    words: tuple[str, ...],
    measures: tuple[Metric, ...] = (metrics.accuracy,),
    selection: tuple[str, ...] = ("accuracy",),
    rename: Mapping[str, str] | None = None,
) -> Task:
    """One row of a benchmark, as the task `{benchmark}_{name}`.

    Args:
      benchmark: "glue" or "super_glue".
      name: T5's name of the task, which its inputs begin with.
      tfds: the TensorFlow dataset with its version.
      folders: what the task's folder in `data_dir` may be called; `data_dir` may be that folder.
      files: publishers' file names, split -> file, the first that exists being read.
      fields: the texts of a record in T5's order.
      words: the label words in the order of TFDS's label ids.
      measures: the metrics that T5 has for it.
      selection: names of the metrics whose mean chooses the best step.
      rename: fields that one of the files calls otherwise, its name -> ours.
    """
    return Task(
        name=f"{benchmark}_{name}",
        source=Official(
            folders=(*folders, ""),
            files={split: tuple(kind[split] for kind in files) for split in files[0]},
            tfds=Tfds(tfds),
        ),
        format=FieldsToText(name, fields, words, rename or {}),
        label_words=words,
        postprocess=LabelId(words),
        metrics=measures,
        selection=selection,
    )
