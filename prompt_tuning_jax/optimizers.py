"""Learning-rate schedules and optimizers: optax's, told which leaves are stacks.

An optimizer is a frozen dataclass; `build(axes)` returns the optax transformation for a `tuned`
whose logical axes are `axes` (method.py).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from prompt_tuning_jax.errors import UserError

FACTORS = ("constant", "linear_warmup", "rsqrt_decay", "rsqrt_normalized_decay", "linear_decay")
STACKED = ("layers", "prompts")  # leading axes of independent parameters


@dataclasses.dataclass(frozen=True)
class LearningRate:
    """A product of named factors of the step, in the way of T5X's `create_learning_rate_scheduler`.

    factors, joined by " * ": "constant" (base_learning_rate), "linear_warmup" (min(1, step / w)),
    "rsqrt_decay" (1 / sqrt(max(step, w))), "rsqrt_normalized_decay" (sqrt(w) times that),
    "linear_decay" (from 1 at w down to 0 at decay_steps; not T5X's of that name); w =
    warmup_steps, steps count from 0.
    """

    factors: str = "constant"
    base_learning_rate: float = 0.3
    warmup_steps: int = 1000
    decay_steps: int = 0

    def __post_init__(self):
        for name in self._names():
            if name not in FACTORS:
                raise UserError(f"LearningRate.factors: {name!r} is none of {', '.join(FACTORS)}")
        if "linear_decay" in self._names() and self.decay_steps <= self.warmup_steps:
            raise UserError("LearningRate.decay_steps: linear_decay needs more than warmup_steps")

    def _names(self):
        return [name.strip() for name in self.factors.split("*")]

    def _factors(self, step):
        w = self.warmup_steps
        late = jnp.maximum(step, max(w, 1))
        return {
            "linear_warmup": jnp.minimum(1.0, step / max(w, 1)),
            "rsqrt_decay": late**-0.5,
            "rsqrt_normalized_decay": (max(w, 1) / late) ** 0.5,
            "linear_decay": jnp.clip(
                (self.decay_steps - step) / max(self.decay_steps - w, 1), 0, 1
            ),
        }

    def __call__(self, step: jax.Array) -> jax.Array:
        """The rate at `step` (int32, from 0), a float32 scalar."""
        rate = jnp.float32(1.0)
        factors = self._factors(jnp.asarray(step, jnp.float32))
        for name in self._names():
            rate *= self.base_learning_rate if name == "constant" else factors[name]
        return rate


def _inside_stacks(rule: optax.GradientTransformation, axes: Any) -> optax.GradientTransformation:
    """`rule` for every leaf alone, vmapped over a leading axis of layers or prompts.

    So a stack of L matrices is factored and clipped as L parameters, whatever is stacked.
    """

    def each(function, *trees):
        def leaf(names, *leaves):
            stacked = names and names[0] in STACKED
            return (jax.vmap(function) if stacked else function)(*leaves)

        return jax.tree.map(leaf, axes, *trees, is_leaf=lambda a: isinstance(a, tuple))

    def init(params):
        return each(rule.init, params)

    def update(updates, state, params):
        pairs = each(rule.update, updates, state, params)
        # a leaf of `axes` -> (update, state)
        outer: Any = jax.tree.structure(axes, is_leaf=lambda a: isinstance(a, tuple))
        flat = outer.flatten_up_to(pairs)
        return outer.unflatten([u for u, _ in flat]), outer.unflatten([s for _, s in flat])

    return optax.GradientTransformation(init, update)


@dataclasses.dataclass(frozen=True)
class Adafactor:
    """Adafactor (Shazeer and Stern 2018) as T5X has it; the defaults are the paper's for prompts.

    The second moment is factored where two dimensions are at least min_dim_size_to_factor, its
    decay is 1 - t^-decay_rate with t counted from 1 - step_offset (T5X resuming a published
    checkpoint counts on: step_offset = -1_100_000); an update's RMS is clipped to
    clipping_threshold; multiply_by_parameter_scale multiplies the rate by max(RMS(p), 1e-3);
    weight decay is independent of the rate: p <- (1 - weight_decay_rate) p - update.
    Factoring, clipping and scaling are inside each layer and each prompt of a stacked leaf.
    """

    learning_rate: LearningRate = LearningRate()
    decay_rate: float = 0.8
    step_offset: int = 0
    clipping_threshold: float | None = 1.0
    multiply_by_parameter_scale: bool = False
    weight_decay_rate: float | None = 1e-5
    min_dim_size_to_factor: int = 128

    def build(self, axes: Any) -> optax.GradientTransformation:
        """The optax transformation for leaves of these logical axes."""
        inside = [
            optax.scale_by_factored_rms(
                decay_rate=self.decay_rate,
                step_offset=self.step_offset,
                min_dim_size_to_factor=self.min_dim_size_to_factor,
            )
        ]
        if self.clipping_threshold is not None:
            inside.append(optax.clip_by_block_rms(self.clipping_threshold))
        if self.multiply_by_parameter_scale:
            inside.append(optax.scale_by_param_block_rms())
        parts = [_inside_stacks(optax.chain(*inside), axes)]
        parts.append(optax.scale_by_learning_rate(self.learning_rate))
        if self.weight_decay_rate:
            parts.append(optax.add_decayed_weights(-self.weight_decay_rate))
        return optax.chain(*parts)


@dataclasses.dataclass(frozen=True)
class Optax:
    """Any optimizer of optax by its name, e.g. rule = "adamw", options = {"weight_decay": 0.01}.

    multiply_by_parameter_scale multiplies what it makes of a parameter by max(RMS(p), 1e-3), inside
    each layer and each prompt of a stacked leaf, as Adafactor's setting of that name does.
    """

    rule: str = "adamw"
    learning_rate: LearningRate = LearningRate(base_learning_rate=1e-3)
    options: Any = None
    multiply_by_parameter_scale: bool = False

    def build(self, axes: Any) -> optax.GradientTransformation:
        """The optax transformation; the rule takes every leaf as it is, stacked or not."""
        make = getattr(optax, self.rule, None)
        if make is None:
            raise UserError(f"Optax.rule = {self.rule!r}: optax has no such optimizer")
        try:
            rule = make(self.learning_rate, **(self.options or {}))
        except TypeError as error:
            raise UserError(f"Optax.rule = {self.rule!r}: {error}") from None
        if self.multiply_by_parameter_scale:
            return optax.chain(rule, _inside_stacks(optax.scale_by_param_block_rms(), axes))
        return rule
