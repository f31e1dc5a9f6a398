"""Any backbone, or a tuned model, as a folder of ours or of Hugging Face's.

python -m prompt_tuning_jax.convert --backbone=checkpoint_1100000 --vocabulary=FILE --output=OUT
python -m prompt_tuning_jax.convert --artifact=RUN/artifact --format=huggingface --output=OUT
"""

if __name__ == "__main__":
    from prompt_tuning_jax.launch import main

    raise SystemExit(main("convert"))

import pathlib
import sys
from typing import Any

from flax import traverse_util

from prompt_tuning_jax import artifacts, backbones, fingerprint, folders, t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.interop import huggingface
from prompt_tuning_jax.interop.leaf import Checkpoint, Leaf

FORMATS = ("backbone", "huggingface")


def convert(
    *,
    output: str,
    artifact: str | None = None,
    initial_checkpoint_path: str | None = None,
    vocabulary_file: str | None = None,
    extra_ids: int = 100,
    format: str = "backbone",
    dtype: str = "float32",
) -> None:
    """Writes θ, with its vocabulary, into the folder `output`.

    artifact: of model tuning; where it holds a part of θ, the rest comes from its backbone (or the
    one given). None: the backbone as it is, whatever its format, leaf by leaf, no more than a file
    of it in memory. format: "backbone" (ours) or "huggingface"; dtype: "float32", "bfloat16" or, in
    a folder of ours, "int8". UserError where the artifact holds anything but θ: no θ alone is then
    the tuned model.
    """
    dtypes = backbones.FLOATS if format == "huggingface" else backbones.DTYPES
    for name, given, known in (("FORMAT", format, FORMATS), ("DTYPE", dtype, dtypes)):
        if given not in known:
            raise UserError(f"{name} = {given!r}: choose from {', '.join(known)}")
    own: dict[str, Any] = {}
    if artifact is not None:
        read = artifacts.read(artifact)
        own = read.facts["backbone"]
    path = initial_checkpoint_path or own.get("path")
    if vocabulary_file is None and own.get("vocabulary_file"):
        vocabulary_file, extra_ids = own["vocabulary_file"], own["extra_ids"]
    if artifact is None and path is None:
        raise UserError("give a backbone (--backbone) or an artifact of model tuning (--artifact)")
    source = path if artifact is not None or path is None else backbones.find(path)
    words = backbones.vocabulary(source, vocabulary_file, extra_ids)
    if isinstance(source, Checkpoint):
        _refuse_int8(source)
        config = backbones.config_of(source)
        leaves = backbones.layers(source.path, source.leaves, config)
    else:
        config = t5.T5Config(**own["config"])
        leaves = _tuned(read, path, config)
    backbones.check_vocabulary(words, config)
    if format == "huggingface":
        cast = {name: leaf.cast(backbones.DTYPES[dtype]) for name, leaf in leaves.items()}
        with folders.replaced(backbones.writable(output)) as folder:
            huggingface.write(folder, config, cast, words)
        mark = "written"
    else:
        name = pathlib.Path(output).resolve().name
        mark = backbones.write(output, name, config, leaves, words, dtype)
    print(f"{output}: {mark}", file=sys.stderr)


def _refuse_int8(found: Checkpoint) -> None:
    if found.quantised is not None:
        raise UserError(
            f"{found.path}: it is int8, from which its values do not come back: give the backbone "
            "that it was made from"
        )


def _tuned(read: artifacts.Artifact, path: str | None, config: t5.T5Config) -> dict[str, Leaf]:
    """θ as the artifact leaves it, layers one by one."""
    others = [name for name in artifacts.flatten(read.tuned) if not name.startswith("theta/")]
    if others:
        raise UserError(f"{read.path}: {others[0]} is no part of θ, so no θ alone is this model")
    shapes = t5.abstract_params(config)
    taken = artifacts.fit(read, artifacts.shapes(read, config))["theta"]
    leaves: dict[str, Leaf] = {}
    if set(taken) != set(traverse_util.flatten_dict(shapes, sep="/")):
        if path is None:
            raise UserError(f"{read.path}: it holds a part of θ, and its backbone is not known")
        found = backbones.find(path)
        _refuse_int8(found)
        leaves = backbones.layers(path, found.leaves, config)
        artifacts.check_backbone(read, fingerprint.of_leaves(leaves), config)
    for name, array in taken.items():
        leaf = Leaf.of(array)
        leaves |= backbones.rows(name, leaf) if "/layers/" in name else {name: leaf}
    return leaves
