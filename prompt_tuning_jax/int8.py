"""Weights in int8: a matrix as whole numbers and one scale for each channel that it gives.

Symmetric and of weights alone, the largest value of a channel being 127 steps (Krishnamoorthi
2018, "Quantizing deep convolutional networks for efficient inference"). Scales are
bfloat16: 127 of them is a float32 without rounding, so that values which were quantised before
are quantised to themselves, bit for bit. Norms and tables of distances stay float32.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import struct

STEPS = 127  # -128 has no counterpart and is left out


@struct.dataclass
class Int8:
    """A leaf of θ that stands for the matrix values * scale.

    values: int8. scale: bfloat16, of as many dimensions, 1 long where a product sums: a kernel
    [...,in,out] has [...,1,out], the embedding [V,D] has [V,1].
    """

    values: Any
    scale: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def ndim(self) -> int:
        return self.values.ndim

    @property
    def T(self) -> Int8:
        return Int8(self.values.T, self.scale.T)

    def __getitem__(self, ids: Any) -> jax.Array:
        """Rows of axis 0, float32; one that is not there is NaN."""
        values, scale = (jnp.take(part, ids, axis=0) for part in (self.values, self.scale))
        return values.astype(jnp.float32) * scale.astype(jnp.float32)

    def astype(self, dtype: Any) -> jax.Array:
        """The whole matrix in floating-point numbers."""
        whole = self.values.astype(jnp.float32) * self.scale.astype(jnp.float32)
        return whole.astype(dtype)

    def __rmatmul__(self, x: jax.Array) -> jax.Array:
        """x [...,in] @ [in,out] -> [...,out] in x's dtype, summed and scaled in float32."""
        return _product(x, self.values, self.scale)


@jax.custom_vjp
def _product(x, values, scale):
    # scaled after the product: the matrix itself is int8 wherever it has to lie in memory
    y = jnp.dot(x, values.astype(x.dtype), preferred_element_type=jnp.float32)
    return (y * scale[0].astype(jnp.float32)).astype(x.dtype)


def _forward(x, values, scale):
    # JAX would keep values.astype(x.dtype) of every layer for the way back
    return _product(x, values, scale), (values, scale)


def _backward(kept, gradient):
    values, scale = kept
    scaled = gradient.astype(jnp.float32) * scale[0].astype(jnp.float32)
    # [...,out] @ [out,in] -> [...,in]; θ has no gradient
    return jnp.dot(scaled.astype(gradient.dtype), values.T.astype(gradient.dtype)), None, None


_product.defvjp(_forward, _backward)


def summed(path: str) -> int | None:
    """The axis of θ's leaf at `path` over which its products sum; None: it is held in float32.

    The embedding's are those of T5 1.0's logits, so that both of its uses have a scale a token.
    """
    return {"kernel": -2, "embedding": -1}.get(path.split("/")[-1])


def quantise(matrix: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """(values, scale) of a matrix, or of a stack of them, as `Int8` has them: none is off by more
    than half a step."""
    exact = np.asarray(matrix, np.float32)
    largest = np.maximum(exact.max(axis, keepdims=True), -exact.min(axis, keepdims=True))
    scale = (largest / STEPS).astype(ml_dtypes.bfloat16)
    scale[scale == 0] = 1  # of nothing but zeros
    steps = np.rint(exact / scale.astype(np.float32))
    return np.clip(steps, -STEPS, STEPS, out=steps).astype(np.int8), scale


def floats(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The matrix, float32."""
    return values.astype(np.float32) * scale.astype(np.float32)
