"""What a prompt's rows start from (Lester et al. 2021, section 3.2).

A start is a frozen dataclass of two steps. `read(vocabulary, label_words)` runs on the host, once,
and returns a tree of arrays (token ids, rows of a file); `rows(rng, length, embedding, read)` is
traceable and returns [P,D] from θ's embedding table [V,D].
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning_jax import numpy_files
from prompt_tuning_jax.errors import UserError

SPECIAL = 3  # pad, eos and unk come first in T5's vocabulary and are no words


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Uniform in [low, high): the paper's [-0.5, 0.5); Google's released code has [0, 0.5)."""

    low: float = -0.5
    high: float = 0.5

    def read(self, vocabulary, label_words):
        return {}

    def rows(self, rng, length, embedding, read):
        shape = (length, embedding.shape[1])
        return jax.random.uniform(rng, shape, minval=self.low, maxval=self.high)


@dataclasses.dataclass(frozen=True)
class SampledVocabulary:
    """Embeddings of `size` most common tokens, drawn without replacement.

    SentencePiece orders its pieces by frequency, so these are the ids that follow pad, eos and
    unk; sentinels are never drawn. Fewer tokens than rows: drawn with replacement.
    """

    size: int = 5000

    def __post_init__(self):
        if self.size < 1:
            raise UserError(f"SampledVocabulary.size = {self.size}: at least one token is needed")

    def read(self, vocabulary, label_words):
        # an array's length is static, so the draw can be traced
        return {"ids": np.arange(SPECIAL, min(SPECIAL + self.size, vocabulary.pieces))}

    def rows(self, rng, length, embedding, read):
        ids = read["ids"]
        return embedding[jax.random.choice(rng, ids, (length,), replace=length > ids.shape[0])]


def _mean_of_pieces(ids: list[list[int]]) -> dict[str, np.ndarray]:
    """Rows of one or more pieces -> padded ids [k,m] and weights [k,m] that average them."""
    width = max(map(len, ids), default=1)
    padded = np.zeros((len(ids), width), np.int32)
    weights = np.zeros((len(ids), width), np.float32)
    for row, pieces in enumerate(ids):
        padded[row, : len(pieces)] = pieces
        weights[row, : len(pieces)] = 1 / len(pieces)
    return {"ids": padded, "weights": weights}


@dataclasses.dataclass(frozen=True)
class ClassLabels:
    """One row a label word, the mean of its pieces' embeddings; the rest from `fill`.

    labels: the words, None for the task's own label words (a task of free text has none).
    """

    labels: tuple[str, ...] | None = None
    fill: SampledVocabulary = SampledVocabulary()

    def __post_init__(self):
        if self.labels is not None:
            object.__setattr__(self, "labels", tuple(self.labels))

    def read(self, vocabulary, label_words):
        words = self.labels if self.labels is not None else tuple(label_words)
        if not words:
            logging.warning(
                "ClassLabels: the task has no label words, all rows are sampled vocabulary"
            )
        pieces = [vocabulary.encode(word) for word in words]
        empty = [word for word, ids in zip(words, pieces, strict=True) if not ids]
        if empty:
            raise UserError(f"ClassLabels: {empty[0]!r} has no pieces in the vocabulary")
        return {"words": _mean_of_pieces(pieces), "fill": self.fill.read(vocabulary, label_words)}

    def rows(self, rng, length, embedding, read):
        rows = self.fill.rows(rng, length, embedding, read["fill"])
        ids, weights = read["words"]["ids"][:length], read["words"]["weights"][:length]
        # [k,m,D] -> [k,D]
        words = jnp.einsum("km,kmd->kd", weights, embedding[ids].astype(jnp.float32))
        return rows.astype(jnp.float32).at[: words.shape[0]].set(words)


@dataclasses.dataclass(frozen=True)
class Text:
    """The embeddings of a text's pieces in their order, cut to the prompt; the rest from `fill`."""

    text: str
    fill: SampledVocabulary = SampledVocabulary()

    def read(self, vocabulary, label_words):
        pieces = vocabulary.encode(self.text)
        if not pieces:
            raise UserError(f"Text: {self.text!r} has no pieces in the vocabulary")
        return {
            "words": _mean_of_pieces([[piece] for piece in pieces]),
            "fill": self.fill.read(vocabulary, label_words),
        }

    rows = ClassLabels.rows


@dataclasses.dataclass(frozen=True)
class File:
    """The rows of a trained prompt (prompt transfer): a `.npy` [P,D], or an artifact's folder."""

    path: str

    def read(self, vocabulary, label_words):
        from prompt_tuning_jax import artifacts  # it reads methods, and they their starts

        path = pathlib.Path(self.path)
        if path.is_dir():
            tensors = artifacts.read_tensors(path)
            prompts = [v for k, v in tensors.items() if k.split("/")[-1] == "prompt"]
            if not prompts or prompts[0].ndim != 3 or not len(prompts[0]):
                raise UserError(f"{path}: the artifact holds no prompt, but {sorted(tensors)}")
            rows = prompts[0][0]
        else:
            try:
                rows = numpy_files.parsed(path.read_bytes())
            except FileNotFoundError:
                raise UserError(f"{path}: no such prompt file") from None
            except ValueError as error:
                raise UserError(f"{path}: not a NumPy array ({error})") from None
        if rows.ndim != 2 or rows.dtype.kind != "f":
            raise UserError(f"{path}: a prompt is [P, D] floats, this is {rows.dtype} {rows.shape}")
        with np.errstate(over="ignore"):
            rows = np.asarray(rows, np.float32)
        if not np.isfinite(rows).all():
            raise UserError(f"{path}: the prompt has NaN or infinite values")
        logging.info("prompt starts from %s %s", path, rows.shape)
        return {"rows": rows}

    def rows(self, rng, length, embedding, read):
        want = (length, embedding.shape[1])
        if read["rows"].shape != want:
            raise UserError(
                f"{self.path}: the prompt is {read['rows'].shape}, the run wants {want}"
            )
        return read["rows"]
