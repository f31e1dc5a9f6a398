"""What prompt rows that do not see the input save: joined to every example, once a batch, before.

    python benchmarks/prompt_rows.py [--batch_sizes=8,32] [--rounds=7]

T5 1.1 small (random values, float32), 100 prompt rows, 128 input and 16 target tokens, no dropout.
"joined" (PROMPT_SEES_INPUT = True) has the rows in every example, "once" computes them once a
batch, "before" has their keys and values computed before (inference alone; what `evaluate` and
`infer` do). Every kind takes its turn in each round; a cell is the median of the rounds, in seconds
a batch and, in brackets, relative to the batch without a prompt ("none") or, for training, to
"joined". Prints a Markdown table.
"""

import argparse
import functools
import platform
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning_jax import decoding, host_memory, t5, training_step
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.optimizers import Adafactor

CONFIG = t5.T5Config(dropout_rate=0.0, remat_policy="minimal")
INPUTS, TARGETS, ROWS = 128, 16, 100
METHODS = {"none": Method(), "joined": Prompt(ROWS), "once": Prompt(ROWS, sees_input=False)}


def batch_of(size: int) -> dict[str, np.ndarray]:
    """Random tokens without padding."""
    draw = np.random.default_rng(0)
    inputs = draw.integers(3, CONFIG.vocab_size, (size, INPUTS), np.int32)
    targets = draw.integers(3, CONFIG.vocab_size, (size, TARGETS), np.int32)
    return {
        "encoder_input_tokens": inputs,
        "decoder_target_tokens": targets,
        "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
        "decoder_loss_weights": np.ones_like(targets),
    }


def tuned_of(method: Method, theta) -> dict:
    """Rows drawn as the method's start does."""
    init = jax.jit(functools.partial(method.init, config=CONFIG))
    return init(jax.random.key(1), theta=theta, start={}) | {"theta": {}}


def training(theta, batch):
    """Kind -> a function that takes one step."""
    calls = {}
    for name in ("joined", "once"):
        method, tuned = METHODS[name], tuned_of(METHODS[name], theta)
        tx = Adafactor().build(method.axes(CONFIG, tuned))
        state = {"tuned": tuned, "opt_state": tx.init(tuned), "step": jnp.int32(0)}
        parts = {"method": method, "tx": tx, "loss": Loss(), "microbatches": 1}
        step = jax.jit(
            functools.partial(training_step.update, model=t5.T5(CONFIG, method), **parts)
        )
        calls[name] = functools.partial(step, state, theta, batch, jax.random.key(0))
    return calls


def inference(theta, batch, run):
    """Kind -> a function that computes run(model, theta, tuned, batch)."""
    calls = {}
    for name, method in METHODS.items():
        model = t5.T5(CONFIG, method)
        tuned = t5.EMPTY if name == "none" else tuned_of(method, theta)
        jitted = jax.jit(functools.partial(run, model))
        calls[name] = functools.partial(jitted, theta, tuned, batch)
        if name == "once":
            keys = jax.jit(functools.partial(t5.row_keys, model))
            before = tuned | {"rows": keys(theta, tuned)}
            calls["before"] = functools.partial(jitted, theta, before, batch)
    return calls


def forward(model, theta, tuned, batch):
    """Teacher forcing."""
    return Loss().sums(model.apply({"params": theta}, tuned, batch), batch)


def generate(model, theta, tuned, batch):
    """Greedy decoding of all target tokens."""
    keys = jax.random.split(jax.random.key(0), len(batch["encoder_input_tokens"]))
    return decoding.Greedy()(model, theta, tuned, batch, TARGETS, keys, None)


def medians(calls, rounds: int) -> dict[str, float]:
    """Seconds of each call, the kinds taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if number:  # the first compiles
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch_sizes", default="8,32")
    parser.add_argument("--rounds", type=int, default=7)
    flags = parser.parse_args()
    theta = jax.jit(t5.init_params, static_argnums=1)(jax.random.key(0), CONFIG)
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {platform.processor()}\n")
    print("| | batch | none | joined | once | before |\n|---|---|---|---|---|---|")
    for size in map(int, flags.batch_sizes.split(",")):
        batch = batch_of(size)
        kinds = {
            "training step": (training(theta, batch), "joined"),
            "evaluation": (inference(theta, batch, forward), "none"),
            "generation": (inference(theta, batch, generate), "none"),
        }
        for kind, (calls, base) in kinds.items():
            took = medians(calls, flags.rounds)
            cells = [
                f"{took[name]:.3f} ({took[name] / took[base]:.2f})" if name in took else ""
                for name in ("none", "joined", "once", "before")
            ]
            print(f"| {kind} | {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    host_memory.keep_freed()
    main()
