"""Importing this registers every task and mixture of the project with seqio.

The vocabulary is $PROMPT_TUNING_VOCABULARY, a SentencePiece model file, else T5's own in Google's
cloud storage; official files are read from $PROMPT_TUNING_DATA_DIR, else TFDS is. For other choices
see `seqio_adapter.register`.
"""

import os

import seqio

from prompt_tuning_jax import tasks
from prompt_tuning_jax.tasks import seqio_adapter

T5_VOCABULARY = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"

for _name in tasks.names():
    seqio_adapter.register(
        tasks.get(_name),
        os.environ.get("PROMPT_TUNING_VOCABULARY") or T5_VOCABULARY,
        data_dir=os.environ.get("PROMPT_TUNING_DATA_DIR") or None,
    )

for _name, _rates in tasks.mixtures().items():
    seqio.MixtureRegistry.add(_name, list(_rates.items()))
