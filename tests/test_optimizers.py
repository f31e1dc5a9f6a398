"""Adafactor against the paper's algorithm in float64 numpy, stacks against separate parameters,
schedules at points worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from prompt_tuning_jax import t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.methods.prefix import Prefix
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.optimizers import Adafactor, LearningRate, Optax

STEPS = 4


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


def reference(
    start, gradients, rate=0.3, *, factored, offset=0, clip=1.0, scaled=False, decay=1e-5
):
    """Shazeer and Stern 2018, algorithms 4 and 5 without momentum, as T5X runs them: β2 at step t
    (from 1, less the offset) is 1 - t^-0.8, and weight decay does not know the rate."""
    p = np.asarray(start, np.float64)
    rows, columns, second = 0.0, 0.0, 0.0
    for t, gradient in enumerate(np.asarray(gradients, np.float64), start=1):
        beta = 1 - (t - offset) ** -0.8
        square = gradient**2 + 1e-30
        if factored:
            rows = beta * rows + (1 - beta) * square.mean(1)
            columns = beta * columns + (1 - beta) * square.mean(0)
            second = np.outer(rows, columns) / rows.mean()
        else:
            second = beta * second + (1 - beta) * square
        update = gradient / np.sqrt(second)
        if clip is not None:
            update /= max(1, rms(update) / clip)
        scale = max(rms(p), 1e-3) if scaled else 1
        p = p - rate * scale * update - decay * p
    return p


def draws(*shape, seed=0):
    """(start, gradients of STEPS steps), whose sizes differ from step to step."""
    rng = np.random.default_rng(seed)
    sizes = np.array([1, 10, 0.1, 3]).reshape(-1, *[1] * len(shape))
    rows = rng.gamma(1.0, size=shape)  # so that a second moment is neither flat nor of rank 1
    return rng.standard_normal(shape), sizes * rows * rng.standard_normal((STEPS, *shape))


def run(optimizer, names, start, gradients):
    """STEPS updates of one leaf with these logical axes."""
    tx = optimizer.build({"leaf": names})

    @small.quick_jit
    def step(leaf, slots, gradient):
        updates, slots = tx.update({"leaf": gradient}, slots, {"leaf": leaf})
        return optax.apply_updates({"leaf": leaf}, updates)["leaf"], slots

    leaf = jnp.asarray(start, jnp.float32)
    slots = tx.init({"leaf": leaf})
    for gradient in gradients:
        leaf, slots = step(leaf, slots, jnp.asarray(gradient, jnp.float32))
    return leaf


# ---- Adafactor -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "factored"),
    [
        ((100, 160), False),
        ((150, 160), True),
        ((128, 128), True),
        ((150, 127), False),
        ((200,), False),
    ],
)
def test_factored_where_both_dimensions_are_at_least_128(shape, factored):
    start, gradients = draws(*shape)
    wanted = reference(start, gradients, factored=factored)
    small.close(run(Adafactor(), (None,) * len(shape), start, gradients), wanted)
    slots = Adafactor().build({"leaf": (None,) * len(shape)}).init({"leaf": jnp.zeros(shape)})
    held = sum(leaf.size for leaf in jax.tree.leaves(slots) if leaf.ndim and leaf.size > 1)
    assert held == (sum(shape) if factored else np.prod(shape))


def test_a_prompt_of_100_rows_is_not_factored_and_one_of_150_is():
    config = t5.T5Config(emb_dim=768)
    theta = t5.abstract_params(config)
    for length, slots in ((100, 100 * 768), (150, 150 + 768)):
        method = Prompt(length)
        tuned = method.abstract(config, theta)
        tx = Adafactor().build(method.axes(config, tuned))
        state = jax.eval_shape(tx.init, tuned)
        held = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.size > 1)
        assert held == slots


@pytest.mark.parametrize(
    "choice",
    [
        {"offset": -1_100_000},
        {"clip": None},
        {"clip": 0.5},
        {"scaled": True},
        {"decay": 0.1},
        {"decay": 0.0},
        {"rate": 0.001},
    ],
    ids=str,
)
def test_every_setting(choice):
    start, gradients = draws(150, 130)
    optimizer = Adafactor(
        learning_rate=LearningRate(base_learning_rate=choice.get("rate", 0.3)),
        step_offset=choice.get("offset", 0),
        clipping_threshold=choice.get("clip", 1.0),
        multiply_by_parameter_scale=choice.get("scaled", False),
        weight_decay_rate=choice.get("decay", 1e-5),
    )
    wanted = reference(start, gradients, factored=True, **choice)
    small.close(run(optimizer, (None, None), start, gradients), wanted)
    assert not np.allclose(wanted, reference(start, gradients, factored=True), 1e-7) or not choice


def test_the_parameter_scale_has_a_floor():
    start, gradients = np.zeros((5, 5)), draws(5, 5)[1]
    optimizer = Adafactor(multiply_by_parameter_scale=True)
    wanted = reference(start, gradients, factored=False, scaled=True)
    assert np.abs(wanted).max() > 1e-4
    small.close(run(optimizer, (None, None), start, gradients), wanted)


def test_weight_decay_is_independent_of_the_rate():
    start = draws(6, 6)[0]
    for rate in (0.3, 1e-3):
        optimizer = Adafactor(LearningRate(base_learning_rate=rate), weight_decay_rate=0.25)
        after = run(optimizer, (None, None), start, np.zeros((2, 6, 6)))
        small.close(after, start * 0.75**2)


@pytest.mark.parametrize("axis", ["layers", "prompts"])
@pytest.mark.parametrize("shape", [(150, 130), (100, 130), (7,), ()], ids=str)
def test_a_stack_is_its_members_apart(axis, shape):
    members = [draws(*shape, seed=seed) for seed in range(3)]
    members[1] = (members[1][0], 100 * members[1][1])  # one whose updates must not clip the others
    start = np.stack([start for start, _ in members])
    gradients = np.stack([gradients for _, gradients in members], 1)
    optimizer = Adafactor(multiply_by_parameter_scale=True, weight_decay_rate=0.01)
    together = run(optimizer, (axis, *(None,) * len(shape)), start, gradients)
    factored = len(shape) == 2 and min(shape) >= 128
    for row, (own, its) in zip(together, members, strict=True):
        small.close(row, reference(own, its, factored=factored, scaled=True, decay=0.01))


def test_the_paper_s_recipe_is_the_default():
    assert Adafactor() == Adafactor(
        learning_rate=LearningRate("constant", 0.3),
        decay_rate=0.8,
        step_offset=0,
        clipping_threshold=1.0,
        multiply_by_parameter_scale=False,
        weight_decay_rate=1e-5,
        min_dim_size_to_factor=128,
    )


def test_a_method_s_whole_tree():
    method = Prefix(3, hidden=0)
    tuned = small.init(method, small.theta())
    tx = Adafactor().build(method.axes(small.CONFIG, tuned))

    @small.quick_jit
    def step(tuned):
        gradients = jax.tree.map(lambda leaf: leaf**2 + 1, tuned)
        return optax.apply_updates(tuned, tx.update(gradients, tx.init(tuned), tuned)[0])

    before, after = tuned["decoder"]["cross"]["key"], step(tuned)["decoder"]["cross"]["key"]
    for own, moved in zip(before, after, strict=True):
        small.close(moved, reference(own, [own**2 + 1], factored=False))


# ---- other optimizers ----------------------------------------------------------------------


def test_optax_by_name():
    start, gradients = draws(4, 5)
    rate = LearningRate("constant", 0.01)
    ours = run(
        Optax("adamw", rate, {"weight_decay": 0.1, "b1": 0.8}), (None, None), start, gradients
    )
    tx, leaf = optax.adamw(0.01, weight_decay=0.1, b1=0.8), jnp.asarray(start, jnp.float32)
    slots = tx.init(leaf)
    for gradient in gradients:
        updates, slots = tx.update(jnp.asarray(gradient, jnp.float32), slots, leaf)
        leaf += updates
    small.close(ours, leaf, 1e-6)


def test_optax_times_the_parameters_scale():
    # by hand: each layer of a stack, and an unstacked leaf as one, has its own RMS; none below 1e-3
    params = {
        "stacked": jnp.array([[3.0, 4.0], [0.0, 0.0]]),
        "whole": jnp.array([[1.0, 1.0], [7.0, 7.0]]),
    }
    axes = {"stacked": ("layers", None), "whole": (None, None)}
    rate = LearningRate("constant", 0.1)
    tx = Optax("sgd", rate, multiply_by_parameter_scale=True).build(axes)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(ones, tx.init(params), params)
    small.close(updates["stacked"], [[-0.1 * 12.5**0.5] * 2, [-0.1 * 1e-3] * 2])
    small.close(updates["whole"], [[-0.5] * 2] * 2)


def test_optax_errors():
    with pytest.raises(UserError, match="adamv"):
        Optax("adamv").build({})
    with pytest.raises(UserError, match="adam"):
        Optax("adam", options={"momentumm": 1}).build({})


# ---- schedules -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factors", "points"),
    [
        ("constant", {0: 0.5, 10_000: 0.5}),
        ("constant * linear_warmup", {0: 0.0, 25: 0.125, 100: 0.5, 900: 0.5}),
        ("rsqrt_decay", {0: 0.1, 100: 0.1, 400: 0.05, 10_000: 0.01}),
        ("constant * rsqrt_normalized_decay", {0: 0.5, 100: 0.5, 400: 0.25, 10_000: 0.05}),
        ("constant * linear_warmup * rsqrt_decay", {0: 0, 50: 0.025, 100: 0.05, 2500: 0.01}),
        ("constant*linear_decay", {0: 0.5, 100: 0.5, 300: 0.375, 700: 0.125, 900: 0, 2000: 0}),
    ],
)
def test_schedules_at_points_worked_out_by_hand(factors, points):
    rate = LearningRate(factors, base_learning_rate=0.5, warmup_steps=100, decay_steps=900)
    for step, wanted in points.items():
        assert float(rate(jnp.int32(step))) == pytest.approx(wanted, rel=1e-6), step


def test_the_optimizer_follows_the_schedule():
    rate = LearningRate("constant * linear_warmup", base_learning_rate=1.0, warmup_steps=4)
    after = run(Optax("sgd", rate), (None,), np.zeros(1), np.ones((4, 1)))
    assert float(after[0]) == pytest.approx(-(0 + 1 + 2 + 3) / 4)


def test_schedule_errors():
    with pytest.raises(UserError, match="cosine"):
        LearningRate("constant * cosine")
    with pytest.raises(UserError, match="decay_steps"):
        LearningRate("linear_decay", warmup_steps=10, decay_steps=10)
