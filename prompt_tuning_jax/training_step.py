"""One training step: what it moves, where that lies, and the program that moves it."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from prompt_tuning_jax import sharding
from prompt_tuning_jax.runs import at_rate, stacked


def first_state(tuned, opt_state):
    """What a run moves, before its first step."""
    return {
        "tuned": tuned,
        "opt_state": opt_state,
        "step": jnp.int32(0),
        # steps that were not sound and left the rest as it was
        "skipped": jnp.int32(0),
        # the best evaluation so far, and how many have passed since
        "best": {
            "step": jnp.int32(0),
            "metric": jnp.float32(-math.inf),
            "since": jnp.int32(0),
        },
    }


def places_of(state, partitioner: sharding.Partitioner, axes):
    """A NamedSharding for every leaf of a run's state, which may be shapes."""
    tuned = partitioner.tuned(axes, state["tuned"])
    return jax.tree.map(lambda _: partitioner.replicated, state) | {
        "tuned": tuned,
        "opt_state": partitioner.slots(state["opt_state"], state["tuned"], tuned),
    }


def step_for(states, *, model, optimizer, axes, alike=True, **settings):
    """The program of a step of as many runs, compiled for states that lie as `states`, arrays or
    shapes: (states, batches, seeds, rates, frozen) -> (states, reports), lists of one a run.

    axes: of `tuned`; alike: the runs have the one optimizer, else each its own rate; settings:
    `update`'s. The states given are overwritten.
    """

    def step_of_one(state, batch, seed, rate, frozen):
        rule = optimizer if alike else at_rate(optimizer, rate)
        own = {"model": model, "method": model.method, "tx": rule.build(axes)}
        rng = jax.random.fold_in(seed, state["step"] + 2)
        moved, report = update(state, frozen, batch, rng, **own, **settings)
        taken = state["step"] - state["skipped"]  # as the optimizer counts
        return moved, report | {"learning_rate": rule.learning_rate(taken)}

    def take_step(states, batches, seeds, rates, frozen):
        if len(states) == 1:
            pairs = [step_of_one(states[0], batches[0], seeds[0], rates[0], frozen)]
        else:
            # every leaf [runs,…]; the frozen weights multiply the examples of all runs at once
            each = stacked(states), stacked(batches), stacked(seeds), stacked(rates)
            found = jax.vmap(step_of_one, (0, 0, 0, 0, None))(*each, frozen)
            pairs = [jax.tree.map(lambda a, i=i: a[i], found) for i in range(len(states))]
        return [state for state, _ in pairs], [report for _, report in pairs]

    lie = [jax.tree.map(lambda leaf: leaf.sharding, state) for state in states]
    return jax.jit(take_step, donate_argnums=0, out_shardings=(lie, None))


def update(
    state, frozen, batch, rng, *, model, method, tx, loss, microbatches, size=None, skip=False
):
    """One step: gradients of `tuned` alone -> optax -> (new state, report).

    batch: seqio's EncDecFeatureConverter names, [B,T] and [B,U]; the batch is cut into
    `microbatches` of consecutive rows whose gradients are added. size: as `Loss.weights`. The
    report's "sound": loss, gradients and what becomes of `tuned` are numbers; with `skip`, a step
    that is not leaves `tuned` and the optimizer as they were, and counts as "skipped".
    """

    def objective(tuned, part, rng):
        theta = method.join(frozen, tuned)
        logits = model.apply(
            {"params": theta}, method.export(tuned), part, True, rngs={"dropout": rng}
        )
        per_token, _ = loss.tokens(logits, part["decoder_target_tokens"])
        return (per_token * part["loss_weights"]).sum(), loss.sums(logits, part)

    batch = batch | {"loss_weights": loss.weights(batch, size)}
    gradient = jax.value_and_grad(objective, has_aux=True)
    tuned = state["tuned"]
    if microbatches == 1:
        (value, sums), grads = gradient(tuned, batch, rng)
    else:

        def accumulate(total, part):
            index, rows = part
            return jax.tree.map(
                jnp.add, total, gradient(tuned, rows, jax.random.fold_in(rng, index))
            ), None

        # [B,…] -> [microbatches,B/microbatches,…]
        parts = jax.tree.map(lambda a: a.reshape(microbatches, -1, *a.shape[1:]), batch)
        like = jax.eval_shape(gradient, tuned, jax.tree.map(lambda a: a[0], parts), rng)
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
        ((value, sums), grads), _ = jax.lax.scan(
            accumulate, zeros, (jnp.arange(microbatches), parts)
        )
    updates, opt_state = tx.update(grads, state["opt_state"], tuned)
    moved = method.constrain(jax.tree.map(lambda p, u: (p + u).astype(p.dtype), tuned, updates))
    squares = sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grads))
    sound = jnp.isfinite(value + sums.loss + squares)
    for leaf in jax.tree.leaves(moved):
        sound &= jnp.isfinite(leaf).all()
    for leaf in jax.tree.leaves(opt_state):  # an optimizer may begin with an infinite value
        sound &= ~jnp.isnan(leaf).any()
    tokens = jnp.maximum(sums.tokens, 1)
    report = {
        "objective": value,
        "loss": sums.loss / tokens,
        "z_loss": sums.z_loss / tokens,
        "accuracy": 100 * sums.correct / tokens,
        "gradient_norm": jnp.sqrt(squares),
        "target_tokens": sums.tokens,
        "sound": sound,
    }
    new = {"tuned": moved, "opt_state": opt_state, "step": state["step"] + 1}
    if skip:
        new |= {
            name: jax.tree.map(lambda a, b: jnp.where(sound, a, b), new[name], state[name])
            for name in ("tuned", "opt_state")
        }
        new["skipped"] = report["skipped"] = state["skipped"] + ~sound
    return state | new, report
