"""A weight of the frozen model, with T5X's logical axis names, and what T5 does with one: matrix
product and norm. A weight starts as float32 and may be held in bfloat16 or int8; it is computed
with in the activations' dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from prompt_tuning_jax.int8 import Int8


def weight(
    module: nn.Module, name: str, init: Callable, shape: tuple[int, ...], axes: tuple[str, ...]
) -> jax.Array | Int8:
    """`module`'s parameter `name`, one axis name a dimension. Int8 where θ is held so: of a tree
    that stands for an array flax compares the first leaf's shape, its values'."""
    value: Any = module.param(name, nn.with_logical_partitioning(init, axes), shape, jnp.float32)
    return value


class Kernel(nn.Module):
    """x [..., in] @ kernel [in, features] -> [..., features], in x's dtype; T5 has no biases."""

    features: int
    axes: tuple[str, str]
    scale: float = 1.0
    distribution: Literal["normal", "truncated_normal"] = "normal"

    @nn.compact
    def __call__(self, x):
        init = nn.initializers.variance_scaling(self.scale, "fan_in", self.distribution)
        kernel = weight(self, "kernel", init, (x.shape[-1], self.features), self.axes)
        return x @ (kernel if isinstance(kernel, Int8) else kernel.astype(x.dtype))


class Norm(nn.Module):
    """T5's layer norm: x / rms(x) * scale, computed in float32, no mean and no bias."""

    @nn.compact
    def __call__(self, x):
        scale = weight(self, "scale", nn.initializers.ones, (x.shape[-1],), ("embed",))
        wide = x.astype(jnp.float32)
        wide *= jax.lax.rsqrt(jnp.mean(jnp.square(wide), -1, keepdims=True) + 1e-6)
        return wide.astype(x.dtype) * scale.astype(x.dtype)
