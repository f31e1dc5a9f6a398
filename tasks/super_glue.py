"""SuperGLUE in T5's text format; T5's `super_glue_{name}_v102` are `super_glue_{name}` here.

One row a task, and the mixture of the benchmark. WSC is T5's `wsc_simple`.
"""

import functools
from collections.abc import Mapping

from prompt_tuning_jax.tasks import answers, groups, metrics, reading, winograd
from prompt_tuning_jax.tasks.classification import FieldsToText, classification
from prompt_tuning_jax.tasks.lines import TextFile
from prompt_tuning_jax.tasks.sources import Official, Tfds
from prompt_tuning_jax.tasks.task import LabelId, Task, with_twins

_ENTAILMENT = ("entailment", "not_entailment")
_TRUTH = ("False", "True")


def _official(folder: str, tfds: str, **settings) -> Official:
    """The task's folder of JSONL files, under its own name or in lower case."""
    names = {"train": "train", "validation": "val", "test": "test"}
    return Official(
        folders=(folder, folder.lower()),
        files={split: (TextFile(f"{name}.jsonl"),) for split, name in names.items()},
        tfds=Tfds(f"super_glue/{tfds}:1.0.2"),
        **settings,
    )


def _diagnostic(folder: str, tfds: str) -> Official:
    """A diagnostic set: one file, the test split, whose labels the benchmark gives away."""
    return Official(
        folders=(folder, folder.lower()),
        files={"test": (TextFile(f"{folder}.jsonl"),)},
        tfds=Tfds(f"super_glue/{tfds}:1.0.2", ("test",)),
    )


# A pair is two lines in turn, as for jiant, the benchmark's toolkit; TFDS drops the file's pair_id.
_AXG = groups.Grouped(LabelId(_ENTAILMENT), lambda example: example["idx"] // 2)
_MULTIRC = groups.Grouped(LabelId(reading.MULTIRC_WORDS), reading.question)

TASKS = with_twins(
    classification(
        "super_glue_boolq",
        _official("BoolQ", "boolq"),
        prefix="boolq",
        fields=("passage", "question"),
        words=_TRUTH,
    ),
    classification(
        "super_glue_cb",
        _official("CB", "cb"),
        prefix="cb",
        fields=("hypothesis", "premise"),
        words=("entailment", "contradiction", "neutral"),
        measures=(functools.partial(metrics.mean_f1, num_classes=3), metrics.accuracy),
        selection=("mean_3class_f1", "accuracy"),
    ),
    classification(
        "super_glue_copa",
        _official("COPA", "copa"),
        prefix="copa",
        fields=("choice1", "choice2", "premise", "question"),
        words=("choice1", "choice2"),
    ),
    Task(
        name="super_glue_multirc",
        source=_official("MultiRC", "multirc", flatten=reading.multirc_records),
        format=reading.multirc_examples,
        label_words=reading.MULTIRC_WORDS,
        postprocess=_MULTIRC.postprocess,
        target=_MULTIRC.target,
        metrics=(groups.of_values(metrics.f1), groups.group_exact_match),
        selection=("f1", "exact_match"),
    ),
    Task(
        name="super_glue_record",
        source=_official("ReCoRD", "record", flatten=reading.record_records),
        format=reading.record_examples,
        postprocess=reading.record_prediction,
        target=reading.record_target,
        metrics=(groups.of_first(answers.squad),),
        selection=("em", "f1"),
    ),
    classification(
        "super_glue_rte",
        _official("RTE", "rte"),
        prefix="rte",
        fields=("hypothesis", "premise"),
        words=_ENTAILMENT,
    ),
    classification(
        "super_glue_wic",
        _official("WiC", "wic"),
        prefix="wic",
        fields=("sentence1", "sentence2", "word"),
        words=_TRUTH,
    ),
    Task(
        name="super_glue_wsc",
        source=winograd.TrueReferents(
            _official("WSC", "wsc.fixed", flatten=winograd.repaired_records)
        ),
        format=winograd.examples,
        postprocess=winograd.names_referent,
        target=winograd.label,
        metrics=(metrics.accuracy,),
    ),
    # Both diagnostics are put as RTE.
    classification(
        "super_glue_axb",
        _diagnostic("AX-b", "axb"),
        prefix="rte",
        fields=("hypothesis", "premise"),
        words=_ENTAILMENT,
        measures=(metrics.matthews_corrcoef, metrics.accuracy),
        selection=("matthews_corrcoef",),
        rename={"sentence1": "premise", "sentence2": "hypothesis"},
    ),
    Task(
        name="super_glue_axg",
        source=_diagnostic("AX-g", "axg"),
        format=FieldsToText("rte", ("hypothesis", "premise"), _ENTAILMENT),
        label_words=_ENTAILMENT,
        postprocess=_AXG.postprocess,
        target=_AXG.target,
        metrics=(groups.of_values(metrics.accuracy), groups.gender_parity),
    ),
)

# T5's mixture: the training examples, but for WSC those whose span is the referent.
_EXAMPLES = {
    "super_glue_boolq": 9427.0,
    "super_glue_cb": 250.0,
    "super_glue_copa": 400.0,
    "super_glue_multirc": 27243.0,
    "super_glue_record": 138854.0,
    "super_glue_rte": 2490.0,
    "super_glue_wic": 5428.0,
    "super_glue_wsc": 259.0,
}
MIXTURES: dict[str, Mapping[str, float]] = {
    "super_glue_proportional": _EXAMPLES,
    "taskless_super_glue_proportional": {
        f"taskless_{name}": rate for name, rate in _EXAMPLES.items()
    },
}
