"""Cross-entropy, z-loss, label smoothing and normalisation, against float64 numpy."""

import functools

import jax
import numpy as np
import pytest
import small

from prompt_tuning_jax import t5, training_step
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.optimizers import LearningRate, Optax

RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.standard_normal((4, 6, 11)).astype(np.float32)
TARGETS = small.padded([[5, 1], [7, 10, 3, 2, 1], [9, 4, 1], [0]], 6)
BATCH = {
    "decoder_target_tokens": TARGETS,
    "decoder_loss_weights": (TARGETS > 0).astype(np.float32),
}


def reference(z_loss, smoothing):
    """Each token's loss [B,U]: the cross-entropy with 1 - s at the target and s / (V - 1) at every
    other token, less that distribution's entropy, plus z log(Z)^2."""
    logits = LOGITS.astype(np.float64)
    loss = np.zeros(TARGETS.shape)
    for place in np.ndindex(TARGETS.shape):
        log_z = np.log(np.exp(logits[place]).sum())
        soft = np.full(11, smoothing / 10)
        soft[TARGETS[place]] = 1 - smoothing
        entropy = -sum(p * np.log(p) for p in soft if p > 0)
        loss[place] = -(soft * (logits[place] - log_z)).sum() - entropy + z_loss * log_z**2
    return loss


@pytest.mark.parametrize("z_loss", [0.0, 1e-4, 0.1])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_every_token_s_loss(z_loss, smoothing):
    loss, z_part = Loss(z_loss, smoothing).tokens(LOGITS, TARGETS)
    small.close(loss, reference(z_loss, smoothing))
    small.close(loss - z_part, reference(0.0, smoothing))


def test_a_perfect_model_s_smoothed_loss_is_0():
    soft = np.full((1, 1, 11), 0.2 / 10)
    soft[0, 0, 4] = 0.8
    loss, _ = Loss(label_smoothing=0.2).tokens(np.log(soft).astype(np.float32), np.array([[4]]))
    assert float(loss[0, 0]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "factor",
    [None, 8.0, "NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE"],
)
def test_normalisations(factor):
    tokens, real = reference(1e-4, 0.1), TARGETS > 0
    total = (tokens * real).sum()
    wanted = {
        None: total,
        8.0: total / 8,
        "NUM_REAL_TARGET_TOKENS": total / 10,
        "NUM_TOTAL_TARGET_TOKENS": total / 24,
        # the last row is empty: three sequences
        "AVERAGE_PER_SEQUENCE": np.mean([tokens[i][real[i]].mean() for i in range(3)]),
    }
    loss = Loss(1e-4, 0.1, factor)
    per_token, _ = loss.tokens(LOGITS, TARGETS)
    assert float((per_token * loss.weights(BATCH)).sum()) == pytest.approx(wanted[factor], rel=1e-6)


def test_a_batch_of_padding_has_no_loss_and_no_nan():
    batch = {"decoder_loss_weights": np.zeros((2, 3), np.float32)}
    for factor in ("NUM_REAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE"):
        assert not np.any(Loss(normalizing_factor=factor).weights(batch))


def test_sums_count_real_tokens_alone():
    sums = Loss(z_loss=0.1).sums(LOGITS, BATCH)
    real = TARGETS > 0
    assert float(sums.tokens) == 10
    assert float(sums.correct) == ((LOGITS.argmax(-1) == TARGETS) & real).sum()
    assert float(sums.loss) == pytest.approx((reference(0.1, 0) * real).sum(), rel=1e-6)
    z_part = reference(0.1, 0) - reference(0, 0)
    assert float(sums.z_loss) == pytest.approx((z_part * real).sum(), rel=1e-5)


def test_an_unknown_normalisation():
    with pytest.raises(UserError, match="NUM_REAL_TARGET_TOKENS"):
        Loss(normalizing_factor="TOKENS")


# ---- microbatches --------------------------------------------------------------------------

METHOD = Prompt(3)
PROMPT = RNG.standard_normal((1, 3, 16)).astype(np.float32)
TX = Optax("sgd", LearningRate(base_learning_rate=1.0)).build(
    METHOD.axes(small.CONFIG, METHOD.abstract(small.CONFIG, small.theta()))
)


def gradient(loss, microbatches):
    """A step of gradient descent at rate 1 -> (gradient of the prompt, the report)."""
    step = functools.partial(
        training_step.update,
        model=t5.T5(small.CONFIG, METHOD),
        method=METHOD,
        tx=TX,
        loss=loss,
        microbatches=microbatches,
    )
    tuned = t5.EMPTY | {"shared": {"prompt": PROMPT}, "theta": {}}
    state = {"tuned": tuned, "opt_state": TX.init(tuned), "step": 0}
    after, report = small.quick_jit(step)(state, small.theta(), small.batch(), jax.random.key(0))
    return PROMPT - after["tuned"]["shared"]["prompt"], report


def test_microbatches_add_up_to_the_batch():
    # rows of 3, 5, 2 and 4 target tokens: a mean of the microbatches' means would differ
    loss = Loss(z_loss=1e-2)
    whole, report = gradient(loss, 1)
    parts, summed = gradient(loss, 4)
    small.close(parts, whole)
    for name, value in report.items():
        assert float(summed[name]) == pytest.approx(float(value), rel=1e-5), name


def test_the_step_s_gradient_is_that_of_its_objective():
    loss = Loss(z_loss=1e-2, label_smoothing=0.1)
    whole, report = gradient(loss, 1)
    real = np.nonzero(small.batch()["decoder_loss_weights"])
    targets = small.batch()["decoder_target_tokens"][real]

    def objective(prompt):
        tuned = t5.EMPTY | {"shared": {"prompt": prompt}}
        logits = small.logits(small.theta(), small.batch(), method=METHOD, tuned=tuned)
        total = 0.0
        for row, target in zip(logits[real].astype(np.float64), targets, strict=True):
            log_z = np.log(np.exp(row).sum())
            soft = np.full(96, 0.1 / 95)
            soft[target] = 0.9
            total += (soft * (np.log(soft) - row + log_z)).sum() + 1e-2 * log_z**2
        return total / len(targets)

    assert float(report["objective"]) == pytest.approx(objective(PROMPT), rel=1e-5)
    # a central difference along the gradient
    way = whole / np.linalg.norm(whole)
    slope = (objective(PROMPT + 0.01 * way) - objective(PROMPT - 0.01 * way)) / 0.02
    assert float(np.linalg.norm(whole)) == pytest.approx(slope, rel=1e-2)
    assert float(report["gradient_norm"]) == pytest.approx(slope, rel=1e-2)
