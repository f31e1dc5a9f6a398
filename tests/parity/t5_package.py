"""The tasks of Google's t5 package, reading a TFDS folder; for tests."""

import importlib
import os
import pathlib

import seqio
import tensorflow_datasets as tfds
from t5.data import preprocessors

SHARED = pathlib.Path(
    os.environ.get("PROMPT_TUNING_SHARED", pathlib.Path(__file__).parents[3] / "shared")
)
_BUILT_IN = pathlib.Path(__file__).parents[2] / "prompt_tuning_jax/builtin/demo"
VOCABULARY = str(SHARED / "data/vocab/cc_all.32000.sentencepiece.model")
if not os.path.exists(VOCABULARY):
    VOCABULARY = str(_BUILT_IN / "sentencepiece.model")

# t5 names a vocabulary in Google's cloud storage, which its tasks take as they are registered.
# `t5.data.utils` as an attribute is seqio's.
importlib.import_module("t5.data.utils").DEFAULT_SPM_PATH = VOCABULARY
importlib.import_module("t5.data.tasks")

SUPER_GLUE = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "axb", "axg")
GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli_mismatched", "qnli", "rte", "wnli", "ax")
# ours -> the package's
NAMES = (
    {f"super_glue_{name}": f"super_glue_{name}_v102" for name in SUPER_GLUE}
    | {f"glue_{name}": f"glue_{name}_v002" for name in GLUE}
    | {"super_glue_wsc": "super_glue_wsc_v102_simple_eval"}
    | {"glue_mnli": "glue_mnli_v002"}
    | dict.fromkeys(["squad", "xquad_en", "mrqa_drop", "mrqa_news_qa"], "squad_v010_allanswers")
)
# Sets of which the package has no task, but the format: XQuAD's and MRQA's questions are SQuAD's.
AS_SQUAD = {
    "xquad_en": "xquad/en:3.0.0",
    "mrqa_drop": "mrqa/drop:1.0.0",
    "mrqa_news_qa": "mrqa/news_qa:1.0.0",
}
# Splits that TFDS calls otherwise, or of which ours has two.
_SPLITS = {
    ("glue_mnli", "validation"): ["validation_matched"],
    ("glue_mnli", "test"): ["test_matched"],
    ("glue_mrpc", "train"): ["train", "validation"],
    ("glue_mrpc", "validation"): ["test"],
    ("xquad_en", "validation"): ["test"],
    ("mrqa_drop", "validation"): ["test"],
}


def data_set(ours: str) -> str:
    """The TFDS data set that a task of ours reads."""
    return AS_SQUAD.get(ours) or task(ours).source.tfds_dataset.name


def task(ours: str, split: str = "validation") -> seqio.Task:
    """The package's task for a split of ours."""
    if (ours, split) == ("super_glue_wsc", "train"):
        return seqio.TaskRegistry.get("super_glue_wsc_v102_simple_train")
    return seqio.TaskRegistry.get(NAMES[ours])


def examples(
    ours: str, split: str, data_dir: pathlib.Path, lengths: dict | None = None
) -> list[dict]:
    """The package's examples of a split in the order of the official file, as numpy.

    "inputs_pretokenized" and "targets_pretokenized" are texts, "inputs" and "targets" ids cut to
    `lengths`, and there is what the postprocessors need.
    """
    reference = task(ours, split)
    reference.source.tfds_dataset.override_data_dir(str(data_dir))
    found: list[dict] = []
    for theirs in _SPLITS.get((ours, split), [split]):
        if ours in AS_SQUAD:
            dataset = _as_squad(AS_SQUAD[ours], theirs, data_dir)
        else:
            dataset = reference.get_dataset(lengths, theirs, shuffle=False)
        found += dataset.as_numpy_iterator()
    return sorted(found, key=_place)


def _place(example: dict) -> tuple:
    parts = ("idx", "idx/paragraph", "idx/passage", "idx/question", "idx/query", "idx/answer", "id")
    numbers = [example[part] for part in parts if part in example]
    return (*numbers, example["targets_pretokenized"])


def _as_squad(name: str, split: str, data_dir: pathlib.Path):
    records = tfds.load(name, data_dir=data_dir, split=split)
    if name.startswith("mrqa"):
        records = records.map(
            lambda record: {
                "id": record["qid"],
                "question": record["question"],
                "context": record["context"],
                "answers": {"text": record["answers"]},
            }
        )
    dataset = preprocessors.squad(records)
    return seqio.preprocessors.tokenize(dataset, task("squad").output_features)
