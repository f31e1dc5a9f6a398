"""T5's attention over several groups of keys: the stack's own, prompt rows', a method's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

MASKED = -1e10  # T5X's score of a pair that may not attend


class Keys(NamedTuple):
    """Keys and values [B,S,H,K], or [S,H,K] where all examples have the same.

    bias [B|1,H,T,S] float32, None: 0; visible [B|1,T,S] bool, None: every query sees them.
    """

    k: jax.Array
    v: jax.Array
    bias: jax.Array | None = None
    visible: jax.Array | None = None


def attention(q: jax.Array, groups: Sequence[Keys], drop=lambda weights: weights) -> jax.Array:
    """softmax(q k^T + bias) v over all groups together, T5's without the division by sqrt(K).

    q [B,T,H,K] -> [B,T,H,K] in q's dtype. drop: what is dropped of the weights [B,H,T,S].
    """
    # [B,H,T,S], S over all groups
    scores = jnp.concatenate([_scores(q, group) for group in groups], -1)
    weights = drop(jax.nn.softmax(scores, -1)).astype(q.dtype)
    out, start = jnp.zeros((), q.dtype), 0
    for group in groups:
        spec = "bhts,shk->bthk" if group.v.ndim == 3 else "bhts,bshk->bthk"
        stop = start + group.v.shape[-3]
        # [B,T,H,K]
        out += jnp.einsum(spec, weights[..., start:stop], group.v.astype(q.dtype))
        start = stop
    return out


def _scores(q: jax.Array, group: Keys) -> jax.Array:
    spec = "bthk,shk->bhts" if group.k.ndim == 3 else "bthk,bshk->bhts"
    keys = group.k.astype(q.dtype)
    scores = jnp.einsum(spec, q, keys, preferred_element_type=jnp.float32)
    if group.bias is not None:
        scores += group.bias
    if group.visible is not None:
        scores = jnp.where(group.visible[:, None], scores, MASKED)
    return scores
