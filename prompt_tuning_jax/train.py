"""The job: tune a method's parameters on a task, the T5 frozen.

    python -m prompt_tuning_jax.train --gin_file=models/t5_1_1_base_prompt.gin \
        --gin_file=runs/prompt_finetune.gin --gin.MODEL_DIR=… --gin.MIXTURE_OR_TASK_NAME=… …
"""

if __name__ == "__main__":  # flags are answered before jax is imported
    from prompt_tuning_jax.launch import main

    raise SystemExit(main("train"))

import contextlib
import functools
import logging
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from prompt_tuning_jax import (
    artifacts,
    backbones,
    data,
    fingerprint,
    preemption,
    prefetch,
    scoring,
    sharding,
    t5,
    training_step,
)
from prompt_tuning_jax.decoding import Greedy
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.optimizers import Adafactor
from prompt_tuning_jax.progress import Progress
from prompt_tuning_jax.runs import Choices, Run, choices, one_shape, rate_of


def train(
    *,
    model_dir: str,
    config: t5.T5Config,
    method: Method,
    mixture_or_task_name: Any,
    task_feature_lengths: dict[str, int],
    train_steps: int,
    initial_checkpoint_path: str | None,
    random_start: Any = t5.init_params,
    frozen_dtype: str = "float32",
    vocabulary_file: str | None = None,
    extra_ids: int = 100,
    mixture_or_task_module: str | None = None,
    data_dir: str | None = None,
    eval_tasks: Sequence[Any] | None = None,
    eval_split: str = "validation",
    eval_period: int = 1000,
    eval_batch_size: int | None = None,
    eval_examples: int | None = None,
    decoder: Any = Greedy(),
    initial_artifact: str | None = None,
    optimizer: Any = Adafactor(),
    loss: Loss = Loss(),
    batch_size: int = 32,
    num_microbatches: int = 1,
    pack: bool = False,
    k_shot: int | None = None,
    max_encoder_length: int = 2048,
    checkpoint_period: int = 1000,
    keep: int = 2,
    artifact_steps: Sequence[int] = (),
    early_stopping: int | None = None,
    random_seed: int = 0,
    runs: dict[str, dict[str, Any]] | None = None,
    runs_at_once: int | None = None,
    mesh: dict[str, int] | None = None,
    logical_axis_rules: sharding.Rules | None = None,
    log_period: int = 10,
    nonfinite: str = "stop",
) -> dict[str, Any]:
    """Tunes, evaluates and leaves an artifact of the best step in MODEL_DIR/artifact.

    mixture_or_task_name: the name of a task or mixture, a task, or {task: rate}; eval_tasks: the
    tasks to evaluate, the first of which chooses the best step; None: those trained on, whose
    average (`scoring.average`) chooses it. random_start: (rng, config) -> θ, where there is no
    initial_checkpoint_path. pack: several examples to a row (`packing`), which changes neither a
    step's examples nor its loss. artifact_steps: steps whose artifacts are kept too, whatever their
    metric, in MODEL_DIR/artifacts/STEP. nonfinite: whether a step whose loss, gradients or new
    parameters are no finite numbers ends the run ("stop") or is as if it had not been ("skip");
    nothing is kept of it either way. Steps count from 0 and a run that is started again in its
    MODEL_DIR goes on where it was. Returns {"step", "best": {"step", "metric"}, "artifact"}.

    runs: several runs at once over one frozen model, {name: {macro: value}} of what they differ in
    (`runs.NAMES`); each is as it would be alone, in MODEL_DIR/NAME, and the result {name: its own}.
    runs_at_once: how many of them a step computes together, the others after them; None: one on a
    CPU, all elsewhere.
    SIGTERM ends the run after the next step, which is saved (preemption.Stopped).
    Raises UserError for what a user can mend.
    """
    _check_positive(
        TRAIN_STEPS=train_steps,
        EVAL_PERIOD=eval_period,
        EVAL_BATCH_SIZE=eval_batch_size,
        NUM_MICROBATCHES=num_microbatches,
        CHECKPOINT_PERIOD=checkpoint_period,
        KEEP=keep,
        EARLY_STOPPING=early_stopping,
        LOG_PERIOD=log_period,
        RUNS_AT_ONCE=runs_at_once,
    )
    _check_artifact_steps(artifact_steps, train_steps)
    if nonfinite not in ("stop", "skip"):
        raise UserError(f"NONFINITE = {nonfinite!r}: choose from stop, skip")
    shared = {
        "config": config.architecture()
        | {"dropout_rate": config.dropout_rate, "dtype": config.dtype},
        "backbone": initial_checkpoint_path,
        "frozen_dtype": frozen_dtype,
        "lengths": task_feature_lengths,
        "loss": loss,
        "batch_size": batch_size,
        "num_microbatches": num_microbatches,
        "pack": pack,
        "eval_split": eval_split,
        "eval_examples": eval_examples,
        "decoder": decoder,
    }
    own = (mixture_or_task_name, eval_tasks, k_shot, random_seed, initial_artifact)
    trained = {
        name: Run(model_dir, name, choice, shared, mixture_or_task_module)
        for name, choice in choices(runs, Choices(*own, method, optimizer)).items()
    }
    every = list(trained.values())
    # they differ in their starts at most
    method = every[0].method

    # ---- devices ---------------------------------------------------------------------------
    partitioner = sharding.Partitioner.of(mesh, logical_axis_rules)
    partitioner.check_batch(batch_size, num_microbatches)
    places = partitioner.theta(config)

    # ---- data ------------------------------------------------------------------------------
    source = backbones.find(initial_checkpoint_path) if initial_checkpoint_path else None
    vocabulary = backbones.vocabulary(source, vocabulary_file, extra_ids)
    backbones.check_vocabulary(vocabulary, config)
    given = vocabulary, task_feature_lengths, data_dir
    model = t5.T5(config, method)
    joined, apart = _prompt_rows(config, method)
    # runs on one task share what was read of it
    training = functools.cache(lambda task: data.training_set(task, *given))
    held_out = functools.cache(
        lambda task: data.tokenise(task, eval_split, *given, windows=eval_examples)
    )
    batching = {
        "batch_size": batch_size,
        "pack": pack,
        "multiple": partitioner.pieces("batch") * num_microbatches,
        "prompt_rows": joined,
    }
    evaluating = {
        "batch_size": eval_batch_size or batch_size,
        "partitioner": partitioner,
        "decoder": decoder,
        "loss": loss,
        "examples": eval_examples,
    }
    for run in every:
        run.require({"vocabulary": [vocabulary.digest, vocabulary.extra_ids]})
        run.read(training, held_out, batching, evaluating)
        rows = task_feature_lengths["inputs"] + joined + apart
        if pack:
            rows = apart + max(s.inputs + s.segments * joined for s in run.batches.shapes)
        if rows > max_encoder_length:
            raise UserError(
                f"prompt and inputs are {rows} rows, MAX_ENCODER_LENGTH is {max_encoder_length}: "
                "shorten PROMPT_LENGTH or TASK_FEATURE_LENGTHS['inputs']"
            )

    # ---- model: θ, the part of it that stays frozen, and what is tuned -------------------------
    starts = [run.method.read(vocabulary, run.words()) for run in every]
    if source is None:
        logging.warning("INITIAL_CHECKPOINT_PATH is None: the model starts from random values")
        seed = jax.random.key(random_seed)
        theta = jax.jit(random_start, static_argnums=1, out_shardings=places)(seed, config)
        mark = fingerprint.of(theta)
    else:
        # what the method will train out of θ is no place to save bytes
        _, taken = jax.eval_shape(method.split, t5.abstract_params(config))
        backbone = backbones.read(source, config, places, frozen_dtype, taken.__contains__)
        theta, mark = backbone.theta, backbone.fingerprint
    pretrained = re.search(r"checkpoint_(\d+)/?$", initial_checkpoint_path or "")
    if pretrained and train_steps > int(pretrained[1]):
        logging.warning(
            "TRAIN_STEPS = %d are steps of tuning alone; T5X would count the checkpoint's %s in",
            train_steps,
            pretrained[1],
        )
    frozen, taken = method.split(theta)
    abstract = method.abstract(config, theta)
    axes = method.axes(config, abstract)
    tuned_places = partitioner.tuned(axes, abstract)
    init = functools.cache(lambda method: jax.jit(functools.partial(method.init, config=config)))
    slots = jax.jit(optimizer.build(axes).init)
    states = []
    for run, start in zip(every, starts, strict=True):
        run.require({"fingerprint": mark})
        if run.own.initial_artifact is not None:
            artifact = artifacts.read(run.own.initial_artifact)
            artifacts.check_backbone(artifact, mark, config)
            tuned = artifacts.fit(artifact, abstract)
        else:
            rng = jax.random.fold_in(run.key, 1)
            # each has its own: a step writes over what it was given
            leaves = taken if run is every[-1] else jax.tree.map(jnp.copy, taken)
            tuned = init(run.method)(rng, theta=theta, start=start) | {"theta": leaves}
        tuned = sharding.put(tuned, tuned_places)
        state = training_step.first_state(tuned, slots(tuned))
        states.append(jax.device_put(state, training_step.places_of(state, partitioner, axes)))
    del theta, taken, tuned

    # ---- restore, and only now write into MODEL_DIR ------------------------------------------
    predicting = t5.T5(config, method.exported())
    for run, state in zip(every, states, strict=True):
        exported = method.export(state["tuned"])
        loaded = predicting, method.join(frozen, state["tuned"]), exported
        could = [evaluation.check(*loaded) for evaluation in run.evaluations]
        if could:
            scoring.average(zip(run.choosing, could, strict=False))
    where = {
        "path": initial_checkpoint_path,
        "fingerprint": mark,
        "config": config.architecture(),
        "vocabulary_file": vocabulary_file,
        "extra_ids": extra_ids,
    }
    for run, state in zip(every, states, strict=True):
        run.restore(state, keep, artifact_steps)
    for run in every:
        run.begin({"backbone": where, "lengths": dict(task_feature_lengths)})
    del states, state

    # ---- one step ----------------------------------------------------------------------------
    alike = all(run.own.optimizer == optimizer for run in every)
    # an accelerator is fuller with all runs' examples at once, a CPU's caches overflow
    at_once = runs_at_once
    if at_once is None:
        at_once = 1 if partitioner.mesh.devices.flat[0].platform == "cpu" else len(every)

    @functools.cache
    def step_of(count: int):
        return training_step.step_for(
            [every[0].state] * count,
            model=model,
            optimizer=optimizer,
            axes=axes,
            loss=loss,
            microbatches=num_microbatches,
            size=batch_size * task_feature_lengths["targets"],
            skip=nonfinite == "skip",
            alike=alike,
        )

    def batches_of(step: int) -> dict[str, dict[str, jax.Array]]:
        due = [name for name, run in trained.items() if run.first <= step]
        # a process makes its own rows, but where they must become of one shape
        share = partitioner.share if at_once == 1 else (0, 1)
        made = [trained[name].batches.batch(step, *share) for name in due]
        if at_once > 1:
            made = [partitioner.own(batch) for batch in one_shape(made)]
        return {name: partitioner.put_batch(b) for name, b in zip(due, made, strict=True)}

    # ---- the loop ----------------------------------------------------------------------------
    unfinished = [run for run in every if not run.stopped(early_stopping)]
    first = min(run.first for run in unfinished or every)
    with contextlib.ExitStack() as closing:
        preempted = closing.enter_context(preemption.watched(first))
        for run in every:
            closing.callback(run.close)
        made = prefetch.ahead(batches_of, range(first, train_steps))
        batches = closing.enter_context(contextlib.closing(made))
        progress = closing.enter_context(Progress("train", train_steps, start=first))
        for step, batch in enumerate(batches, first + 1):
            stops = preempted.at(step)
            going = [name for name in batch if not trained[name].stopped(early_stopping)]
            # none goes on before the first that was resumed further on
            if not going and not any(run.first >= step for run in unfinished):
                progress.note(f"no better evaluation in {early_stopping}: stopped at {step - 1}")
                break
            last = step == train_steps
            saves, kept = step % checkpoint_period == 0 or last or stops, step in artifact_steps
            written, evaluates = step % log_period == 0 or last, step % eval_period == 0 or last
            for first_of in range(0, len(going), at_once):
                names = going[first_of : first_of + at_once]
                now = [trained[name] for name in names]
                with partitioner.use():
                    states, reports = step_of(len(now))(
                        [run.state for run in now],
                        [batch[name] for name in names],
                        [run.key for run in now],
                        [0.0 if alike else rate_of(run.own.optimizer) for run in now],
                        frozen,
                    )
                for run, state, report in zip(now, states, reports, strict=True):
                    run.state = state
                    run.note(step, report, written)
            for run in (trained[name] for name in going):
                # A report is read once the next step is queued, so that the devices do not wait for
                # it; but nothing is kept of a step before it is known to be sound.
                told = run.tell(math.inf if evaluates or saves or kept else step)
                if told is not None:
                    progress.update(told[0] - progress.done, f"loss {told[1]:.4f}")
                improved = (
                    evaluates
                    and bool(run.evaluations)
                    and run.evaluate(predicting, frozen, step, progress.note)
                )
                if kept:  # before its checkpoint: a killed run writes it again
                    run.keep(f"artifacts/{step}", step)
                if saves or improved:
                    run.save()
            if stops and not last:
                raise preemption.Stopped(
                    f"stopped by SIGTERM at step {step}: the same command goes on from there"
                )
        for run in every:
            if not run.evaluations:
                run.keep("artifact", int(run.state["step"]))
    results = {name: run.result() for name, run in trained.items()}
    return results if runs else results[""]


def _check_positive(**settings: int | None) -> None:
    for name, value in settings.items():
        if value is not None and value < 1:
            raise UserError(f"{name} = {value}: at least 1")


def _check_artifact_steps(steps: Sequence[int], train_steps: int) -> None:
    if not isinstance(steps, list | tuple):
        raise UserError(f"ARTIFACT_STEPS = {steps!r}: write a list of steps, [{steps!r}]")
    for step in steps:
        if type(step) is not int or not 1 <= step <= train_steps:
            raise UserError(
                f"ARTIFACT_STEPS = {list(steps)!r}: {step!r} is no step from 1 to "
                f"TRAIN_STEPS = {train_steps}"
            )


def _prompt_rows(config: t5.T5Config, method: Method) -> tuple[int, int]:
    """How many encoder rows the method joins to each example, and keeps apart from all."""
    tuned = jax.eval_shape(method.export, method.abstract(config, t5.abstract_params(config)))
    stream = t5.prompt_rows(config, method, tuned["shared"])
    return stream.x.shape[1] - 1, 0 if stream.rows is None else stream.rows.x.shape[1]
