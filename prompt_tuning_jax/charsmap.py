"""The table by which a SentencePiece model normalises text, looked through before it is used.

SentencePiece follows its references without a look at where they lead: a damaged table makes the
process crash, or hands out other memory's content. The format (sentencepiece's normalizer.cc): the
bytes of a Darts double array, that array of uint32, and texts that end in zero.
"""

from __future__ import annotations

import numpy as np

_LEAF, _WIDE = 1 << 31, 1 << 9  # a unit that holds a place in the texts; one whose offset is x 256


def check(table: bytes) -> None:
    """ValueError where the table leads out of itself; one of no bytes is none, and sound."""
    if not table:
        return
    size = int.from_bytes(table[:4], "little")
    array, texts = table[4 : 4 + size], table[4 + size :]
    if len(array) != size or size == 0 or size % 1024 or texts[-1:] != b"\0":
        raise ValueError("no such sizes")
    units = np.frombuffer(array, "<u4").astype(np.int64)
    leaf = (units & _LEAF) != 0
    offsets = (units >> 10) << np.where(units & _WIDE, 8, 0)
    # from a unit one goes on to place ^ offset ^ byte, whose leaf is in its own block of 256
    ends = (np.arange(len(units)) ^ offsets) | 255
    if (ends[~leaf] >= len(units)).any() or ((units[leaf] & ~_LEAF) >= len(texts)).any():
        raise ValueError("it leads out of itself")
    try:
        texts.decode()
    except UnicodeDecodeError:
        raise ValueError("no UTF-8 texts") from None
