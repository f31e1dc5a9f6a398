"""GLUE in T5's text format; T5's `glue_{name}_v002` are `glue_{name}` here. One row a task.

`glue_mrpc_from_qqp` and `glue_qqp_from_mrpc` are the paper's transfer between two sets of
paraphrases: one's questions, answered in the other's label words.
"""

import dataclasses
from collections.abc import Mapping

from prompt_tuning_jax.tasks import metrics, similarity
from prompt_tuning_jax.tasks.classification import classification
from prompt_tuning_jax.tasks.lines import TextFile
from prompt_tuning_jax.tasks.sources import Official, Tfds
from prompt_tuning_jax.tasks.task import LabelId, Task, with_twins

Files = Mapping[str, tuple[TextFile, ...]]

_ENTAILMENT = ("entailment", "not_entailment")
_THREE_WAY = ("entailment", "neutral", "contradiction")
_PARAPHRASE = ("not_equivalent", "equivalent")
_DUPLICATE = ("not_duplicate", "duplicate")


def _files(*kinds: Mapping[str, TextFile]) -> Files:
    """Publishers' files, split -> file, the first that exists being read."""
    return {split: tuple(kind[split] for kind in kinds) for split in kinds[0]}


_GLUE = {
    "train": TextFile("train.tsv"),
    "validation": TextFile("dev.tsv"),
    "test": TextFile("test.tsv"),
}
# SST-2 as the Stanford treebank's whole sentences.
_STSA = {
    split: TextFile(f"stsa.binary.{part}", "label_text", ("label", "sentence"))
    for split, part in (("train", "train"), ("validation", "dev"), ("test", "test"))
}
_COLA_COLUMNS = ("source", "label", "mark", "sentence")
_COLA = _GLUE | {
    "train": TextFile("train.tsv", fields=_COLA_COLUMNS),
    "validation": TextFile("dev.tsv", fields=_COLA_COLUMNS),
}
# The corpus has no development file: its labelled test file stands in.
_MSR = {
    "train": TextFile("msr_paraphrase_train.txt", "tsv"),
    "validation": TextFile("msr_paraphrase_test.txt", "tsv"),
    "test": TextFile("msr_paraphrase_test.txt", "tsv"),
}
_QQP_FILES = {split: dataclasses.replace(file, skip_short=True) for split, file in _GLUE.items()}
# SuperGLUE's RTE has the same pairs.
_JSONL = {
    "train": TextFile("train.jsonl"),
    "validation": TextFile("val.jsonl"),
    "test": TextFile("test.jsonl"),
}
_MATCHED = _GLUE | {
    "validation": TextFile("dev_matched.tsv"),
    "test": TextFile("test_matched.tsv"),
}
_MISMATCHED = {
    "validation": TextFile("dev_mismatched.tsv"),
    "test": TextFile("test_mismatched.tsv"),
}
# As TFDS, GLUE's own script and its site call them.
_AX_FILES = (
    "AX.tsv",
    "diagnostic/diagnostic.tsv",
    "diagnostic.tsv",
    "diagnostic-full.tsv",
    "glue_diagnostic-full.tsv",
)


def _official(folder: str, tfds: str, files: Files, *others: str, **settings) -> Official:
    """The task's folder, under its own name, TFDS's or others."""
    return Official(
        folders=(folder, tfds, *others),
        files=files,
        tfds=Tfds(f"glue/{tfds}:2.0.0", tuple(files), **settings),
    )


def _paraphrases(
    name: str, source: Official, fields: tuple[str, ...], words: tuple[str, ...]
) -> Task:
    return classification(
        f"glue_{name}",
        source,
        prefix=name,
        fields=fields,
        words=words,
        measures=(metrics.f1, metrics.accuracy),
        selection=("f1", "accuracy"),
        rename={
            "Quality": "label",
            "#1 String": "sentence1",
            "#2 String": "sentence2",
            "is_duplicate": "label",
        },
    )


