"""Pre-training where documents mark what the rest of them tells: "anna - mill. she is[ anna]."

Two objectives, called as those of `pretraining.py`: span corruption of the marked spans (salient
span masking: Guu et al. 2020, arXiv 2002.08909; Roberts et al. 2020, arXiv 2002.08910), and LM
adaptation by prefixes that end where one of them begins.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from prompt_tuning_jax.tasks import pretraining

if TYPE_CHECKING:
    from prompt_tuning_jax.vocabulary import Vocabulary

# Around a span, the first before the space of its first word. Each is one piece, and in no text.
OPEN, CLOSE = "[]"


def unmarked(text: str) -> str:
    """The document without its marks."""
    return text.replace(OPEN, "").replace(CLOSE, "")


def span_corruption(
    ids: Sequence[int] | np.ndarray,
    rng: np.random.Generator,
    vocabulary: "Vocabulary",
    lengths: Mapping[str, int],
) -> tuple[np.ndarray, np.ndarray]:
    """All marked spans in the targets: "a[ b] c[ d]" -> "a <0> c <1>", "<0> b <1> d".

    Args, returns and raises as `pretraining.span_corruption`; nothing is drawn or cut.
    """
    text, told, _ = _read(ids, vocabulary)
    return pretraining.corrupt(text, told, vocabulary)


def prefix_lm(
    ids: Sequence[int] | np.ndarray,
    rng: np.random.Generator,
    vocabulary: "Vocabulary",
    lengths: Mapping[str, int],
) -> tuple[np.ndarray, np.ndarray]:
    """A document continued from one of its marked spans on: "a[ b] c[ d]" -> "a b c", "d".

    Any span from which the rest fits into `lengths["targets"]` is as likely; where none does, it
    is the last one, and the rest is cut. Args and returns as `pretraining.prefix_lm`.
    """
    text, _, starts = _read(ids, vocabulary)
    fitting = starts[len(text) - starts < lengths["targets"]]
    start = rng.choice(fitting) if len(fitting) else starts[-1]
    return text[:start], text[start : start + lengths["targets"] - 1]


def _read(
    ids: Sequence[int] | np.ndarray, vocabulary: "Vocabulary"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The text without marks [n], what of it is marked [n] bool, and where each span begins."""
    ids = np.asarray(ids, np.int32)
    opens, closes = (ids == mark for mark in _marks(vocabulary))
    kept = ~(opens | closes)
    marked = np.cumsum(opens) > np.cumsum(closes)
    return ids[kept], marked[kept], np.cumsum(kept)[opens]


@functools.cache
def _marks(vocabulary: "Vocabulary") -> tuple[int, int]:
    """The ids of both marks, as they are behind a word."""
    return vocabulary.encode(f"a{OPEN}")[-1], vocabulary.encode(f"a{CLOSE}")[-1]
