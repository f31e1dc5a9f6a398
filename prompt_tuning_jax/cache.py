"""The folder of derived data: deleting it costs time and nothing else."""

import logging
import os
import pathlib
import sys

from prompt_tuning_jax.errors import naming


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
        with naming(path):
            half.write_bytes(content)
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def keep_compiled() -> None:
    """JAX keeps what it compiles in `folder()`/compiled, so that the next start only loads it.

    JAX runs what it finds there: let nobody else write to the folder. Changes nothing where JAX is
    not loaded or has such a folder (JAX_COMPILATION_CACHE_DIR); one that cannot be written costs
    speed alone.
    """
    jax = sys.modules.get("jax")
    if jax is None or jax.config.jax_compilation_cache_dir:
        return
    place = folder() / "compiled"
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK):
            raise PermissionError(f"no permission to write to {place}")
    except OSError as error:
        logging.getLogger(__name__).warning("compiled programs are not kept: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(place))
    # to load the smallest one is quicker than to compile it
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
