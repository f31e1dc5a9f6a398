"""What padding costs on SuperGLUE's real lengths, and what is left of it in buckets and packed.

    python benchmarks/padding.py --shared=../shared --parity=.venv-parity/bin/python

RTE's and CB's training sets and BoolQ's validation set (its training set is not at hand), mixed by
their sizes, prompt tuning (100 rows) of a T5 1.1 small of random values, BATCH_SIZE 32. Four ways
to lay out a step's examples: padded to 512; to the batch's longest, as with PEFT; to the batch's
bucket; packed. Over 500 steps' lengths: which share of the encoder's tokens is real (prompt rows
counted as real), and how many shapes are compiled. A few of these steps are timed, ours and PEFT's
taking turns, compilation left out. Batches that are not packed are cut into 4 parts whose gradients
are added, in both: whole, they take gigabytes. Writes benchmarks/results/padding.{md,json}.
"""

import argparse
import functools
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning_jax import data, t5, tasks, training_step
from prompt_tuning_jax.batches import TrainingBatches
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.optimizers import Adafactor
from prompt_tuning_jax.vocabulary import Vocabulary

TASKS = {"super_glue_rte": "train", "super_glue_cb": "train", "super_glue_boolq": "validation"}
LENGTHS = {"inputs": 512, "targets": 16}
FULL, LONGEST, BUCKETS, PACKED = "padded to 512", "padded a batch", "in buckets", "packed"
PEFT = "PEFT, padded a batch"
# T5 1.1 small, no dropout: its random bits would be drawn by other means in PEFT
MODEL = t5.T5Config(dropout_rate=0.0, remat_policy="minimal")
PARTS = 4


def training_sets(shared: pathlib.Path):
    """The tasks' tokens and rates."""
    words = Vocabulary(str(shared / "data/vocab/cc_all.32000.sentencepiece.model"), 100)
    folder = str(shared / "data/superglue")
    return [
        (
            data.tokenise(tasks.resolve(name), split, words, LENGTHS, folder, warn=False),
            "proportional",
        )
        for name, split in TASKS.items()
    ]


def batches_of(sets, batch_size: int, prompt_rows: int):
    """way -> (step -> batch); all ways have the same examples."""
    bucketed = TrainingBatches(sets, batch_size, 0)
    packed = TrainingBatches(sets, batch_size, 0, pack=True, prompt_rows=prompt_rows)

    def trimmed(step):
        batch = bucketed.batch(step)
        return {name: a[:, : _width(batch, name)] for name, a in batch.items()}

    def full(step):
        limit = {"e": LENGTHS["inputs"], "d": LENGTHS["targets"]}
        return {
            name: np.pad(a, ((0, 0), (0, limit[name[0]] - a.shape[1])))
            for name, a in bucketed.batch(step).items()
        }

    return {FULL: full, LONGEST: trimmed, BUCKETS: bucketed.batch, PACKED: packed.batch}


def _width(batch, name: str) -> int:
    """The longest inputs' or targets' tokens."""
    real = batch["encoder_input_tokens" if name.startswith("e") else "decoder_target_tokens"] > 0
    return int(real.sum(1).max())


def shares(ways, steps: int, length: int, prompt_rows: int):
    """way -> (share of the encoder's rows that is real, number of shapes).

    prompt_rows: those that each segment has for itself; 0 where `length` rows serve a batch.
    """
    found = {}
    for way, batch_of in ways.items():
        real, computed, shapes = 0, 0, set()
        for step in range(steps):
            batch = batch_of(step)
            inputs, targets = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
            examples = (batch["decoder_input_tokens"] == 0) & (targets > 0)
            segments = batch["prompt_ids"].shape[1] if "prompt_ids" in batch else 1
            once = 0 if prompt_rows else length
            real += (inputs > 0).sum() + examples.sum() * prompt_rows + once
            computed += inputs.size + len(inputs) * segments * prompt_rows + once
            shapes.add((inputs.shape, targets.shape, segments))
        found[way] = float(real / computed), len(shapes)
    return found


