"""Files and arrays of a folder, on a local disk or at gs://, through tensorstore."""

from __future__ import annotations

import functools
import pathlib
import re
from typing import Any

import numpy as np
import tensorstore

from prompt_tuning_jax import strict_json
from prompt_tuning_jax.errors import UserError, reason
from prompt_tuning_jax.interop.leaf import Leaf

# far away storage that does not answer is given up after about half a minute, not after many
CONTEXT = tensorstore.Context(
    {"gcs_request_retries": {"max_retries": 6, "initial_delay": "500ms", "max_delay": "8s"}}
)
ARRAYS = {".zarray": "zarr", "zarr.json": "zarr3"}  # an array's own file -> tensorstore's driver


def remote(path: str) -> bool:
    """Whether a path is at gs://."""
    return path.startswith("gs://")


def kvstore(path: str) -> dict[str, Any]:
    """tensorstore's specification of a folder. UserError for a gs:// address without a bucket."""
    if not remote(path):
        # tensorstore takes no ".."
        return {"driver": "file", "path": f"{pathlib.Path(path).resolve()}/"}
    found = re.fullmatch(r"gs://([^/]+)/*(.*?)/*", path)
    if not found:
        raise UserError(f"{path}: an address is gs://BUCKET/FOLDER")
    folder = f"{found[2]}/" if found[2] else ""
    return {"driver": "gcs", "bucket": found[1], "path": folder}


def below(store: dict[str, Any], name: str) -> dict[str, Any]:
    """The specification of a folder in a folder."""
    return store | {"path": f"{store.get('path', '')}{name}/"}


def read(store: dict[str, Any], name: str) -> bytes | None:
    """A file's content, None where there is none. UserError where the storage does not answer."""
    try:
        found = tensorstore.KvStore.open(store, context=CONTEXT).result().read(name).result()
    except ValueError as error:
        raise UserError(f"{_shown(store)}{name}: cannot be read ({reason(error)})") from None
    return found.value if found.state == "value" else None


def arrays(store: dict[str, Any]) -> dict[str, str]:
    """The arrays that lie in a folder, by name -> tensorstore's driver.

    UserError where the folder cannot be listed.
    """
    try:
        keys = tensorstore.KvStore.open(store, context=CONTEXT).result().list().result()
    except ValueError as error:
        raise UserError(f"{_shown(store)}: cannot be read ({reason(error)})") from None
    pairs = (key.decode().rpartition("/") for key in keys)
    return {folder: ARRAYS[file] for folder, _, file in pairs if file in ARRAYS}


def array(store: dict[str, Any], driver: str = "zarr") -> Leaf:
    """A zarr array, not yet read. UserError where it is not there.

    A chunk whose file is lost is an error when it is read: zarr itself would give zeros, unless a
    value to fill with is written beside the array (zarr 3 always has one, and so never notices).
    """
    _check_description(store, next(file for file, kind in ARRAYS.items() if kind == driver))
    spec = {"driver": driver, "kvstore": store}
    open_array = functools.partial(tensorstore.open, read=True, open=True, context=CONTEXT)
    try:
        if driver == "zarr":
            values = open_array(spec | {"fill_missing_data_reads": False}).result()
        if driver != "zarr" or values.fill_value is not None:
            values = open_array(spec).result()
    except ValueError as error:
        raise UserError(f"{_shown(store)}: cannot be read ({reason(error)})") from None

    def piece(index):
        try:
            return np.asarray(values[index].read().result())
        except ValueError as error:
            raise UserError(f"{_shown(store)}: cannot be read ({reason(error)})") from None

    return Leaf(tuple(values.shape), piece)


def _check_description(store: dict[str, Any], file: str) -> None:
    """UserError for JSON nested so deep that tensorstore's parser would end the process."""
    content = read(store, file)
    if content is not None:
        try:
            strict_json.loads(content)
        except ValueError as error:
            raise UserError(f"{_shown(store)}{file}: cannot be read ({reason(error)})") from None


def _shown(store: dict[str, Any]) -> str:
    base = store.get("base")
    if base is not None:
        return f"{_shown(base)}{store.get('path', '')}"
    bucket = f"gs://{store['bucket']}/" if "bucket" in store else ""
    return f"{bucket}{store['path']}"
