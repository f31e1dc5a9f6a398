"""How alike a predicted answer and the right ones are, 0-100, as SQuAD's evaluation has it.

As `t5.evaluation.qa_utils`, which follows the official script of SQuAD 1.1.
"""

import collections
import re
import string

import numpy as np

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def normalised(text: str) -> str:
    """Lower case without ASCII punctuation and articles, one space between words."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def squad(targets: list[list[str]], predictions: list[str]) -> dict[str, float]:
    """Exact match "em" and overlap of words "f1", each against the most similar right answer.

    Args:
      targets: the right answers of each question, at least one.
      predictions: one text a question.
    """
    exact, overlap = [], []
    for answers, prediction in zip(targets, predictions, strict=True):
        predicted = normalised(prediction)
        right = [normalised(answer) for answer in answers]
        exact.append(predicted in right)
        overlap.append(max(_f1(answer.split(), predicted.split()) for answer in right))
    return {"em": 100 * float(np.mean(exact)), "f1": 100 * float(np.mean(overlap))}


def _f1(target: list[str], prediction: list[str]) -> float:
    common = (collections.Counter(target) & collections.Counter(prediction)).total()
    # Two empty answers share no word: 0, as in T5.
    return 2 * common / (len(target) + len(prediction)) if common else 0.0
