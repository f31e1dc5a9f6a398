"""Artifacts: what a run leaves behind, the tuned parameters alone.

    artifact.json       {"format", "method", "backbone", "task", "step", "metrics", "sha256"}
    tuned.safetensors   the exported `tuned` by path, float32

Anything that starts from an artifact takes a backbone too, and refuses one that is not its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError
from safetensors.numpy import load, save

from prompt_tuning_jax import folders, hosts, settings, strict_json, t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Method, Tree
from prompt_tuning_jax.t5 import LARGEST, T5Config

FORMAT = 1
PARTS = ("shared", "encoder", "decoder")


@dataclasses.dataclass(frozen=True)
class Artifact:
    """method and tuned: as exported (no reparametrisation); facts: artifact.json."""

    path: str
    method: Method
    tuned: Tree
    facts: dict[str, Any]


def save_artifact(
    path: str | os.PathLike, method: Method, tuned: Tree, facts: dict[str, Any]
) -> None:
    """Exports `tuned` and writes the folder whole or not at all. Of several processes, all call it
    and the first writes.

    facts: "backbone" {"path", "fingerprint", "config"}, "task", "step", "metrics" and what else
    describes the run, JSON values.
    """
    target = pathlib.Path(path)
    exported = jax.tree.map(_fetched, method.export(tuned))
    if not hosts.first():
        return
    theta = exported.pop("theta", {})
    # "theta" is flat already: its paths keep their slashes behind one "theta/"
    flat = traverse_util.flatten_dict(exported, sep="/") | {
        f"theta/{k}": v for k, v in theta.items()
    }
    # ascontiguousarray would make a scalar a vector
    tensors = save({k: np.array(v, order="C") for k, v in flat.items()})
    facts = {
        "format": FORMAT,
        "method": settings.encode(method.exported()),
        **facts,
        "sha256": hashlib.sha256(tensors).hexdigest(),
    }
    with folders.replaced(target) as folder:
        (folder / "tuned.safetensors").write_bytes(tensors)
        (folder / "artifact.json").write_text(json.dumps(facts, indent=2) + "\n")


def _fetched(leaf: Any) -> np.ndarray:
    values = hosts.whole(leaf)
    # a leaf at a time: the other processes have no use for it
    return values if hosts.first() else np.zeros(0)


def read_facts(path: str | os.PathLike) -> dict[str, Any]:
    """artifact.json, checked."""
    file = folders.whole(pathlib.Path(path)) / "artifact.json"
    try:
        facts = strict_json.loads(file.read_bytes())
        if facts["format"] == FORMAT:
            own = facts["backbone"]
            T5Config(**own["config"]), own["path"], own["fingerprint"]
            facts["method"]["class"], facts["sha256"]
            _check_used(facts)
    except FileNotFoundError:
        raise UserError(f"{path}: no artifact there (no artifact.json)") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not an artifact's description ({error!r:.300})") from None
    if facts["format"] != FORMAT:
        raise UserError(f"{file}: format {facts['format']!r:.40}, this version reads {FORMAT}")
    return facts


def _check_used(facts: dict[str, Any]) -> None:
    """ValueError where what predictions are made with is not of its type."""
    own, lengths = facts["backbone"], facts.get("lengths", {})
    for name in ("path", "vocabulary_file"):
        if not isinstance(own.get(name), str | None):
            raise ValueError(f"backbone.{name} is no text")
    if own.get("vocabulary_file") and type(own["extra_ids"]) is not int:
        raise ValueError("backbone.extra_ids is no whole number")
    if lengths and (
        set(lengths) != {"inputs", "targets"}
        or not all(type(n) is int and 0 < n <= LARGEST for n in lengths.values())
    ):
        raise ValueError("lengths are no numbers of tokens")
    if not isinstance(facts.get("sentinel"), bool | None):
        raise ValueError("sentinel is neither true nor false")


def read_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors by path; UserError for a broken file, a wrong checksum, or a NaN."""
    file = folders.whole(pathlib.Path(path)) / "tuned.safetensors"
    facts = read_facts(path)
    try:
        content = file.read_bytes()
        tensors = load(content)
    except (OSError, SafetensorError, KeyError) as error:  # KeyError: a dtype that NumPy has not
        raise UserError(f"{file}: cannot be read ({error})") from None
    for name, value in tensors.items():
        if not jnp.issubdtype(value.dtype, np.floating):
            raise UserError(f"{file}: {name} is {value.dtype}, not floating-point numbers")
        if not np.isfinite(value).all():
            raise UserError(f"{file}: {name} has NaN or infinite values")
    if hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise UserError(f"{file}: its checksum is not the one in artifact.json")
    return tensors


