"""safetensors: tensors read in pieces, and written into as many files as their size asks for."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from prompt_tuning_jax.errors import UserError, reason
from prompt_tuning_jax.interop.leaf import Leaf

DTYPES = ("F64", "F32", "F16", "BF16")


def read(file: pathlib.Path, dtypes: Sequence[str] = DTYPES) -> dict[str, Leaf]:
    """The tensors of a file, not yet read. UserError for a file that is missing or broken, and, as
    it is read, for a tensor of none of `dtypes`."""
    try:
        tensors = safe_open(file, framework="np")
        pieces = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: cannot be read ({reason(error)})") from None
    return {
        name: Leaf(
            tuple(piece.get_shape()), functools.partial(_piece, f"{file}: {name}", dtypes, piece)
        )
        for name, piece in pieces.items()
    }


def _piece(place: str, dtypes: Sequence[str], tensor, index: tuple[slice, ...]) -> np.ndarray:
    if tensor.get_dtype() not in dtypes:
        raise UserError(f"{place} is {tensor.get_dtype()}, not {', '.join(dtypes)}")
    # a scalar has no axis to cut
    return tensor[index] if index else tensor[...]


def write(
    folder: pathlib.Path, stem: str, tensors: Iterable[tuple[str, np.ndarray]], limit: int
) -> dict[str, str]:
    """Writes STEM.safetensors, or STEM-00001-of-00002.safetensors and so on, each of at most
    `limit` bytes or of one tensor; no more than a file's tensors are in memory at once.

    Returns the file's name of every tensor.
    """
    files: list[list[str]] = []
    held: dict[str, np.ndarray] = {}

    def flush():
        # "format" is what transformers looks for
        file = folder / f"{stem}.{len(files)}"
        try:
            save_file(held, file, {"format": "pt"})
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file}: cannot be written ({reason(error)})") from None
        files.append(list(held))
        held.clear()

    for name, tensor in tensors:
        if held and sum(t.nbytes for t in held.values()) + tensor.nbytes > limit:
            flush()
        # safetensors writes the memory as it lies; ascontiguousarray would make a scalar a vector
        held[name] = np.array(tensor, order="C")
    flush()
    placed: dict[str, str] = {}
    for number, names in enumerate(files):
        part = f"-{number + 1:05}-of-{len(files):05}" if len(files) > 1 else ""
        file = f"{stem}{part}.safetensors"
        (folder / f"{stem}.{number}").rename(folder / file)
        placed |= dict.fromkeys(names, file)
    return placed
