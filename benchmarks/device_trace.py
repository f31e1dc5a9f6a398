"""JAX's own trace of what the devices do, for waiting.py and step_profile.py."""

import gzip
import json
import pathlib

import jax


def quiet() -> jax.profiler.ProfileOptions:
    """No line for each Python call, which would slow the host down."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    return options


def events(folder: pathlib.Path) -> list[dict]:
    """The events of the one trace below `folder`, in Chrome's format: ts and dur are in µs."""
    (file,) = folder.rglob("*.trace.json.gz")
    return json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