def stepper(method):
    """(batch, parts) -> seconds and CPU seconds of a training step, once its shape is compiled."""
    theta = jax.jit(t5.init_params, static_argnums=1)(jax.random.key(0), MODEL)
    frozen, _ = method.split(theta)
    tuned = method.init(jax.random.key(1), MODEL, theta, {}) | {"theta": {}}
    tx = Adafactor().build(method.axes(MODEL, tuned))
    state = {"tuned": tuned, "opt_state": tx.init(tuned), "step": jnp.int32(0)}
    update = functools.partial(
        training_step.update, model=t5.T5(MODEL, method), method=method, tx=tx, loss=Loss()
    )
    step = jax.jit(update, static_argnames="microbatches")
    rng, compiled = jax.random.key(0), set()

    def run(batch, parts=PARTS):
        shape = tuple(a.shape for a in batch.values())
        if shape not in compiled:
            compiled.add(shape)
            jax.block_until_ready(step(state, frozen, batch, rng, microbatches=parts))
        start, used = time.monotonic(), time.process_time()
        jax.block_until_ready(step(state, frozen, batch, rng, microbatches=parts))
        return time.monotonic() - start, time.process_time() - used

    return run


def peer(python: str, length: int, folder: pathlib.Path):
    """batch -> seconds and CPU seconds of PEFT's step, in a process of its own."""
    script = pathlib.Path(__file__).with_name("padding_peft.py")
    process = subprocess.Popen(
        [python, script, str(length), str(PARTS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(batch):
        file = folder / "batch.npz"
        np.savez(file, inputs=batch["encoder_input_tokens"], targets=batch["decoder_target_tokens"])
        process.stdin.write(f"{file}\n")
        process.stdin.flush()
        return tuple(json.loads(process.stdout.readline()))

    return run


def rates(ways, batch_size: int, steps: int, method: Prompt, python: str | None):
    """way -> (examples a second, examples a CPU second), all ways taking turns at each step."""
    ours = stepper(method)
    seconds: dict[str, list] = {}
    with tempfile.TemporaryDirectory() as folder:
        theirs = python and peer(python, method.length, pathlib.Path(folder))
        if theirs:
            theirs(ways[LONGEST](0))  # its first step is slower
        for step in range(steps):
            for way in (FULL, BUCKETS, PACKED):
                seconds.setdefault(way, []).append(
                    ours(ways[way](step), 1 if way == PACKED else PARTS)
                )
            if theirs:
                seconds.setdefault(PEFT, []).append(theirs(ways[LONGEST](step)))
            print(step, {way: round(taken[-1][0], 2) for way, taken in seconds.items()}, flush=True)
    return {
        way: tuple((batch_size * steps / np.sum(taken, 0)).tolist())
        for way, taken in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", default=os.environ.get("PROMPT_TUNING_SHARED", "../shared"))
    parser.add_argument("--parity", help="a Python with torch, transformers and PEFT")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--prompt_length", type=int, default=100)
    parser.add_argument("--joined", action="store_true", help="prompt rows to every example")
    parser.add_argument("--share_steps", type=int, default=500)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--output", default=pathlib.Path(__file__).parent / "results")
    flags = parser.parse_args()
    sets = training_sets(pathlib.Path(flags.shared))
    prompt_rows = flags.prompt_length if flags.joined else 0
    ways = batches_of(sets, flags.batch_size, prompt_rows)
    found = shares(ways, flags.share_steps, flags.prompt_length, prompt_rows)
    method = Prompt(flags.prompt_length, sees_input=flags.joined)
    timed = rates(ways, flags.batch_size, flags.steps, method, flags.parity)
    cores, machine = os.cpu_count(), platform.machine()
    lines = [
        f"`python benchmarks/padding.py {' '.join(sys.argv[1:])}`, "
        f"{cores} cores ({machine}), {jax.devices()[0].device_kind}; prompt rows "
        f"{'joined to every example' if prompt_rows else 'computed once a batch'}",
        "",
        "| | real encoder tokens | shapes | examples/s | a CPU s | / padded to 512 | / PEFT |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in (*found, *([PEFT] if PEFT in timed else [])):
        share, shapes = found.get(way, found[LONGEST])
        cells = [way, f"{100 * share:.1f} %", f"{shapes}"]
        if way in timed:
            rate, cpu = timed[way]
            cells += [f"{rate:.2f}", f"{cpu:.2f}", f"{rate / timed[FULL][0]:.2f}"]
            cells.append(f"{rate / timed[PEFT][0]:.2f}" if PEFT in timed else "")
        else:
            cells += [""] * 4
        lines.append("| " + " | ".join(cells) + " |")
    table = "\n".join(lines) + "\n"
    print(table)
    results = {"shares": found, "examples_per_second": timed, "flags": vars(flags) | {"output": ""}}
    folder = pathlib.Path(flags.output)
    (folder / "padding.md").write_text("# Padding, buckets, packing\n" + table)
    (folder / "padding.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
