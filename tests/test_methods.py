"""The contract that every method keeps: those of methods/, found by walking it, those of
other_methods.py, and chains of either. A new file of methods/ is held to it without an edit."""

import dataclasses
import importlib
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
from contract import CHAINS, METHODS, PACKAGED, leaves, trial
from flax import linen as nn
from safetensors.numpy import load_file

from prompt_tuning_jax import artifacts, decoding, sharding, t5
from prompt_tuning_jax.optimizers import Adafactor

CONFIG = small.CONFIG
FACTS = {"backbone": {"path": "x", "fingerprint": "0", "config": CONFIG.architecture()}}
# Those that add nothing to the frozen model until they are trained.
IDENTITIES = ("Full", "LoRA", "IA3", "Adapter", "Ladder", "LlamaAdapter")
every_method = pytest.mark.parametrize("name", METHODS)


# ---- the model -----------------------------------------------------------------------------


@every_method
def test_adds_no_variable_to_the_frozen_model(name):
    method, own = METHODS[name], t5.abstract_params(CONFIG)
    tuned = jax.eval_shape(method.export, method.abstract(CONFIG, own))
    init = t5.T5(CONFIG, method).init
    variables = jax.eval_shape(init, jax.random.key(0), tuned, small.batch())
    assert nn.unbox(variables) == {"params": own}


@every_method
def test_unrolled_layers_are_the_scanned_ones(name):
    t, method = trial(name), METHODS[name].exported()
    unrolled = t.job.logits(method, t.exported, scan_unroll=0)
    small.close(unrolled, t.job.logits(method, t.exported))


@pytest.mark.parametrize("name", PACKAGED | {"packaged together": None})
def test_bfloat16_activations_float32_parameters(name):
    method, theta = METHODS[name], t5.abstract_params(CONFIG)
    model = t5.T5(dataclasses.replace(CONFIG, dtype="bfloat16"), method)
    frozen, _ = jax.eval_shape(method.split, theta)

    def states_and_gradient(frozen, tuned):
        def states(tuned):
            params = {"params": method.join(frozen, tuned)}
            return model.apply(params, method.export(tuned), small.batch(), method="encode").x

        x, pull = jax.vjp(states, tuned)
        return x, pull(x)[0]

    tuned = method.abstract(CONFIG, theta)
    x, gradient = jax.eval_shape(states_and_gradient, frozen, tuned)
    assert x.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves([tuned, gradient])} == {np.dtype("float32")}


@pytest.mark.parametrize("name", IDENTITIES)
def test_an_identity_starts_as_the_plain_model(name):
    t = trial(name)
    logits = t.job.logits(t.method.exported(), t.method.export(t.start))
    small.close(logits, small.logits(small.theta(), small.batch()), 1e-6)


@pytest.mark.parametrize("name", CHAINS)
def test_greedy_decoding_is_teacher_forcing(name):
    t, method = trial(name), METHODS[name].exported()
    tuned = t.states[1]["tuned"]  # not at its start, and not yet writing one sequence by heart
    exported, theta = t.method.export(tuned), t.method.join(t.job.frozen, tuned)
    batch = small.batch([[8, 30, 1], [2], [60, 7], [9, 1]])  # not what was trained on

    @small.quick_jit
    def greedy(theta, exported, batch):
        model, rng = t5.T5(CONFIG, method), jax.random.split(jax.random.key(0), 4)
        return decoding.Greedy()(model, theta, exported, batch, 6, rng, None)

    rows = np.asarray(greedy(theta, exported, batch))
    assert len({tuple(row) for row in rows}) > 1
    batch["decoder_input_tokens"] = np.pad(rows[:, :-1], ((0, 0), (1, 0)))
    chosen = small.logits(theta, batch, CONFIG, method, exported).argmax(-1)
    ended = np.cumsum(rows == decoding.EOS, 1) - (rows == decoding.EOS) > 0
    assert np.array_equal(rows, np.where(ended, 0, chosen))


# ---- training ------------------------------------------------------------------------------


@every_method
def test_only_tuned_moves(name):
    t = trial(name)
    # θ as the steps left it, put together with what was taken out of it at the start
    assert small.same(t.method.join(t.job.frozen, t.start), small.theta())
    before, after = leaves(t.start), leaves(t.tuned)
    assert [path for path in before if np.array_equal(before[path], after[path])] == []
    # Adam's two slots for each tuned leaf, and nothing for what is frozen
    slots = sorted(leaf.shape for leaf in leaves(t.states[0]["opt_state"]).values() if leaf.ndim)
    assert slots == sorted(2 * [leaf.shape for leaf in before.values() if leaf.ndim])


@every_method
def test_the_loss_falls(name):
    losses = trial(name).losses
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.03


@every_method
def test_axes_name_every_dimension_of_tuned(name):
    t = trial(name)
    known = {axis for axis, _ in sharding.standard_logical_axis_rules()} | {None}

    def check(leaf, names):
        assert isinstance(names, tuple) and len(names) == leaf.ndim
        assert set(names) <= known
        if names and names[0] == "layers":
            assert leaf.shape[0] in (CONFIG.num_encoder_layers, CONFIG.num_decoder_layers)

    jax.tree.map(check, t.tuned, t.job.axes)
    tx = Adafactor().build(t.job.axes)
    slots = jax.eval_shape(tx.init, t.tuned)
    updates, _ = jax.eval_shape(tx.update, t.tuned, slots, t.tuned)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, t.tuned)


