"""SuperGLUE in T5's text format; T5's `super_glue_{name}_v102` are `super_glue_{name}` here.

One row a task.
"""

import functools

from prompt_tuning_jax.tasks import metrics
from prompt_tuning_jax.tasks.classification import SUPER_GLUE_FILES, classification
from prompt_tuning_jax.tasks.task import with_twins

TASKS = with_twins(
    classification(
        "super_glue",
        "boolq",
        tfds="super_glue/boolq:1.0.2",
        folders=("BoolQ", "boolq"),
        files=(SUPER_GLUE_FILES,),
        fields=("passage", "question"),
        words=("False", "True"),
    ),
    classification(
        "super_glue",
        "cb",
        tfds="super_glue/cb:1.0.2",
        folders=("CB", "cb"),
        files=(SUPER_GLUE_FILES,),
        fields=("hypothesis", "premise"),
        words=("entailment", "contradiction", "neutral"),
        measures=(functools.partial(metrics.mean_f1, num_classes=3), metrics.accuracy),
        selection=("mean_3class_f1", "accuracy"),
    ),
    classification(
        "super_glue",
        "rte",
        tfds="super_glue/rte:1.0.2",
        folders=("RTE", "rte"),
        files=(SUPER_GLUE_FILES,),
        fields=("hypothesis", "premise"),
        words=("entailment", "not_entailment"),
    ),
)
