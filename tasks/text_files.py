"""A user's own dataset as a task, from gin alone: files, templates, label words.

A gin file says, for instance:

    MIXTURE_OR_TASK_NAME = @text_files.Text()
    text_files.Text:
      name = 'reviews'
      train = 'reviews/train.jsonl'
      validation = 'reviews/dev.jsonl'
      inputs = 'review: {text}'
      targets = '{stars}'
      label_words = {'0': 'bad', '1': 'good'}
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import metrics as known_metrics
from prompt_tuning_jax.tasks.lines import TextFile, text_of
from prompt_tuning_jax.tasks.sources import Files
from prompt_tuning_jax.tasks.task import Example, LabelId, Task, same_text

# A brace written twice, or a field.
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


def Text(
    name: str,
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    format: str | None = None,
    fields: Sequence[str] | None = None,
    inputs: str = "{text}",
    targets: str = "{label}",
    label_words: Mapping | Sequence[str] | None = None,
    metrics: Sequence[str] = ("accuracy",),
) -> Task:
    """A text-to-text task out of JSONL, TSV, CSV or `label text` files.

    Args:
      name: what results call the task.
      train: the file of this split, None where there is none; so validation and test.
      format: "jsonl", "tsv", "csv" or "label_text"; None to go by the files' extensions.
      fields: the columns' names, where the first line of a TSV or CSV file does not give them, or
        instead of ("label", "text") for `label text` lines.
      inputs: template of the inputs; {field} is the record's field, {{ and }} are braces.
      targets: template of the targets.
      label_words: for a closed set of targets what the filled template becomes, {"0": "negative"},
        or the words alone where it is one of them already; None for free text.
      metrics: names of metrics in tasks/metrics.py; their mean chooses the best step.

    Raises:
      UserError: no file at all, a template with stray braces, an unknown format or metric. Reading
        the examples raises it for a record that lacks something, file and line named.
    """
    paths = {"train": train, "validation": validation, "test": test}
    columns = None if fields is None else tuple(fields)
    files = {split: TextFile(path, format, columns) for split, path in paths.items() if path}
    if not files:
        raise UserError(f"task {name}: name a file for train, validation or test")
    for file in files.values():
        file.known_format()
    if label_words is not None and not isinstance(label_words, Mapping):
        label_words = {word: word for word in label_words}
    words = {str(label): str(word) for label, word in (label_words or {}).items()}
    closed = tuple(dict.fromkeys(words.values()))
    return Task(
        name=name,
        source=Files(files),
        format=_Templates(_checked(inputs), _checked(targets), words),
        label_words=closed,
        postprocess=LabelId(closed) if closed else same_text,
        metrics=tuple(known_metrics.named(metric, closed) for metric in metrics),
        selection=tuple(metrics),
    )


@dataclasses.dataclass(frozen=True)
class _Templates:
    inputs: str
    targets: str
    words: Mapping[str, str]

    def __call__(self, record: dict) -> list[Example]:
        target = _filled(self.targets, record)
        if self.words and target not in self.words:
            raise UserError(
                f"{record['_at']}: label '{target}' is not one of label_words "
                f"{', '.join(self.words)}"
            )
        inputs = _filled(self.inputs, record)
        return [{"inputs": inputs, "targets": self.words.get(target, target)}]


def _checked(template: str) -> str:
    rest = _BRACES.sub("", template)
    if "{" in rest or "}" in rest:
        raise UserError(f"template '{template}': a brace that is no {{field}}; write it twice")
    return template


def _filled(template: str, record: dict) -> str:
    def part(braces: re.Match) -> str:
        field = braces[1]
        if not field:
            return braces[0][0]
        value = record.get(field)
        if isinstance(value, bool | int | float):
            return str(value)
        return text_of(record, field, f"template '{template}'")

    return _BRACES.sub(part, template)
