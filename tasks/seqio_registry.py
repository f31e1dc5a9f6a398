"""Importing this registers every task and mixture of the project with seqio, sentinel_ ones too.

The vocabulary is $PROMPT_TUNING_VOCABULARY, a SentencePiece model file, else T5's own in Google's
cloud storage; official files are read from $PROMPT_TUNING_DATA_DIR, else TFDS is. For other choices
see `seqio_adapter.register`.
"""

import os

import seqio

from prompt_tuning_jax import tasks
from prompt_tuning_jax.tasks import sentinel, seqio_adapter

T5_VOCABULARY = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"

for _name in tasks.names():
    _task = tasks.get(_name)
    for _variant in (_task,) if _task.objective else (_task, sentinel.twin(_task)):
        seqio_adapter.register(
            _variant,
            os.environ.get("PROMPT_TUNING_VOCABULARY") or T5_VOCABULARY,
            data_dir=os.environ.get("PROMPT_TUNING_DATA_DIR") or None,
        )

for _name, _rates in tasks.mixtures().items():
    for _prefix in ("", sentinel.PREFIX):
        seqio.MixtureRegistry.add(
            _prefix + _name, [(_prefix + task, rate) for task, rate in _rates.items()]
        )
