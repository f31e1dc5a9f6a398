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

import jax
from flax import traverse_util

from prompt_tuning_jax import artifacts, backbones, sharding, t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.interop import huggingface

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
    of it in memory. format: "backbone" (ours) or "huggingface"; dtype: "float32" or "bfloat16".
    UserError where the artifact holds anything but θ: no θ alone is then the tuned model.
    """
    for name, given, known in (("FORMAT", format, FORMATS), ("DTYPE", dtype, backbones.DTYPES)):
        if given not in known:
            raise UserError(f"{name} = {given!r}: choose from {', '.join(known)}")
    own: dict[str, Any] = {}
    if artifact is not None:
        read = artifacts.read(artifact)
        own = read.facts["backbone"]
    path = initial_checkpoint_path or own.get("path")
    if vocabulary_file is None and own.get("vocabulary_file"):
        vocabulary_file, extra_ids = own["vocabulary_file"], own["extra_ids"]
    if artifact is not None:
        words = backbones.vocabulary(path, vocabulary_file, extra_ids)
        config = t5.T5Config(**own["config"])
        leaves = backbones.leaves_of(_tuned(read, path, config))
    elif path is not None:
        words = backbones.vocabulary(path, vocabulary_file, extra_ids)
        config, leaves = backbones.config_of(path), backbones.find(path).leaves
    else:
        raise UserError("give a backbone (--backbone) or an artifact of model tuning (--artifact)")
    if format == "huggingface":
        single = backbones.layers(output, leaves, config)
        cast = {name: leaf.cast(backbones.DTYPES[dtype]) for name, leaf in single.items()}
        with backbones.replaced(output) as folder:
            huggingface.write(folder, config, cast, words)
        print(f"{output}: written", file=sys.stderr)
    else:
        name = pathlib.Path(output).name
        mark = backbones.write(output, name, config, leaves, words, dtype)
        print(f"{output}: {mark}", file=sys.stderr)


def _tuned(read: artifacts.Artifact, path: str | None, config: t5.T5Config) -> Any:
    """θ as the artifact leaves it, on the host."""
    others = [name for name in artifacts.flatten(read.tuned) if not name.startswith("theta/")]
    if others:
        raise UserError(f"{read.path}: {others[0]} is no part of θ, so no θ alone is this model")
    shapes = t5.abstract_params(config)
    flat = artifacts.fit(read, read.method.abstract(config, shapes))["theta"]
    if set(flat) != set(traverse_util.flatten_dict(shapes, sep="/")):
        if path is None:
            raise UserError(f"{read.path}: it holds a part of θ, and its backbone is not known")
        mesh = sharding.make_mesh(data=1)
        backbone = backbones.read(path, config, sharding.theta_shardings(mesh, config))
        artifacts.check_backbone(read, backbone.fingerprint, config)
        flat = traverse_util.flatten_dict(jax.device_get(backbone.theta), sep="/") | flat
    return traverse_util.unflatten_dict(flat, sep="/")
