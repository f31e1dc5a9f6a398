"""Texts to token ids, once: the ids are kept on disk, named after the texts and the vocabulary."""

import dataclasses
import hashlib
import io
import json
import logging
import os
import pathlib
import zipfile
from collections.abc import Iterable, Sequence

import numpy as np
import sentencepiece

from prompt_tuning_jax import cache, numpy_files
from prompt_tuning_jax.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Rows of token ids of different lengths.

    Attributes:
      values: the rows one after the other, int32 [total].
      offsets: where each row starts, and the last one ends, int64 [rows + 1].
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[Sequence[int] | np.ndarray]) -> "Ragged":
        """Of rows of ids."""
        arrays = [np.asarray(row, np.int32) for row in rows]
        offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
        return cls(np.concatenate([np.zeros(0, np.int32), *arrays]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def first(self, count: int) -> "Ragged":
        """The first `count` rows, or all where there are fewer."""
        offsets = self.offsets[: count + 1]
        return Ragged(self.values[: offsets[-1]], offsets)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each row, int64 [rows]."""
        return np.diff(self.offsets)


def encode(
    texts: Sequence[str], vocabulary: Vocabulary, cache_dir: str | os.PathLike | None = None
) -> Ragged:
    """Token ids of texts, without EOS, from the cache if they are there.

    Args:
      texts: one a row.
      vocabulary: its content is part of what the cache goes by, as the texts' is.
      cache_dir: None for the default (`cache.folder`).
    """
    # versions of SentencePiece break ties between equally likely segmentations differently
    made_by = f"{sentencepiece.__version__} {vocabulary.digest} {vocabulary.extra_ids}\n"
    digest = hashlib.sha256(made_by.encode())
    digest.update(json.dumps(list(texts)).encode())
    path = cache.folder(cache_dir) / "tokens" / f"{digest.hexdigest()[:32]}.npz"
    tokens = _load(path, len(texts), vocabulary.vocab_size)
    if tokens is None:
        tokens = Ragged.of(map(vocabulary.encode, texts))
        content = io.BytesIO()
        np.savez(content, values=tokens.values, offsets=tokens.offsets)
        try:
            cache.write(path, content.getvalue())
        except OSError as error:
            # Only speed is lost.
            logging.getLogger(__name__).warning("token cache not written: %s", error)
    return tokens


def _load(path: pathlib.Path, rows: int, ids: int) -> Ragged | None:
    """What the cache holds, or None where it holds nothing sound."""
    try:
        with zipfile.ZipFile(path) as file:
            values, offsets = (
                numpy_files.parsed(file.read(f"{name}.npy")) for name in ("values", "offsets")
            )
    except Exception:  # zip's and zlib's errors share no base class
        return None
    sound = (
        (values.dtype, offsets.dtype) == (np.int32, np.int64)
        and values.ndim == 1
        and offsets.shape == (rows + 1,)
        and (offsets[0], offsets[-1]) == (0, len(values))
        and bool((np.diff(offsets) >= 0).all())
        and (not len(values) or 0 <= values.min() <= values.max() < ids)
    )
    return Ragged(values, offsets) if sound else None
