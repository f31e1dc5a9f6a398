"""Ours at the work of `peer_work.py`; `peers.py` runs it."""

from __future__ import annotations

# ruff: noqa: E402
from prompt_tuning_jax import host_memory

host_memory.keep_freed()  # before anything allocates, as the commands do
host_memory.give_back_compilers()

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import peer_work

from prompt_tuning_jax import backbones, sharding, t5
from prompt_tuning_jax.decoding import Greedy
from prompt_tuning_jax.evaluate import _sums
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.optimizers import Adafactor
from prompt_tuning_jax.predictor import decode
from prompt_tuning_jax.training_step import update

SETTINGS = {"remat_policy": "minimal"}  # as gin_configs/models/t5_1_1.gin


def arguments() -> argparse.ArgumentParser:
    parser = peer_work.arguments()
    parser.add_argument("--rows_once", action="store_true", help="PROMPT_SEES_INPUT=False")
    parser.add_argument("--scan_unroll", type=int, default=1, help="SCAN_UNROLL")
    return parser


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


def method_of(work: peer_work.Work) -> Method:
    return Prompt(work.prompt, sees_input=not given.rows_once) if work.prompt else Method()


def start(work: peer_work.Work, method: Method):
    """(model, θ, tuned): the checkpoint's, or random values, and the prompt's rows."""
    settings = SETTINGS | {"scan_unroll": given.scan_unroll}
    if work.checkpoint:
        config = backbones.config_of(work.checkpoint, **settings)
        places = sharding.Partitioner.of().theta(config)
        theta = backbones.read(work.checkpoint, config, places).theta
    else:
        config = t5.T5Config(**settings)
        theta = jax.jit(t5.init_params, static_argnums=1)(jax.random.key(0), config)
    abstract = method.abstract(config, theta)
    tuned = jax.tree.map(lambda leaf: jnp.asarray(work.rows()).reshape(leaf.shape), abstract)
    return t5.T5(config, method), theta, tuned


def step_of(work: peer_work.Work):
    """The step of train.py -> (compiled, a function that takes it and reads its loss, the seconds
    until it could be compiled, the seconds of that)."""
    method, optimizer = method_of(work), Adafactor()
    model, theta, tuned = start(work, method)
    tx = optimizer.build(method.axes(model.config, tuned))
    state = {"tuned": tuned, "opt_state": jax.jit(tx.init)(tuned), "step": jnp.int32(0)}
    batch, rng = batch_of(work), jax.random.key(2)
    ready = peer_work.age()
    settings = {"model": model, "method": method, "tx": tx, "loss": Loss(), "microbatches": 1}
    step = jax.jit(functools.partial(update, **settings), donate_argnums=0)
    before = time.perf_counter()
    compiled = step.lower(state, theta, batch, rng).compile()
    took = time.perf_counter() - before

    def call():
        nonlocal state
        state, outcome = compiled(state, theta, batch, jax.random.fold_in(rng, 1))
        return float(outcome["loss"])

    return compiled, call, ready, took


def training(work: peer_work.Work):
    _, call, ready, compiled = step_of(work)
    times = peer_work.seconds(call, work.repeats)
    peer_work.report(train=times, compile_s=compiled, start_s=ready)


def loaded(work: peer_work.Work):
    """As `predictor.load`: the keys of rows that do not see the input are computed before."""
    model, theta, tuned = start(work, method_of(work))
    rows = jax.jit(t5.row_keys, static_argnums=0)(model, theta, tuned)
    return model, theta, tuned | ({"rows": rows} if rows else {})


def evaluation(work: peer_work.Work):
    model, theta, tuned = loaded(work)
    call = functools.partial(_sums, model, Loss(), theta, tuned, batch_of(work))
    sums = call()
    times = peer_work.seconds(lambda: float(call().loss), work.repeats)
    peer_work.report(evaluate=times, loss=float(sums.loss / sums.tokens))


def generation(work: peer_work.Work):
    model, theta, tuned = loaded(work)
    each = theta, tuned, batch_of(work), jax.random.split(jax.random.key(3), work.batch), None
    call = functools.partial(decode, model, Endless(), work.targets, *each)
    ids = call().tolist()
    times = peer_work.seconds(lambda: call().tolist(), work.repeats)
    peer_work.report(generate=times, ids=ids)


def products(work: peer_work.Work):
    multiply = jax.jit(jnp.matmul)

    def make(a, b):
        a, b = jnp.asarray(a), jnp.asarray(b)
        return lambda: multiply(a, b).block_until_ready()

    peer_work.report(products=peer_work.product_times(work, make))


if __name__ == "__main__":
    given = arguments().parse_args()
    work = peer_work.work_of(given)
    jobs = {"train": training, "evaluate": evaluation, "generate": generation}
    (jobs | {"products": products})[work.what](work)