def _mnli(name: str, source: Official) -> Task:
    return classification(
        f"glue_{name}",
        source,
        prefix="mnli",
        fields=("hypothesis", "premise"),
        words=_THREE_WAY,
        rename={"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
    )


@dataclasses.dataclass(frozen=True)
class Translated:
    """Postprocess of a text in another task's label words, of which `word` is part.

    As google-research/prompt-tuning's `qqp_to_mrpc`: each `word` becomes `ours`.
    """

    word: str
    ours: str
    label_id: LabelId

    def __call__(self, text: str, example: dict) -> int:
        return self.label_id(text.replace(self.word, self.ours), example)


def _transfer(to: Task, source: Official, learnt_on: Task) -> Task:
    """`to`'s validation split for a model that learnt another task."""
    return dataclasses.replace(
        to,
        name=f"{to.name}_from_{learnt_on.name.removeprefix('glue_')}",
        source=dataclasses.replace(source, files={"validation": source.files["validation"]}),
        label_words=learnt_on.label_words,
        postprocess=Translated(
            learnt_on.label_words[1], to.label_words[1], LabelId(to.label_words)
        ),
    )


_MRPC_SOURCE = _official("MRPC", "mrpc", _files(_GLUE, _MSR))
_QQP_SOURCE = _official("QQP", "qqp", _files(_QQP_FILES))
_MRPC = _paraphrases("mrpc", _MRPC_SOURCE, ("sentence1", "sentence2"), _PARAPHRASE)
_QQP = _paraphrases("qqp", _QQP_SOURCE, ("question1", "question2"), _DUPLICATE)

TASKS = with_twins(
    classification(
        "glue_cola",
        _official("CoLA", "cola", _files(_COLA)),
        prefix="cola",
        fields=("sentence",),
        words=("unacceptable", "acceptable"),
        measures=(metrics.matthews_corrcoef,),
        selection=("matthews_corrcoef",),
    ),
    classification(
        "glue_sst2",
        _official("SST-2", "sst2", _files(_GLUE, _STSA)),
        prefix="sst2",
        fields=("sentence",),
        words=("negative", "positive"),
    ),
    _MRPC,
    Task(
        name="glue_stsb",
        source=_official("STS-B", "stsb", _files(_GLUE)),
        format=similarity.examples,
        label_words=similarity.WORDS,
        postprocess=similarity.number,
        metrics=(metrics.pearson_corrcoef, metrics.spearman_corrcoef),
        selection=("pearson_corrcoef", "spearman_corrcoef"),
    ),
    _QQP,
    _mnli(
        "mnli",
        _official(
            "MNLI",
            "mnli",
            _files(_MATCHED),
            renamed={"validation": "validation_matched", "test": "test_matched"},
        ),
    ),
    _mnli("mnli_mismatched", _official("MNLI", "mnli_mismatched", _files(_MISMATCHED))),
    classification(
        "glue_qnli",
        _official("QNLI", "qnli", _files(_GLUE)),
        prefix="qnli",
        fields=("question", "sentence"),
        words=_ENTAILMENT,
    ),
    classification(
        "glue_rte",
        _official("RTE", "rte", _files(_GLUE, _JSONL)),
        prefix="rte",
        fields=("sentence1", "sentence2"),
        words=_ENTAILMENT,
        rename={"premise": "sentence1", "hypothesis": "sentence2"},
    ),
    classification(
        "glue_wnli",
        _official("WNLI", "wnli", _files(_GLUE)),
        prefix="wnli",
        fields=("sentence1", "sentence2"),
        words=("not_entailment", "entailment"),
    ),
    # The diagnostic set: without labels, or with them in the full file, which SuperGLUE puts beside
    # AX-b's, the same pairs.
    classification(
        "glue_ax",
        _official(
            "AX",
            "ax",
            {"test": tuple(map(TextFile, _AX_FILES))},
            "AX-b",
        ),
        prefix="mnli",
        fields=("hypothesis", "premise"),
        words=_THREE_WAY,
        measures=(metrics.matthews_corrcoef, metrics.accuracy),
        selection=("matthews_corrcoef",),
        rename={
            "sentence1": "premise",
            "sentence2": "hypothesis",
            "Premise": "premise",
            "Hypothesis": "hypothesis",
            "Label": "label",
        },
    ),
    _transfer(_MRPC, _MRPC_SOURCE, learnt_on=_QQP),
    _transfer(_QQP, _QQP_SOURCE, learnt_on=_MRPC),
)
