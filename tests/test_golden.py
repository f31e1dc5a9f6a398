"""Our numbers against those of transformers and PEFT, stored in tests/golden/*.npz.

Made anew by `PYTHONPATH=tests .venv-parity/bin/python tests/parity/make_golden.py`; `make parity`
compares much more, but needs torch.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import weights

from prompt_tuning_jax import decoding, t5
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.relative_positions import bucket

FOLDER = pathlib.Path(__file__).parent / "golden"
TOLERANCE = 1e-5


@pytest.fixture(params=weights.CONFIGS)
def case(request):
    """A configuration, its θ, and the golden values."""
    config = weights.CONFIGS[request.param]
    with np.load(FOLDER / f"{request.param}.npz") as golden:
        return config, weights.theta(config), dict(golden)


def assert_close(ours, golden):
    assert np.abs(np.asarray(ours) - golden).max() <= TOLERANCE * np.abs(golden).max()


def test_logits_and_loss(case):
    config, theta, golden = case
    batch = weights.batch(config)
    logits = jax.jit(t5.T5(config).apply)({"params": theta}, t5.EMPTY, batch)
    assert_close(logits, golden["logits"])
    sums = Loss().sums(logits, batch)
    assert_close(sums.loss / sums.tokens, golden["loss"])


@pytest.mark.parametrize(("sees_input", "name"), [(True, "prompt"), (False, "apart")])
def test_loss_and_gradient_of_a_prompt(case, sees_input, name):
    """apart: the reference joins the rows to every example and hides the input from them."""
    config, theta, golden = case
    batch, rows = weights.batch(config), weights.prompt(config)
    method, shares = Prompt(len(rows), sees_input=sees_input), Loss().weights(batch)
    model = t5.T5(config, method)

    def objective(rows):
        tuned = t5.EMPTY | {"shared": {"prompt": rows[None]}}
        logits = model.apply({"params": theta}, tuned, batch)
        return (Loss().tokens(logits, batch["decoder_target_tokens"])[0] * shares).sum()

    loss, gradient = jax.jit(jax.value_and_grad(objective))(jnp.asarray(rows))
    assert_close(loss, golden[f"{name}_loss"])
    assert_close(gradient, golden[f"{name}_gradient"])


@pytest.mark.parametrize(
    ("name", "decoder"), [("greedy", decoding.Greedy()), ("beam", decoding.Beam(4))]
)
def test_generations(case, name, decoder):
    config, theta, golden = case
    batch = weights.batch(config, **weights.GENERATED)
    ours = weights.generate(t5.T5(config), theta, t5.EMPTY, batch, weights.LENGTH, decoder)
    assert weights.until_end(ours) == weights.until_end(golden[name])


def test_buckets_of_distances():
    with np.load(FOLDER / "buckets.npz") as golden:
        distance = jnp.arange(-300, 301)
        np.testing.assert_array_equal(bucket(distance, True), golden["bidirectional"])
        np.testing.assert_array_equal(bucket(distance, False), golden["causal"])
