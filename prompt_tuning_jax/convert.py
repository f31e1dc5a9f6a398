"""A tuned model as a backbone of its own: an artifact of model tuning -> a backbone folder.

python -m prompt_tuning_jax.convert --artifact=MODEL_DIR/artifact --output=FOLDER
"""

if __name__ == "__main__":
    from prompt_tuning_jax.launch import main

    raise SystemExit(main("convert"))

import pathlib
import sys

import jax
from flax import traverse_util

from prompt_tuning_jax import artifacts, backbones, sharding, t5
from prompt_tuning_jax.errors import UserError


def convert(
    *,
    artifact: str,
    output: str,
    initial_checkpoint_path: str | None = None,
    vocabulary_file: str | None = None,
    extra_ids: int = 100,
) -> None:
    """Writes θ as the artifact leaves it, with its vocabulary, as a backbone folder.

    Where the artifact holds a part of θ, the rest comes from its backbone (or the one given).
    UserError where it holds anything else: no θ alone is then the tuned model.
    """
    read = artifacts.read(artifact)
    own = read.facts["backbone"]
    path = initial_checkpoint_path or own["path"]
    others = [name for name in artifacts.flatten(read.tuned) if not name.startswith("theta/")]
    if others:
        raise UserError(f"{artifact}: {others[0]} is no part of θ, so no θ alone is this model")
    config = t5.T5Config(**own["config"])
    shapes = t5.abstract_params(config)
    flat = artifacts.fit(read, read.method.abstract(config, shapes))["theta"]
    if set(flat) != set(traverse_util.flatten_dict(shapes, sep="/")):
        if path is None:
            raise UserError(f"{artifact}: it holds a part of θ, and its backbone is not known")
        mesh = sharding.make_mesh(data=1)
        backbone = backbones.read(path, config, sharding.theta_shardings(mesh, config))
        artifacts.check_backbone(read, backbone.fingerprint, config)
        flat = traverse_util.flatten_dict(jax.device_get(backbone.theta), sep="/") | flat
    if vocabulary_file is None and own["vocabulary_file"]:
        vocabulary_file, extra_ids = own["vocabulary_file"], own["extra_ids"]
    vocabulary = backbones.vocabulary(path, vocabulary_file, extra_ids)
    theta = traverse_util.unflatten_dict(flat, sep="/")
    backbones.write(output, pathlib.Path(output).name, config, theta, vocabulary)
    print(f"{output}: {backbones.fingerprint(theta)}", file=sys.stderr)
