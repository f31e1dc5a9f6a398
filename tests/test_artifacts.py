"""Artifacts: what is in them, what is refused, and replacement whole or not at all."""

import json

import numpy as np
import pytest
import small
from safetensors.numpy import load_file

from prompt_tuning_jax import artifacts, t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.methods.full import Full
from prompt_tuning_jax.methods.lora import LoRA

CONFIG, THETA = small.CONFIG, small.theta()
FACTS = {
    "backbone": {"path": "folder", "fingerprint": "abc", "config": CONFIG.architecture()},
    "step": 3,
}
METHOD = LoRA(rank=2, targets=("query",), parts=("self",))


def tuned(seed=0):
    return small.init(METHOD, THETA, seed=seed)


@pytest.fixture
def path(tmp_path):
    artifacts.save_artifact(tmp_path / "artifact", METHOD, tuned(), FACTS)
    return tmp_path / "artifact"


def test_tensors_and_facts(path):
    tensors = load_file(path / "tuned.safetensors")
    assert {name: value.shape for name, value in tensors.items()} == {
        "encoder/self/query/a": (2, 16, 2),
        "encoder/self/query/b": (2, 2, 24),
        "decoder/self/query/a": (3, 16, 2),
        "decoder/self/query/b": (3, 2, 24),
    }
    assert {value.dtype for value in tensors.values()} == {np.dtype("float32")}
    read = artifacts.read(path)
    assert read.method == METHOD
    assert read.facts["step"] == 3 and read.facts["backbone"]["fingerprint"] == "abc"


def test_a_part_of_theta_keeps_its_path(tmp_path):
    method = Full((".*norm/scale",))
    frozen, taken = method.split(THETA)
    artifacts.save_artifact(tmp_path / "a", method, t5.EMPTY | {"theta": taken}, FACTS)
    read = artifacts.read(tmp_path / "a")
    fitted = artifacts.fit(read, method.abstract(CONFIG, THETA))
    assert small.same(method.join(frozen, fitted), THETA)


def test_a_replacement_is_whole_or_not_at_all(path):
    with pytest.raises(TypeError):  # a fact that is no JSON, once the tensors are written
        artifacts.save_artifact(path, METHOD, tuned(1), FACTS | {"metrics": {"x": object()}})
    assert small.same(artifacts.read(path).tuned["encoder"], tuned(0)["encoder"])
    artifacts.save_artifact(path, METHOD, tuned(1), FACTS | {"step": 4})
    assert small.same(artifacts.read(path).tuned["encoder"], tuned(1)["encoder"])
    assert artifacts.read_facts(path)["step"] == 4
    assert [file.name for file in path.parent.iterdir()] == ["artifact"]


# ---- fit -----------------------------------------------------------------------------------


def refused(path, method, config=CONFIG):
    """The one line that says why an artifact does not fit a run's method."""
    with pytest.raises(UserError) as caught:
        artifacts.fit(artifacts.read(path), method.abstract(config, small.theta(config)))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def test_tensors_that_the_run_does_not_have(path):
    message = refused(path, LoRA(rank=2, targets=("query",), parts=("cross",)))
    assert "missing tensors: decoder/cross/query/a, decoder/cross/query/b" in message
    message = refused(path, LoRA(rank=2, targets=("query",), parts=()))
    assert "extra tensors: decoder/self/query/a, decoder/self/query/b, encoder" in message


def test_tensors_that_the_artifact_does_not_have(path):
    message = refused(path, LoRA(rank=2, targets=("query", "wo"), parts=("self", "mlp")))
    assert "missing tensors: decoder/mlp/wo/a, decoder/mlp/wo/b, encoder/mlp/wo/a" in message


def test_tensors_of_another_shape(path):
    message = refused(path, LoRA(rank=3, targets=("query",), parts=("self",)))
    assert "misshapen tensors: decoder/self/query/a, " in message
    assert "(3, 16, 2), wanted (3, 16, 3)" in message


# ---- the backbone --------------------------------------------------------------------------


def test_its_own_backbone_is_taken(path):
    artifacts.check_backbone(artifacts.read(path), "abc", CONFIG)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"emb_dim": 32}, "emb_dim = 16, not 32"),
        ({"num_decoder_layers": 2}, "num_decoder_layers = 3, not 2"),
        ({"mlp_activations": ("relu",)}, "mlp_activations"),
    ],
    ids=str,
)
def test_another_architecture_is_refused(path, choice, said):
    config = t5.T5Config(**{**CONFIG.architecture(), **choice})
    with pytest.raises(UserError, match="folder") as caught:
        artifacts.check_backbone(artifacts.read(path), "abc", config)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_another_backbone_of_the_same_width_is_refused(path):
    with pytest.raises(UserError, match="fingerprint abc.* has abd"):
        artifacts.check_backbone(artifacts.read(path), "abd", CONFIG)


def test_a_setting_that_an_older_version_did_not_have_is_its_default(path):
    facts = json.loads((path / "artifact.json").read_text())
    del facts["backbone"]["config"]["relpos_buckets"]
    (path / "artifact.json").write_text(json.dumps(facts))
    artifacts.check_backbone(artifacts.read(path), "abc", CONFIG)
