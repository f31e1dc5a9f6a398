"""What it saves and costs to hold the frozen θ in bfloat16 or int8 (FROZEN_DTYPE).

    python benchmarks/frozen_dtypes.py --out=frozen_dtypes.json

Two tables. Of T5 1.1 small with random values: θ's bytes as they lie on the device, the compiled
training step's temporary bytes, and its time (a prompt of 100 rows, batch 4, 64 tokens of input, 8
of targets, float32 activations), the dtypes taking turns, as a ratio to float32's by the median of
the turns. Of the built-in backbone: exact match on 500 test examples where a prompt was tuned and
tested in each dtype, and where the one tuned on float32 was tested in the others, through `train`
and `evaluate` as a user would type them. A number is added to the JSON file as soon as it is there;
started again, the command goes on after it. Then it prints the tables.
"""

import argparse
import functools
import pathlib
import platform
import statistics
import sys
import tempfile
import time

import built_in
import jax
import jax.numpy as jnp

from prompt_tuning_jax import backbones, sharding, t5, training_step
from prompt_tuning_jax.interop.leaf import Checkpoint
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.optimizers import Adafactor

DTYPES = tuple(backbones.DTYPES)
SMALL = t5.T5Config(dropout_rate=0.0, remat_policy="minimal")


def compiled(theta):
    """The training step of T5 1.1 small over θ -> (memory analysis, a function that takes it)."""
    method = Prompt(100)
    tuned = method.init(jax.random.key(1), SMALL, theta)
    tx = Adafactor().build(method.axes(SMALL, tuned))
    state = {"tuned": tuned, "opt_state": tx.init(tuned), "step": jnp.int32(0)}
    inputs, targets = jnp.full((4, 64), 7), jnp.full((4, 8), 7)
    batch = {"encoder_input_tokens": inputs, "decoder_input_tokens": targets}
    batch |= {"decoder_target_tokens": targets, "decoder_loss_weights": jnp.ones((4, 8))}
    update = functools.partial(
        training_step.update,
        model=t5.T5(SMALL, method),
        method=method,
        tx=tx,
        loss=Loss(),
        microbatches=1,
    )
    given = state, theta, batch, jax.random.key(0)
    step = jax.jit(update).lower(*given).compile()
    return step.memory_analysis(), lambda: jax.block_until_ready(step(*given))


def costs(turns: int) -> dict:
    """θ's and a step's bytes, and the step's seconds, by dtype."""
    values = backbones.leaves_of(jax.jit(lambda key: t5.init_params(key, SMALL))(jax.random.key(0)))
    places = sharding.Partitioner.of({"data": 1}).theta(SMALL)
    steps, found = {}, {}
    for dtype in DTYPES:
        theta = backbones.read(Checkpoint("random", values, SMALL), SMALL, places, dtype).theta
        memory, steps[dtype] = compiled(theta)
        held = sum(leaf.nbytes for leaf in jax.tree.leaves(theta))
        found[dtype] = {"bytes": held, "temporary": memory.temp_size_in_bytes, "seconds": []}
        steps[dtype]()
    for _ in range(turns):
        for dtype, step in steps.items():
            start = time.monotonic()
            step()
            found[dtype]["seconds"].append(time.monotonic() - start)
    return found


def tuned(task: str, backbone: str, dtype: str, seed: int, steps: int, tested: tuple) -> dict:
    """A prompt tuned on a backbone in `dtype` -> exact match where it is tested in others."""
    with tempfile.TemporaryDirectory() as folder:
        own = f"--gin.FROZEN_DTYPE={dtype}", f"--gin.TASK_FEATURE_LENGTHS={built_in.LENGTHS}"
        method = (*built_in.METHODS["prompt"], *built_in.OFTEN)
        built_in.tune(folder, task, backbone, seed, steps, *method, *own)
        artifact = f"--artifact={folder}/artifact"
        return {
            other: built_in.tested(task, artifact, f"--gin.FROZEN_DTYPE={other}")
            for other in tested
        }


def tables(results: dict) -> str:
    """Markdown."""
    lines = ["| T5 1.1 small, θ in | its MB | / float32's | temporary MB | step / float32's |"]
    lines.append("|---|---|---|---|---|")
    costs = results.get("costs", {})
    for dtype, cost in costs.items():
        plain = costs["float32"]
        turns = zip(cost["seconds"], plain["seconds"], strict=True)
        ratio = statistics.median(own / other for own, other in turns)
        lines.append(
            f"| {dtype} | {cost['bytes'] / 1e6:.1f} | {cost['bytes'] / plain['bytes']:.4f} | "
            f"{cost['temporary'] / 1e6:.1f} | {ratio:.2f} |"
        )
    columns = [(d, d) for d in DTYPES] + [("float32", d) for d in DTYPES[1:]]
    named = [
        own if own == other else f"tuned in {own}, tested in {other}" for own, other in columns
    ]
    lines += ["", "| built-in task, seed | " + " | ".join(named) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    runs = {key: scores for key, scores in results.items() if key != "costs"}
    apart: list[list[float]] = [[] for _ in columns]
    for name in sorted({key.rsplit(" ", 1)[0] for key in runs}):
        scores = [runs.get(f"{name} {own}", {}).get(other) for own, other in columns]
        cells = ("" if score is None else f"{score:.1f}" for score in scores)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        for points, score in zip(apart, scores, strict=True):
            if score is not None and scores[0] is not None:
                points.append(score - scores[0])
    means = (f"{statistics.mean(points):+.2f}" if points else "" for points in apart)
    lines.append("| mean difference from float32 | " + " | ".join(means) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--backbone", default="builtin://demo")
    parser.add_argument("--tasks", default="demo_boolq,demo_cb,demo_wsc")
    parser.add_argument("--seeds", type=int, default=2, help="0: bytes and times alone")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--turns", type=int, default=7, help="0: quality alone")
    flags = parser.parse_args()
    runs = [("costs", functools.partial(costs, flags.turns))] if flags.turns else []
    for seed in range(flags.seeds):
        for task in flags.tasks.split(","):
            for dtype in DTYPES:
                tested = DTYPES if dtype == "float32" else (dtype,)
                given = task, flags.backbone, dtype, seed, flags.steps, tested
                runs.append((f"{task} {seed} {dtype}", functools.partial(tuned, *given)))
    results = built_in.kept(flags.out, runs)
    print(f"\n`python benchmarks/frozen_dtypes.py {' '.join(sys.argv[1:])}`, jax {jax.__version__}")
    print(f"on {jax.devices()[0].device_kind}, {platform.machine()}:\n\n{tables(results)}")


if __name__ == "__main__":
    main()
