"""A task before anything is trained on it: splits, label words, metrics, tokens, what is cut.

python -m prompt_tuning_jax.show_task super_glue_rte --data_dir=FOLDER
"""

if __name__ == "__main__":
    from prompt_tuning_jax.launch import main

    raise SystemExit(main("show_task"))

import os
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from prompt_tuning_jax import data, scoring, tasks
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.corpora import Stream
from prompt_tuning_jax.tasks.task import Task
from prompt_tuning_jax.vocabulary import Vocabulary

_LINES = 4  # at most, of a text, its ids or its pieces
_SCORED = 1000  # examples whose own targets are scored, to learn what the metrics are called


def show_task(
    *,
    mixture_or_task_name: Any,
    task_feature_lengths: dict[str, int],
    mixture_or_task_module: str | None = None,
    data_dir: str | None = None,
    split: str | None = None,
    examples: int = 3,
    vocabulary_file: str | None = None,
    extra_ids: int = 100,
    initial_checkpoint_path: str | None = None,
) -> None:
    """Prints what a task is, or each task of a mixture.

    split: the only one to look at; None: all. The vocabulary is vocabulary_file, else the
    backbone's, else $PROMPT_TUNING_VOCABULARY, else the built-in backbone's. A split that cannot be
    read says why; UserError where none can.
    """
    if examples < 0:
        raise UserError(f"EXAMPLES = {examples}: 0 or more")
    vocabulary, whose = _vocabulary(vocabulary_file, extra_ids, initial_checkpoint_path)
    mixture = tasks.mixture(mixture_or_task_name, mixture_or_task_module)
    read: list[dict[str, data.TokenSet]] = []
    unread: list[dict[str, UserError]] = []
    for task, _ in mixture:
        read.append({})
        unread.append({})
        for name in (split,) if split else task.source.splits:
            try:
                # the table says what is cut
                read[-1][name] = data.tokenise(
                    task, name, vocabulary, task_feature_lengths, data_dir, warn=False
                )
            except UserError as error:
                unread[-1][name] = error
    if not any(read):
        raise next(iter(unread[0].values()))
    print(f"vocabulary {vocabulary.model_file} ({whose}),")
    print(f"  {vocabulary.pieces} pieces and {vocabulary.extra_ids} sentinels")
    for (task, rate), splits, errors in zip(mixture, read, unread, strict=True):
        print()
        print(task.name if len(mixture) == 1 else f"{task.name}, rate {rate}")
        lines = [*_facts(task, splits.values()), "", *_table(splits.values())]
        for name, tokens in splits.items():
            few = f", its first {len(tokens)} rows" if isinstance(task.source, Stream) else ""
            lines.append(f"  {name:12} from {task.source.origin(name, data_dir)}{few}")
        for name, reason in errors.items():
            lines += _wrapped(str(reason), " " * 15, start=f"  {name:12} ")
        first = next(iter(splits.values()), None)
        if first is not None:
            for index in range(min(examples, len(first))):
                lines += ["", f"  {task.name}/{first.split}, example {index}"]
                lines += _example(first, index)
        print("\n".join(lines))


def _vocabulary(file: str | None, extra_ids: int, backbone: str | None) -> tuple[Vocabulary, str]:
    """A vocabulary, and why it is this one."""
    if file is not None:
        return Vocabulary(file, extra_ids), "as given"
    named = os.environ.get("PROMPT_TUNING_VOCABULARY")
    if named and backbone is None:
        return Vocabulary(named, extra_ids), "$PROMPT_TUNING_VOCABULARY"
    from prompt_tuning_jax import backbones  # imports jax

    if backbone is not None:
        return backbones.vocabulary(backbone), f"that of {backbone}"
    whose = "the built-in backbone's; --vocabulary=FILE for another"
    return backbones.vocabulary("builtin://demo"), whose


def _facts(task: Task, splits: Iterable[data.TokenSet]) -> Iterator[str]:
    yield f"  label words  {', '.join(task.label_words) or 'none: free text'}"
    yield f"  metrics      {', '.join(_metrics(task, splits))}"
    yield f"  selection    {' and '.join(task.selection)}"


def _metrics(task: Task, splits: Iterable[data.TokenSet]) -> list[str]:
    """The metrics' names, which their results alone have."""
    if not task.metrics:
        return ["none: it is not decoded"]
    for tokens in splits:
        if scoring.labelled(tokens.examples):
            few = tokens.examples[:_SCORED]
            return list(scoring.score(task, few, [example["targets"] for example in few]))
    return ["only a split with labels tells"]


def _table(splits: Iterable[data.TokenSet]) -> Iterator[str]:
    """Sizes, and tokens of inputs and targets, EOS included: median, 95 %, longest, and the cut."""
    yield f"  {'split':12} {'examples':>8}  {'tokens':8} {'median':>6} {'95 %':>6} {'max':>6}  cut"
    for tokens in splits:
        start = f"{tokens.split:12} {len(tokens):8}"
        for feature, cut in tokens.cut.items():
            sizes = getattr(tokens, feature).lengths + 1
            median, most = np.percentile(sizes, (50, 95))
            share = f"{cut} ({100 * cut / len(tokens):.1f} %) at {tokens.lengths[feature]}"
            if tokens.task.objective:
                share = f"none: its objective fills {tokens.lengths[feature]}"
            yield (f"  {start:21}  {feature:8} {median:6.0f} {most:6.0f} {max(sizes):6}  {share}")
            start = ""


def _example(tokens: data.TokenSet, index: int) -> Iterator[str]:
    """One example's texts, and their ids and pieces as the model sees them."""
    shown: Mapping[str, str] = tokens.examples[index]
    for feature, ids in zip(("inputs", "targets"), tokens.pair(index, [index]), strict=True):
        whole = len(getattr(tokens, feature)[index]) + 1
        cut = f", cut from {whole}" if whole > len(ids) and not tokens.task.objective else ""
        text = tokens.vocabulary.decode(ids) if tokens.task.objective else shown[feature]
        yield from _block(feature, text)
        yield from _block(f"{len(ids)} ids{cut}", " ".join(map(str, ids)))
        yield from _block("pieces", " ".join(map(tokens.vocabulary.piece, ids)))


def _block(title: str, text: str) -> list[str]:
    """A title and a text, whose middle is left out after `_LINES` lines."""
    lines = _wrapped(text.replace("\n", "\\n") or "(empty)", " " * 6)
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], "      …", lines[-1]]
    return [f"    {title}", *lines]


def _wrapped(text: str, indent: str, start: str = "") -> list[str]:
    """Lines as wide as the terminal, the first of which begins with `start`."""
    width = max(shutil.get_terminal_size((100, 24)).columns, 40)
    return textwrap.wrap(text, width, initial_indent=start or indent, subsequent_indent=indent)
