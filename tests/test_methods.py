"""The contract that every method keeps: those of methods/, found by walking it, those of
other_methods.py, and chains of either. A new file of methods/ is held to it without an edit."""

import dataclasses
import inspect
import json
import os
import pathlib
import subprocess
import sys

import contract
import jax
import jax.numpy as jnp
import numpy as np
import other_methods
import pytest
import small
from contract import METHODS, trial
from safetensors.numpy import load_file

from prompt_tuning_jax import artifacts, decoding, t5
from prompt_tuning_jax.method import Chain, Method, Site
from prompt_tuning_jax.methods.full import Full
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.optimizers import Adafactor

CONFIG = small.CONFIG
FACTS = {"backbone": {"path": "x", "fingerprint": "0", "config": CONFIG.architecture()}}
every_method = pytest.mark.parametrize("name", METHODS)


# ---- the model -----------------------------------------------------------------------------


@every_method
def test_adds_no_variable_to_the_frozen_model(name):
    method, own = METHODS[name], t5.abstract_params(CONFIG)
    tuned = jax.eval_shape(method.export, method.abstract(CONFIG, own))
    model = t5.T5(CONFIG, method)
    made = jax.eval_shape(model.init, jax.random.key(0), tuned, small.batch())
    assert set(made) == {"params"}
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), own)
    made = jax.tree.map(lambda leaf: (leaf.value.shape, leaf.value.dtype), made["params"], is_leaf=boxed)
    assert made == shapes


def boxed(node):
    return hasattr(node, "value")


@every_method
def test_unrolled_layers_are_the_scanned_ones(name):
    t = trial(name)
    method, exported = t.method.exported(), t.method.export(t.tuned)
    small.close(t.logits(method, exported, scan_unroll=0), t.logits(method, exported))


@pytest.fixture(scope="module")
def mesh_results(tmp_path_factory):
    """A folder with NAME.npz of every method's steps on a 2x4 mesh."""
    folder = tmp_path_factory.mktemp("mesh")
    script = pathlib.Path(__file__).with_name("on_eight_devices.py")
    flags = "--xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, script, folder], env=environment, check=True)
    return folder


@every_method
def test_a_2x4_mesh_is_one_device(name, mesh_results):
    t, results = trial(name), np.load(mesh_results / f"{name}.npz")
    small.close(results["losses"], t.losses)
    for path, leaf in contract.leaves(t.tuned).items():
        small.close(results[path], leaf, 1e-4)


# ---- training ------------------------------------------------------------------------------


@every_method
def test_only_tuned_moves(name):
    t, theta = trial(name), small.theta()
    taken = t.states[0]["tuned"]["theta"]
    assert small.same(t.method.join(t.frozen, {"theta": taken}), theta)
    still = [path for path, leaf in contract.leaves(t.states[0]["tuned"]).items()
             if np.array_equal(leaf, contract.leaves(t.tuned)[path])]
    assert still == []
    # Adam's two slots for each tuned number, and its counters
    slots = [leaf.size for leaf in jax.tree.leaves(t.states[0]["opt_state"]) if leaf.ndim]
    tuned = [leaf.size for leaf in jax.tree.leaves(t.tuned) if leaf.ndim]
    assert sum(slots) == 2 * sum(tuned)


@every_method
def test_the_loss_falls(name):
    losses = trial(name).losses
    assert losses[-1] < losses[0] - 0.03
    assert losses == sorted(losses, reverse=True)


@every_method
def test_axes_are_those_of_tuned(name):
    t = trial(name)
    sizes = dataclasses.asdict(CONFIG)
    known = {"layers", "prompts", "prompt", "prompt_embed", "embed", "vocab", "mlp", "joined_kv",
             "heads", "relpos_buckets", None}

    def check(leaf, names):
        assert isinstance(names, tuple) and len(names) == leaf.ndim and set(names) <= known
        if names and names[0] == "layers":
            assert leaf.shape[0] in (sizes["num_encoder_layers"], sizes["num_decoder_layers"])

    jax.tree.map(check, t.tuned, t.axes)
    tx = Adafactor().build(t.axes)
    slots = jax.eval_shape(tx.init, t.tuned)
    updates, _ = jax.eval_shape(tx.update, t.tuned, slots, t.tuned)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, t.tuned)


@pytest.mark.parametrize("name", ["ClippedPrompt", "others"])
def test_constrain_follows_every_update(name):
    t, (limit,) = trial(name), {m.limit for m in other_methods.ALL if hasattr(m, "limit")}
    for state in t.states[1:]:
        (rows,) = [v for k, v in contract.leaves(state["tuned"]).items() if "prompt" in k]
        assert np.abs(rows).max() == np.float32(limit)  # the start is in ±0.5: some are clipped


# ---- artifacts -----------------------------------------------------------------------------


@pytest.fixture
def artifact(name, tmp_path):
    """The trained method's artifact, written and read back."""
    t = trial(name)
    artifacts.save_artifact(tmp_path / "artifact", t.method, t.tuned, FACTS)
    return artifacts.read(tmp_path / "artifact")


def fitted(t, artifact):
    """An artifact's `tuned` in the structure that its own method wants."""
    return artifacts.fit(artifact, artifact.method.abstract(CONFIG, t.theta))


@every_method
def test_an_artifact_is_exactly_what_was_exported(name, artifact):
    t, exported = trial(name), trial(name).method.export(trial(name).tuned)
    assert artifact.method == t.method.exported()
    assert type(artifact.method) is type(t.method)
    assert contract.leaves(artifact.tuned).keys() == contract.leaves(exported).keys()
    for path, leaf in contract.leaves(exported).items():
        assert np.array_equal(contract.leaves(artifact.tuned)[path], leaf), path
    assert small.same(
        t.logits(artifact.method, fitted(t, artifact)), t.logits(t.method.exported(), exported)
    )


@every_method
def test_an_artifact_holds_nothing_frozen(name, artifact):
    t, folder = trial(name), pathlib.Path(artifact.path)
    assert {file.name for file in folder.iterdir()} == {"artifact.json", "tuned.safetensors"}
    tensors = load_file(folder / "tuned.safetensors")
    assert {k.removeprefix("theta/") for k in tensors if k.startswith("theta/")} == set(
        t.tuned["theta"]
    )
    frozen = [leaf.tobytes() for leaf in contract.leaves(t.frozen).values()]
    assert not [path for path, value in tensors.items() if value.tobytes() in frozen]
    assert sum(v.nbytes for v in tensors.values()) + 20_000 > sum(
        file.stat().st_size for file in folder.iterdir()
    )


@every_method
def test_an_artifact_starts_another_run(name, artifact):
    t, method = trial(name), artifact.method
    tuned = fitted(t, artifact)
    # the run's own method where nothing was reparametrised: the state goes on as it was
    if jax.tree.structure(tuned) == jax.tree.structure(t.tuned):
        state, report = t.step(t.states[-1] | {"tuned": tuned}, t.frozen, small.batch(), RNG)
        ours, _ = t.step(t.states[-1], t.frozen, small.batch(), RNG)
        assert small.same(state, ours)
    else:
        assert small.same(method.export(tuned), tuned)


RNG = jax.random.key(9)


# ---- exported ------------------------------------------------------------------------------


@every_method
def test_exported_logits_are_those_of_training(name):
    t = trial(name)
    exported = t.method.export(t.tuned)
    small.close(t.logits(t.method.exported(), exported), t.logits(t.method, exported), 1e-6)
    again = t.method.exported()
    assert again.exported() == again and small.same(again.export(exported), exported)
