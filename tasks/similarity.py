"""STS-B: how alike two sentences are, 0 to 5, as one of 26 numbers that a model can say.

As `stsb` of `t5.data.preprocessors` and `string_to_float` of `t5.data.postprocessors`.
"""

import math

import numpy as np

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.lines import number_of, text_of
from prompt_tuning_jax.tasks.task import Example

WORDS = tuple(f"{fifths / 5:.1f}" for fifths in range(26))


def examples(record: dict) -> list[Example]:
    """The two sentences, and their score to the nearest 0.2, "" where it is not known (-1)."""
    texts = [f"{field}: {text_of(record, field, 'stsb')}" for field in ("sentence1", "sentence2")]
    example: Example = {"inputs": " ".join(["stsb", *texts]), "targets": _word(record)}
    if "idx" in record:
        example["idx"] = number_of(record, "idx", "stsb")
    return [example]


def number(text: str, example: Example) -> float:
    """The number that a text is, -1 where it is none (or infinite, which T5 lets pass)."""
    try:
        value = float(text)
    except ValueError:
        return -1.0
    return value if math.isfinite(value) else -1.0


def _word(record: dict) -> str:
    # The files call it "score", TFDS "label".
    score = record.get("score", record.get("label", -1))
    try:
        value = float(score)
    except (TypeError, ValueError):
        value = math.nan
    if value == -1:
        return ""
    if not 0 <= value <= 5:
        raise UserError(f"{record['_at']}: score {score!r} is no number from 0 to 5")
    # T5 rounds a float32 product, halves to even.
    return WORDS[int(np.rint(np.float32(value) * np.float32(5)))]
