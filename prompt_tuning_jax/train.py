"""The job: tune a method's parameters on a task, the T5 frozen.

    python -m prompt_tuning_jax.train --gin_file=models/t5_1_1_base_prompt.gin \
        --gin_file=runs/prompt_finetune.gin --gin.MODEL_DIR=… --gin.MIXTURE_OR_TASK_NAME=… …
"""

if __name__ == "__main__":  # flags are answered before jax is imported
    from prompt_tuning_jax.launch import main

    raise SystemExit(main("train"))

import functools
import logging
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning_jax import artifacts, backbones, data, run_dir, scoring, sharding, t5, tasks
from prompt_tuning_jax.checkpoints import Checkpoints
from prompt_tuning_jax.decoding import Greedy
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.evaluate import Evaluation
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.optimizers import Adafactor
from prompt_tuning_jax.progress import Progress


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
    keep: int = 1,
    artifact_steps: Sequence[int] = (),
    early_stopping: int | None = None,
    random_seed: int = 0,
    mesh: dict[str, int] | None = None,
    log_period: int = 10,
) -> dict[str, Any]:
    """Tunes, evaluates and leaves an artifact of the best step in MODEL_DIR/artifact.

    mixture_or_task_name: the name of a task or mixture, a task, or {task: rate}; eval_tasks: the
    tasks to evaluate, the first of which chooses the best step; None: those trained on, whose
    average (`scoring.average`) chooses it. random_start: (rng, config) -> θ, where there is no
    initial_checkpoint_path. pack: several examples to a row (`packing`), which changes neither a
    step's examples nor its loss. artifact_steps: steps whose artifacts are kept too, whatever their
    metric, in MODEL_DIR/artifacts/STEP. Steps count from 0 and a run that is started
    again in its MODEL_DIR goes on where it was. Returns {"step", "best": {"step", "metric"},
    "artifact"}. Raises UserError for what a user can mend.
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
    )
    _check_artifact_steps(artifact_steps, train_steps)
    trained_on = tasks.mixture(mixture_or_task_name, mixture_or_task_module)
    evaluated = [task for task, _ in trained_on]
    if eval_tasks is not None:
        if not isinstance(eval_tasks, list | tuple):
            raise UserError(f"EVAL_TASKS = {eval_tasks!r}: write a list of tasks, [{eval_tasks!r}]")
        evaluated = [tasks.resolve(given, mixture_or_task_module) for given in eval_tasks]
    tasks.check_names(evaluated)
    # the source's validation chooses what is transferred to the other domains
    choosing = evaluated if eval_tasks is None else evaluated[:1]
    if initial_artifact is not None:
        # an artifact holds what was exported, so that is what goes on being trained
        method = method.exported()
    identity = {
        "config": config.architecture()
        | {"dropout_rate": config.dropout_rate, "dtype": config.dtype},
        "method": method,
        "backbone": initial_checkpoint_path,
        "frozen_dtype": frozen_dtype,
        "artifact": initial_artifact,
        "tasks": trained_on,
        "lengths": task_feature_lengths,
        "optimizer": optimizer,
        "loss": loss,
        "batch_size": batch_size,
        "num_microbatches": num_microbatches,
        "pack": pack,
        "k_shot": k_shot,
        "random_seed": random_seed,
        "eval_tasks": evaluated,
        "selection": [name for task in choosing for name in (task.name, *task.selection)],
        "eval_split": eval_split,
        "eval_examples": eval_examples,
        "label_words": {t.name: t.label_words for t in (*dict(trained_on), *evaluated)},
        "decoder": decoder,
    }
    run = run_dir.RunDir(model_dir, identity)

    # ---- devices ---------------------------------------------------------------------------
    devices = sharding.mesh_of(mesh)
    sharding.check_batch(devices, batch_size, num_microbatches)
    places = sharding.theta_shardings(devices, config)

    # ---- data ------------------------------------------------------------------------------
    source = backbones.find(initial_checkpoint_path) if initial_checkpoint_path else None
    vocabulary = backbones.vocabulary(source, vocabulary_file, extra_ids)
    backbones.check_vocabulary(vocabulary, config)
    given = vocabulary, task_feature_lengths, data_dir
    training = [data.training_set(task, *given) for task, _ in trained_on]
    held_out = [
        data.tokenise(task, eval_split, *given, windows=eval_examples) for task in evaluated
    ]
    examples = {f"{t.task.name}/{t.split}": t.digest() for t in (*training, *held_out)}
    pieces = [vocabulary.digest, vocabulary.extra_ids]
    run.require({"vocabulary": pieces, "examples": examples})
    model = t5.T5(config, method)
    prompt_rows = _prompt_rows(model, method)
    batches = data.TrainingBatches(
        [(tokens, rate) for tokens, (_, rate) in zip(training, trained_on, strict=True)],
        batch_size=batch_size,
        seed=random_seed,
        k_shot=k_shot,
        pack=pack,
        multiple=devices.shape["data"] * num_microbatches,
        prompt_rows=prompt_rows,
    )
    batches.batch(0)  # a corpus that cannot be read is refused before anything is written
    evaluations = [
        Evaluation(
            tokens,
            batch_size=eval_batch_size or batch_size,
            mesh=devices,
            decoder=decoder,
            loss=loss,
            examples=eval_examples,
        )
        for tokens in held_out
    ]

    # ---- model: θ, the part of it that stays frozen, and what is tuned -------------------------
    rows = task_feature_lengths["inputs"] + prompt_rows
    if pack:
        rows = max(shape.inputs + shape.segments * prompt_rows for shape in batches.shapes)
    if rows > max_encoder_length:
        raise UserError(
            f"prompt and inputs are {rows} rows, MAX_ENCODER_LENGTH is {max_encoder_length}: "
            "shorten PROMPT_LENGTH or TASK_FEATURE_LENGTHS['inputs']"
        )
    words = tuple(dict.fromkeys(word for task, _ in trained_on for word in task.label_words))
    start = method.read(vocabulary, words)
    seed = jax.random.key(random_seed)
    if source is None:
        logging.warning("INITIAL_CHECKPOINT_PATH is None: the model starts from random values")
        theta = jax.jit(random_start, static_argnums=1, out_shardings=places)(seed, config)
        mark = backbones.fingerprint(theta)
    else:
        # what the method will train out of θ is no place to save bytes
        _, taken = jax.eval_shape(method.split, t5.abstract_params(config))
        backbone = backbones.read(source, config, places, frozen_dtype, taken.__contains__)
        theta, mark = backbone.theta, backbone.fingerprint
    run.require({"fingerprint": mark})
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
    tuned_places = sharding.tuned_shardings(devices, axes, abstract)
    if initial_artifact is not None:
        artifact = artifacts.read(initial_artifact)
        artifacts.check_backbone(artifact, mark, config)
        tuned = artifacts.fit(artifact, abstract)
    else:
        init = jax.jit(functools.partial(method.init, config=config))
        tuned = init(jax.random.fold_in(seed, 1), theta=theta, start=start) | {"theta": taken}
    tuned = jax.device_put(tuned, tuned_places)
    del theta, taken
    tx = optimizer.build(axes)
    state = {
        "tuned": tuned,
        "opt_state": jax.jit(tx.init)(tuned),
        "step": jnp.int32(0),
        # the best evaluation so far, and how many have passed since
        "best": {"step": jnp.int32(0), "metric": jnp.float32(-math.inf), "since": jnp.int32(0)},
    }
    state = jax.device_put(
        state,
        jax.tree.map(lambda _: sharding.replicated(devices), state) | {"tuned": tuned_places},
    )

    # ---- restore, and only now write into MODEL_DIR ------------------------------------------
    if evaluations:
        exported = jax.eval_shape(method.export, tuned)
        first = t5.T5(config, method.exported()), method.join(frozen, tuned), exported
        could = [evaluation.check(*first) for evaluation in evaluations]
        scoring.average(zip(choosing, could, strict=False))
    checkpoints = Checkpoints(run.path, keep)
    if checkpoints.latest() is not None:
        state = checkpoints.restore(state)
        logging.warning("%s: going on from step %d", model_dir, int(state["step"]))
        for kept in artifact_steps:
            if kept <= int(state["step"]) and not (run.path / "artifacts" / str(kept)).is_dir():
                raise UserError(
                    f"ARTIFACT_STEPS: {model_dir} is past step {kept} and did not keep its "
                    "artifact: leave it out, or choose another MODEL_DIR"
                )
    run.open()
    writer = run.metrics(int(state["step"]))

    # ---- one step ----------------------------------------------------------------------------
    step_fn = jax.jit(
        functools.partial(
            update,
            model=model,
            method=method,
            tx=tx,
            loss=loss,
            microbatches=num_microbatches,
            size=batch_size * task_feature_lengths["targets"],
        ),
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda leaf: leaf.sharding, state), None),
    )

    # ---- the loop ----------------------------------------------------------------------------
    def facts(step: int, metrics: dict[str, Any]) -> dict[str, Any]:
        where = {
            "path": initial_checkpoint_path,
            "fingerprint": mark,
            "config": config.architecture(),
            "vocabulary_file": vocabulary_file,
            "extra_ids": extra_ids,
        }
        names = [task.name for task, _ in trained_on]
        lengths = dict(task_feature_lengths)
        return {
            "backbone": where,
            "tasks": names,
            "lengths": lengths,
            "sentinel": any(task.sentinel for task, _ in trained_on),
            "step": step,
            "metrics": metrics,
        }

    step = int(state["step"])
    with sharding.use(devices), Progress("train", train_steps, start=step) as progress:
        while step < train_steps:
            if early_stopping is not None and int(state["best"]["since"]) >= early_stopping:
                progress.note(f"no better evaluation in {early_stopping}: stopped at step {step}")
                break
            batch = sharding.put_batch(devices, batches.batch(step))
            state, report = step_fn(state, frozen, batch, jax.random.fold_in(seed, step + 2))
            step += 1
            last = step == train_steps
            if step % log_period == 0 or last:
                values = {name: float(value) for name, value in report.items()}
                values["learning_rate"] = float(optimizer.learning_rate(step - 1))
                if not math.isfinite(values["loss"]):
                    raise UserError(
                        f"step {step}: the loss is {values['loss']}, so the parameters are lost: "
                        "lower LEARNING_RATE and choose another MODEL_DIR"
                    )
                writer.write("train", step, values)
                progress.update(step - progress.done, f"loss {values['loss']:.4f}")
            improved = False
            chosen_by: dict[str, Any] = {}
            if evaluations and (step % eval_period == 0 or last):
                now = (
                    t5.T5(config, method.exported()),
                    method.join(frozen, state["tuned"]),
                    method.export(state["tuned"]),
                    run.path / "predictions" / str(step),
                )
                scores = [evaluation.run(*now) for evaluation in evaluations]
                for evaluation, metrics in zip(evaluations, scores, strict=True):
                    writer.write(f"eval/{evaluation.task.name}", step, metrics)
                    progress.note(f"step {step}: {evaluation.task.name} {_line(metrics)}")
                # float32, as the state has it: the same metric again is no improvement
                metric = float(np.float32(scoring.average(zip(choosing, scores, strict=False))))
                chosen_by = scores[0]
                if len(choosing) > 1:
                    writer.write("eval/average", step, {"selection": metric})
                    progress.note(f"step {step}: average {metric:.4g}")
                    named = {e.task.name: m for e, m in zip(evaluations, scores, strict=True)}
                    chosen_by = {"average": metric, **named}
                improved = metric > float(state["best"]["metric"])
                state["best"] = _best(state["best"], (step, metric, 0) if improved else None)
                if improved:
                    artifacts.save_artifact(
                        run.path / "artifact", method, state["tuned"], facts(step, chosen_by)
                    )
            if step in artifact_steps:  # before its checkpoint: a killed run writes it again
                artifacts.save_artifact(
                    run.path / "artifacts" / str(step),
                    method,
                    state["tuned"],
                    facts(step, chosen_by),
                )
            if step % checkpoint_period == 0 or last or improved:
                checkpoints.save(state)
    if not evaluations:
        artifacts.save_artifact(run.path / "artifact", method, state["tuned"], facts(step, {}))
    checkpoints.close()
    writer.close()
    best = {"step": int(state["best"]["step"]), "metric": float(state["best"]["metric"])}
    return {"step": step, "best": best, "artifact": str(run.path / "artifact")}


def update(state, frozen, batch, rng, *, model, method, tx, loss, microbatches, size=None):
    """One step: gradients of `tuned` alone -> optax -> (new state, report).

    batch: seqio's EncDecFeatureConverter names, [B,T] and [B,U]; the batch is cut into
    `microbatches` of consecutive rows whose gradients are added. size: as `Loss.weights`.
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
    tokens = jnp.maximum(sums.tokens, 1)
    report = {
        "objective": value,
        "loss": sums.loss / tokens,
        "z_loss": sums.z_loss / tokens,
        "accuracy": 100 * sums.correct / tokens,
        "gradient_norm": jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grads))),
        "target_tokens": sums.tokens,
    }
    return state | {"tuned": moved, "opt_state": opt_state, "step": state["step"] + 1}, report


def _best(old, new):
    """(step, metric, since) of a better evaluation, or None: one more has passed."""
    if new is None:
        return old | {"since": old["since"] + 1}
    return {
        name: jax.device_put(jnp.asarray(value, old[name].dtype), old[name].sharding)
        for name, value in zip(("step", "metric", "since"), new, strict=True)
    }


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


def _prompt_rows(model, method) -> int:
    """How many encoder rows the method puts before each example."""
    theta = t5.abstract_params(model.config)
    tuned = jax.eval_shape(method.export, method.abstract(model.config, theta))
    encode = functools.partial(model.apply, method="encode")
    one = {"encoder_input_tokens": np.ones((1, 1), np.int32)}
    return jax.eval_shape(lambda p, t: encode({"params": p}, t, one), theta, tuned).x.shape[1] - 1


def _line(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