@pytest.mark.parametrize("name", ["ClippedPrompt", "others together"])
def test_constrain_follows_every_update(name):
    limit = np.float32(other_methods.ClippedPrompt().limit)
    for state in trial(name).states[1:]:
        (rows,) = [leaf for path, leaf in leaves(state["tuned"]).items() if "prompt" in path]
        assert np.abs(rows).max() == limit  # rows start in ±0.5: some are clipped


# ---- artifacts -----------------------------------------------------------------------------


@pytest.fixture
def artifact(name, tmp_path):
    """The trained method's artifact, written and read back."""
    t = trial(name)
    artifacts.save_artifact(tmp_path / "artifact", t.method, t.tuned, FACTS)
    return artifacts.read(tmp_path / "artifact")


def fitted(artifact):
    """An artifact's `tuned` in the structure that its own method wants."""
    return artifacts.fit(artifact, artifact.method.abstract(CONFIG, small.theta()))


@every_method
def test_an_artifact_is_exactly_what_was_exported(name, artifact):
    t, method = trial(name), METHODS[name].exported()
    assert artifact.method == method and type(artifact.method) is type(METHODS[name])
    wanted, read = leaves(t.exported), leaves(fitted(artifact))
    assert read.keys() == wanted.keys()
    assert all(small.same(read[path], wanted[path]) for path in wanted)
    logits = t.job.logits(artifact.method, fitted(artifact))
    assert np.array_equal(logits, t.job.logits(method, t.exported | {"theta": t.tuned["theta"]}))


@every_method
def test_an_artifact_holds_nothing_frozen(name, artifact):
    t, folder = trial(name), pathlib.Path(artifact.path)
    assert {file.name for file in folder.iterdir()} == {"artifact.json", "tuned.safetensors"}
    tensors = load_file(folder / "tuned.safetensors")
    theta = {path.removeprefix("theta/") for path in tensors if path.startswith("theta/")}
    assert theta == set(t.tuned["theta"])
    frozen = {leaf.tobytes() for leaf in leaves(t.job.frozen).values()}
    assert not [path for path, value in tensors.items() if value.tobytes() in frozen]
    size = sum(value.nbytes for value in tensors.values())
    assert (folder / "tuned.safetensors").stat().st_size < size + 200 * len(tensors)


@every_method
def test_an_artifact_starts_another_run(name, artifact):
    t, again = trial(name), contract.job(artifact.method, contract.one_device())
    _, report = t.job.step(t.states[-1])
    _, losses = again.run(fitted(artifact))
    small.close(losses[0], report["loss"])
    assert losses[-1] < losses[0]


@every_method
def test_exported_logits_are_those_of_training(name):
    t, method = trial(name), METHODS[name].exported()
    small.close(t.job.logits(method, t.exported), t.job.logits(t.method, t.exported), 1e-6)
    assert method.exported() == method
    assert small.same(method.export(t.exported), t.exported)


# ---- a method outside the package ----------------------------------------------------------

OUTSIDE = '''
"""A trained vector added to the decoder's states before the logits."""
import dataclasses
import jax.numpy as jnp
from prompt_tuning_jax.method import Method

@dataclasses.dataclass(frozen=True)
class Shift(Method):
    scale: float = 2.0

    def init_shared(self, rng, config, theta, start):
        return {"shift": jnp.zeros(config.emb_dim)}

    def head(self, shared, site, x, side):
        return x + self.scale * shared["shift"]
'''
READ = """
import importlib, sys
import numpy as np
import small
from prompt_tuning_jax import artifacts
from prompt_tuning_jax.errors import UserError
path, module, out = sys.argv[1:]
try:
    artifacts.read(path)
except UserError as error:
    print(error)
importlib.import_module(module)
artifact = artifacts.read(path)
tuned = artifacts.fit(artifact, artifact.method.abstract(small.CONFIG, small.theta()))
np.save(out, small.logits(small.theta(), small.batch(), small.CONFIG, artifact.method, tuned))
"""


def test_a_method_in_one_new_file_outside_the_package(tmp_path, monkeypatch):
    (tmp_path / "shift_of_mine.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    method = importlib.import_module("shift_of_mine").Shift(scale=3.0)
    t = contract.run(method, contract.one_device())
    assert t.losses[-1] < t.losses[0] - 0.03
    path, out = tmp_path / "artifact", tmp_path / "logits.npy"
    artifacts.save_artifact(path, method, t.tuned, FACTS)
    # another process, which knows the module only by its name
    folders = os.pathsep.join([str(tmp_path), str(pathlib.Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", READ, path, "shift_of_mine", out],
        env=os.environ | {"PYTHONPATH": folders},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert "shift_of_mine.Shift is not ours: import shift_of_mine" in done.stdout
    assert np.array_equal(np.load(out), t.job.logits(method, t.exported))
