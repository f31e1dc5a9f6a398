"""GLUE in T5's text format; T5's `glue_{name}_v002` are `glue_{name}` here. One row a task."""

from prompt_tuning_jax.tasks.classification import (
    GLUE_FILES,
    SUPER_GLUE_FILES,
    classification,
)
from prompt_tuning_jax.tasks.lines import TextFile
from prompt_tuning_jax.tasks.task import with_twins

# SST-2 as the Stanford treebank's whole sentences.
_STSA_FILES = {
    split: TextFile(f"stsa.binary.{part}", "label_text", ("label", "sentence"))
    for split, part in (("train", "train"), ("validation", "dev"), ("test", "test"))
}

TASKS = with_twins(
    classification(
        "glue",
        "sst2",
        tfds="glue/sst2:2.0.0",
        folders=("SST-2", "sst2"),
        files=(GLUE_FILES, _STSA_FILES),
        fields=("sentence",),
        words=("negative", "positive"),
    ),
    # The same pairs as SuperGLUE's RTE, whose files do as well.
    classification(
        "glue",
        "rte",
        tfds="glue/rte:2.0.0",
        folders=("RTE", "rte"),
        files=(GLUE_FILES, SUPER_GLUE_FILES),
        fields=("sentence1", "sentence2"),
        words=("entailment", "not_entailment"),
        rename={"premise": "sentence1", "hypothesis": "sentence2"},
    ),
)
