"""A weight of the frozen model: float32, with T5X's logical axis names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def weight(
    module: nn.Module, name: str, init: Callable, shape: tuple[int, ...], axes: tuple[str, ...]
) -> jax.Array:
    """`module`'s parameter `name`, one axis name a dimension."""
    value: Any = module.param(name, nn.with_logical_partitioning(init, axes), shape, jnp.float32)
    return value
