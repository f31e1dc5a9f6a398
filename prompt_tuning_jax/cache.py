"""The folder of derived data: deleting it costs time and nothing else."""

import os
import pathlib


def folder(given: str | os.PathLike | None = None) -> pathlib.Path:
    """`given`, else $PROMPT_TUNING_CACHE, else ~/.cache/prompt_tuning_jax; may not exist yet."""
    if given is None:
        given = os.environ.get("PROMPT_TUNING_CACHE") or "~/.cache/prompt_tuning_jax"
    return pathlib.Path(given).expanduser()


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file, at once or not at all, so that no reader or crash ever leaves half of one.

    Raises:
      OSError: the folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_bytes(content)
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)
