"""The real training step and the real decoder, compiled for shapes: nothing is allocated.

The functions are `training_step.step_for` and `predictor.decode`; their arguments have the
shapes, dtypes and places of a run's, unpacked and at the full TASK_FEATURE_LENGTHS.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from prompt_tuning_jax import backbones, compiled_cost, predictor, t5, training_step
from prompt_tuning_jax.decoding import Greedy
from prompt_tuning_jax.losses import Loss
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.optimizers import Adafactor
from prompt_tuning_jax.sharding import Partitioner
from prompt_tuning_jax.topologies import Chip


@dataclasses.dataclass(frozen=True)
class Described:
    """What `train.train`'s arguments of these names say, on a mesh of devices to compile for."""

    partitioner: Partitioner
    config: t5.T5Config
    method: Method
    task_feature_lengths: dict[str, int]
    optimizer: Any = Adafactor()
    loss: Loss = Loss()
    frozen_dtype: str = "float32"
    batch_size: int = 32
    num_microbatches: int = 1
    eval_batch_size: int | None = None
    decoder: Any = Greedy()

    def _at(self, tree: Any, places: Any = None) -> Any:
        """Shapes with places, None for replicated."""
        if places is None:
            places = jax.tree.map(lambda _: self.partitioner.replicated, tree)
        return jax.tree.map(
            lambda a, place: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), tree, places
        )

    def _frozen(self) -> Any:
        """What of θ does not move, as FROZEN_DTYPE holds it."""
        places = self.partitioner.theta(self.config)
        _, taken = jax.eval_shape(self.method.split, t5.abstract_params(self.config))
        held = backbones.held(self.config, places, self.frozen_dtype, taken.__contains__)
        return self.method.split(traverse_util.unflatten_dict(held, sep="/"))[0]

    def _tokens(self, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=self.partitioner.rows)

    def train_step(self) -> jax.stages.Lowered:
        """A step of one run. UserError where a batch cannot be cut as is asked."""
        partitioner, method, config = self.partitioner, self.method, self.config
        partitioner.check_batch(self.batch_size, self.num_microbatches)
        tuned = method.abstract(config, t5.abstract_params(config))
        axes = method.axes(config, tuned)
        slots = jax.eval_shape(self.optimizer.build(axes).init, tuned)
        state = jax.eval_shape(training_step.first_state, tuned, slots)
        state = self._at(state, training_step.places_of(state, partitioner, axes))
        inputs, targets = (self.task_feature_lengths[name] for name in ("inputs", "targets"))
        batch = {"encoder_input_tokens": self._tokens(self.batch_size, inputs)} | {
            f"decoder_{name}": self._tokens(self.batch_size, targets)
            for name in ("input_tokens", "target_tokens", "loss_weights")
        }
        step = training_step.step_for(
            [state],
            model=t5.T5(config, method),
            optimizer=self.optimizer,
            axes=axes,
            loss=self.loss,
            microbatches=self.num_microbatches,
            size=self.batch_size * targets,
        )
        seed = self._at(jax.eval_shape(lambda: jax.random.key(0)))
        given = [state], [batch], [seed], [0.0], self._frozen()
        with partitioner.use():
            return step.lower(*given)

    def decode(self) -> jax.stages.Lowered:
        """A batch's predictions, as `evaluate` and `infer` make them: the rows that do not see the
        input are computed before."""
        config = dataclasses.replace(self.config, dropout_rate=0.0)
        method, partitioner = self.method.exported(), self.partitioner
        model = t5.T5(config, method)
        tuned = self.method.abstract(config, t5.abstract_params(config))
        tuned = jax.eval_shape(self.method.export, tuned)
        tuned = self._at(tuned, partitioner.tuned(method.axes(config, tuned), tuned))
        theta = method.join(self._frozen(), tuned)
        axes = ("layers", "prompts", "prompt", "heads", "kv")
        rows = jax.eval_shape(lambda theta, tuned: t5.row_keys(model, theta, tuned), theta, tuned)
        places = jax.tree.map(lambda a: partitioner.sharding("prompt rows", a.shape, axes), rows)
        tuned |= {"rows": self._at(rows, places)} if rows else {}
        size = self.eval_batch_size or self.batch_size
        size += -size % partitioner.pieces("batch")
        inputs, targets = (self.task_feature_lengths[name] for name in ("inputs", "targets"))
        batch = {"encoder_input_tokens": self._tokens(size, inputs)}
        keys = self._at(jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size)))
        # label words that a ranking would read
        labels = self._at(jax.ShapeDtypeStruct((2, targets), jnp.int32))
        given = theta, tuned, batch, keys, labels
        with partitioner.use():
            return predictor.decode.lower(model, self.decoder, targets, *given)


def cost(
    lowered: jax.stages.Lowered, devices: int, chip: Chip | None, rounds: int
) -> dict[str, Any]:
    """What a program needs of each of its devices when it is compiled, as JSON values.

    Bytes: argument_, output_ (aliased_ of them in place of arguments), temporary_ and peak_bytes,
    as the compiler has laid them; flops, hbm_bytes and collectives: `compiled_cost.Work`, of all
    rounds of loops. With a chip: whether it fits, which is whether used_bytes do (arguments,
    temporaries with the gaps between them, and results: a compiler without the chip refuses a
    program by its peak_bytes, and compiles some that no chip could load), seconds and what limits
    it. Where the compiler found no room there are used_bytes alone, and what it said. rounds:
    `compiled_cost.read`'s.
    """
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        said = str(error).partition(": ")[2].splitlines()[0]
        # it counts arguments in
        needed = re.search(r"temporaries \(([\d.]+)G\)", said)
        used = {"used_bytes": int(float(needed[1]) * 2**30)} if needed else {}
        return {"fits": False, **used, "said": said}
    sizes: Any = compiled.memory_analysis()
    made = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    facts: dict[str, Any] = {
        "argument_bytes": sizes.argument_size_in_bytes,
        "output_bytes": sizes.output_size_in_bytes,
        "aliased_bytes": sizes.alias_size_in_bytes,
        "temporary_bytes": sizes.temp_size_in_bytes,
        "used_bytes": sizes.argument_size_in_bytes + sizes.temp_size_in_bytes + made,
        "peak_bytes": sizes.peak_memory_in_bytes,
    }
    program = compiled_cost.read(compiled.as_text() or "", devices, rounds)
    if chip is not None:
        fits = facts["used_bytes"] <= chip.memory
        facts = {"fits": fits, "memory_bytes": chip.memory} | facts
    facts |= _work(program.work, chip)
    if program.open_loop.hbm_bytes:
        facts["a_round"] = _work(program.open_loop, chip)
    return facts


def _work(work: compiled_cost.Work, chip: Chip | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "flops": work.flops,
        "hbm_bytes": work.hbm_bytes,
        "collectives": {kind: dataclasses.asdict(m) for kind, m in work.collectives.items()},
    }
    if chip is not None:
        seconds = chip.seconds(work)
        limits = {name: seconds[name] for name in ("compute", "memory", "links")}
        facts |= {"roofline_seconds": seconds, "limited_by": max(limits, key=limits.__getitem__)}
    return facts
