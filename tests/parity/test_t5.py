"""Our T5 against transformers' in torch, the same random weights in both."""

import dataclasses
import functools

import compared
import huggingface_state
import jax
import numpy as np
import pytest
import reference
import torch
from golden import weights

from prompt_tuning_jax import decoding, t5
from prompt_tuning_jax.losses import Loss

CONFIGS = weights.CONFIGS | {
    # more layers in the decoder, attention narrower than the model
    "deep_decoder": t5.T5Config(
        vocab_size=96,
        emb_dim=64,
        num_heads=4,
        head_dim=8,
        num_encoder_layers=1,
        num_decoder_layers=4,
        mlp_dim=96,
        dropout_rate=0.0,
    ),
}
TOLERANCE = 1e-5  # of a row's largest value; the project promises 1e-4


@functools.cache
def pair(name, family="t5"):
    """Our model, its θ and transformers' with the same."""
    config = CONFIGS[name]
    theta = weights.theta(config)
    return t5.T5(config), theta, reference.build(config, theta, family)


def check_logits_and_loss(model, theta, torch_model, batch):
    logits = jax.jit(model.apply)({"params": theta}, t5.EMPTY, batch)
    with torch.no_grad():
        theirs = torch_model(**reference.tensors(batch))
    compared.rows("logits, examples", logits, theirs.logits.numpy(), TOLERANCE)
    sums = Loss().sums(logits, batch)
    compared.close("losses with padding", sums.loss / sums.tokens, theirs.loss.item(), TOLERANCE)


@pytest.mark.parametrize(
    ("name", "family"), [*((name, "t5") for name in CONFIGS), ("t5_1_1", "mt5")]
)
def test_logits_and_loss(name, family):
    model, theta, torch_model = pair(name, family)
    check_logits_and_loss(model, theta, torch_model, weights.batch(model.config))


@pytest.mark.parametrize("name", ["t5_1_1", "t5_1_0"])
def test_logits_and_loss_beyond_the_last_bucket_of_distances(name):
    model, theta, torch_model = pair(name)
    batch = weights.batch(model.config, rows=4, inputs=300, targets=140)
    check_logits_and_loss(model, theta, torch_model, batch)


def test_logits_and_loss_of_unrolled_and_rematerialised_layers():
    model, theta, torch_model = pair("t5_1_1")
    config = dataclasses.replace(model.config, scan_unroll=0, remat_policy="full")
    check_logits_and_loss(t5.T5(config), theta, torch_model, weights.batch(config))


def test_label_smoothing_is_torchs_less_the_entropy():
    batch = weights.batch(CONFIGS["t5_1_1"])
    vocabulary, s = CONFIGS["t5_1_1"].vocab_size, 0.1
    logits = weights.normal(0, "logits", (*batch["decoder_target_tokens"].shape, vocabulary))
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits).flatten(0, 1),
        reference.tensors(batch)["labels"].flatten(),
        # torch spreads the mass over all words, the target too; T5X over the others
        label_smoothing=s * vocabulary / (vocabulary - 1),
    )
    entropy = -(1 - s) * np.log(1 - s) - s * np.log(s / (vocabulary - 1))
    sums = Loss(label_smoothing=s).sums(logits, batch)
    assert float(sums.loss / sums.tokens) == pytest.approx(theirs.item() - entropy, rel=TOLERANCE)


@pytest.mark.parametrize("name", ["t5_1_1", "t5_1_0"])
def test_gradient_of_every_parameter(name):
    model, theta, torch_model = pair(name)
    batch = weights.batch(model.config)
    shares = Loss().weights(batch)

    def objective(theta):
        logits = model.apply({"params": theta}, t5.EMPTY, batch)
        return (Loss().tokens(logits, batch["decoder_target_tokens"])[0] * shares).sum()

    ours = jax.jit(jax.grad(objective))(theta)
    torch_model.zero_grad()
    torch_model(**reference.tensors(batch)).loss.backward()
    state = {k: v.grad.numpy() for k, v in torch_model.named_parameters()}
    wanted = jax.tree.leaves(huggingface_state.to_theta(state, model.config))
    compared.rows("gradients of parameters", jax.tree.leaves(ours), wanted, TOLERANCE)


def check_generation(name, decoder, **options):
    model, theta, torch_model = pair(name)
    batch = weights.batch(model.config, **weights.GENERATED)
    ours = weights.generate(model, theta, t5.EMPTY, batch, weights.LENGTH, decoder)
    wanted = reference.generate(torch_model, batch, weights.LENGTH, **options)
    kind = f"{'beam' if options else 'greedy'} generations"
    compared.same(kind, weights.until_end(ours), weights.until_end(wanted))
    # generations of several lengths: some end, others are cut
    lengths = {len(row) for row in weights.until_end(wanted)}
    assert len(lengths) >= 3 and weights.LENGTH in lengths


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy(name):
    check_generation(name, decoding.Greedy())


@pytest.mark.parametrize("name", CONFIGS)
def test_beam(name):
    check_generation(name, decoding.Beam(4), beams=4)


@pytest.mark.parametrize(("beams", "alpha"), [(4, -1.0), (4, 2.0), (7, 0.6)])
def test_beam_width_and_length_penalty(beams, alpha):
    check_generation("t5_1_1", decoding.Beam(beams, alpha), beams=beams, alpha=alpha)