def read(path: str | os.PathLike) -> Artifact:
    """An artifact of any method."""
    facts = read_facts(path)
    try:
        method = settings.decode(facts["method"])
        hash(method)  # what is compiled goes by it
    except (UserError, TypeError) as error:
        raise UserError(f"{path}/artifact.json: {error}") from None
    if not isinstance(method, Method):
        raise UserError(f"{path}/artifact.json: {facts['method']['class']} is not a Method")
    flat = read_tensors(path)
    theta = {k.removeprefix("theta/"): v for k, v in flat.items() if k.startswith("theta/")}
    own = {k: v for k, v in flat.items() if not k.startswith("theta/")}
    within = [k for k in own for start in own if k.startswith(f"{start}/")]
    if within or not all(k.partition("/")[2] for k in own):
        raise UserError(f"{path}/tuned.safetensors: names that make no tree: {sorted(own)!r:.300}")
    tree = {part: {} for part in PARTS} | traverse_util.unflatten_dict(own, sep="/")
    return Artifact(str(path), method, tree | {"theta": theta}, facts)


def check_backbone(artifact: Artifact, fingerprint: str, config: T5Config) -> None:
    """UserError unless the backbone of this fingerprint and architecture is the artifact's own."""
    own = artifact.facts["backbone"]
    there = T5Config(**own["config"]).architecture()
    for name, value in config.architecture().items():
        if there[name] != value:
            raise UserError(
                f"{artifact.path}: it belongs to {own['path']} with {name} = {there[name]}, "
                f"not {value}"
            )
    if own["fingerprint"] != fingerprint:
        raise UserError(
            f"{artifact.path}: it belongs to {own['path']} (fingerprint {own['fingerprint']}), the "
            f"backbone given has {fingerprint}"
        )


def shapes(artifact: Artifact, config: T5Config) -> Tree:
    """The shapes of what the artifact's method has for a model of this configuration.

    UserError where its settings do not go with the model.
    """
    try:
        return artifact.method.abstract(config, t5.abstract_params(config))
    except (UserError, OverflowError) as error:
        raise UserError(f"{artifact.path}/artifact.json: {error}") from None


def fit(artifact: Artifact, want: Tree) -> Tree:
    """The artifact's `tuned` in the structure of `want`, a tree of shapes; UserError where not.

    The empty branches of `want` (a layer without parameters) are not in the file.
    """
    shapes = {k: tuple(v.shape) for k, v in flatten(want).items()}
    there = flatten(artifact.tuned)
    for kind, names in (
        ("missing", sorted(set(shapes) - set(there))),
        ("extra", sorted(set(there) - set(shapes))),
        ("misshapen", [k for k in shapes if k in there and there[k].shape != shapes[k]]),
    ):
        if names:
            sizes = (
                f" ({there[names[0]].shape}, wanted {shapes[names[0]]})"
                if kind == "misshapen"
                else ""
            )
            raise UserError(f"{artifact.path}: {kind} tensors: {', '.join(names)}{sizes}")
    return jax.tree_util.tree_map_with_path(lambda path, _: there[_name(path)], want)


def flatten(tree: Tree) -> dict[str, Any]:
    """A `tuned` tree's leaves by "/"-joined path."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path) -> str:
    return "/".join(str(key.key) for key in path)
