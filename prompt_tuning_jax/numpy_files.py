"""NumPy's file format (.npy), read from a file that anybody may have written.

NumPy allocates what a header says before it looks for it, and its parser of headers has errors of
many kinds; no pickle is read.
"""

from __future__ import annotations

import ast
import math
import struct

import numpy as np

LONGEST = 10_000  # bytes of a header, as in NumPy


def parsed(content: bytes) -> np.ndarray:
    """The array of a .npy file's content, of numbers or truth values.

    ValueError, and nothing else, for content that is none or whose size is not what it says.
    """
    if content[:6] != b"\x93NUMPY" or content[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("no .npy header")
    width, code = (2, "<H") if content[6] == 1 else (4, "<I")
    begin = 8 + width
    if len(content) < begin:
        raise ValueError("cut short")
    (size,) = struct.unpack_from(code, content, 8)
    text, data = content[begin : begin + size], content[begin + size :]
    try:
        if len(text) != size or size > LONGEST:
            raise ValueError
        facts = ast.literal_eval(text.decode("utf-8" if content[6] == 3 else "latin-1").strip())
        kind, shape, fortran = (facts[name] for name in ("descr", "shape", "fortran_order"))
        dtype = np.dtype(kind if isinstance(kind, str) else None)
        whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not whole or not isinstance(fortran, bool) or len(facts) != 3:
            raise ValueError
    # the parser's own limits show as any of these
    except (ValueError, KeyError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ValueError("no .npy header") from None
    if dtype.kind not in "fiub":
        raise ValueError(f"values of dtype {dtype}, no numbers")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes of values, {dtype} {shape} has another number")
    values = np.frombuffer(data, dtype)
    return values.reshape(shape, order="F" if fortran else "C")
