"""Ours at the work of `peer_work.py`; `peers.py` runs it."""

from __future__ import annotations

import functools
import time

import jax
import jax.numpy as jnp
import peer_work

from prompt_tuning_jax import host_memory, t5
from prompt_tuning_jax.decoding import Greedy
from prompt_tuning_jax.evaluate import _sums
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.optimizers import Adafactor
from prompt_tuning_jax.predictor import decode
from prompt_tuning_jax.train import update


class Endless(Greedy):
    """Greedy decoding that never ends a sequence."""

    def choose(self, log_probs, rng):
        return super().choose(log_probs.at[:, peer_work.EOS].set(-jnp.inf), rng)


def batch_of(work: peer_work.Work) -> dict[str, jax.Array]:
    inputs, targets = (jnp.asarray(a, jnp.int32) for a in work.tokens())
    return {
        "encoder_input_tokens": inputs,
        "decoder_input_tokens": jnp.pad(targets[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": jnp.ones_like(targets),
    }


def start(work: peer_work.Work, method: Method):
    """(model, θ, tuned) at random values."""
    config = t5.T5Config()
    theta = jax.jit(t5.init_params, static_argnums=1)(jax.random.key(0), config)
    begin = jax.jit(functools.partial(method.init, config=config))
    tuned = begin(jax.random.key(1), theta=theta, start={}) | {"theta": {}}
    return t5.T5(config, method), theta, jax.block_until_ready(tuned)


def training(work: peer_work.Work):
    """The step of train.py."""
    method, optimizer = Prompt(work.prompt), Adafactor()
    model, theta, tuned = start(work, method)
    tx = optimizer.build(method.axes(model.config, tuned))
    state = {"tuned": tuned, "opt_state": jax.jit(tx.init)(tuned), "step": jnp.int32(0)}
    batch, rng = batch_of(work), jax.random.key(2)
    ready = peer_work.age()
    settings = {"model": model, "method": method, "tx": tx, "loss": Loss(), "microbatches": 1}
    step = jax.jit(functools.partial(update, **settings), donate_argnums=0)
    before = time.perf_counter()
    step = step.lower(state, theta, batch, rng).compile()
    compiled = time.perf_counter() - before

    def call():
        nonlocal state
        state, outcome = step(state, theta, batch, jax.random.fold_in(rng, 1))
        return float(outcome["loss"])

    times = peer_work.seconds(call, work.repeats)
    peer_work.report(train=times, compile_s=compiled, start_s=ready)


def evaluation(work: peer_work.Work):
    batch, measured = batch_of(work), {}
    for name, method in {"evaluate": Prompt(work.prompt), "evaluate_plain": Method()}.items():
        model, theta, tuned = start(work, method)
        call = functools.partial(_sums, model, Loss(), theta, tuned, batch)
        measured[name] = peer_work.seconds(lambda call=call: float(call().loss), work.repeats)
    peer_work.report(**measured)


def generation(work: peer_work.Work):
    batch, measured = batch_of(work), {}
    for name, method in {"generate": Prompt(work.prompt), "generate_plain": Method()}.items():
        model, theta, tuned = start(work, method)
        key, decoder = jax.random.key(3), Endless()
        call = functools.partial(
            decode, model, decoder, work.targets, theta, tuned, batch, key, None
        )
        measured[name] = peer_work.seconds(lambda call=call: call().tolist(), work.repeats)
    peer_work.report(**measured)


def products(work: peer_work.Work):
    multiply = jax.jit(jnp.matmul)

    def make(a, b):
        a, b = jnp.asarray(a), jnp.asarray(b)
        return lambda: multiply(a, b).block_until_ready()

    peer_work.report(products=peer_work.product_times(work, make))


if __name__ == "__main__":
    host_memory.keep_freed()
    work = peer_work.work_of(peer_work.arguments().parse_args())
    jobs = {"train": training, "evaluate": evaluation, "generate": generation}
    (jobs | {"products": products})[work.what](work)
