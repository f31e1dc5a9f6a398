"""T5's relative positions: distances in buckets, a bias for each (Raffel et al. 2020)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning_jax.weights import weight

MAX_DISTANCE = 128


def bucket(distance: jax.Array, bidirectional: bool, buckets: int = 32) -> jax.Array:
    """Buckets of key position minus query position, int32 -> int32 in [0, buckets).

    T5's: half of the buckets for exact small distances, the others logarithmic up to 128; a
    bidirectional stack has half of them for each direction. Taken from a table computed in numpy,
    so that no compiler's logarithm moves a bucket's edge.
    """
    buckets = buckets // 2 if bidirectional else buckets
    exact = buckets // 2
    n = np.arange(MAX_DISTANCE + 1)
    ratio = np.log(np.maximum(n, 1).astype(np.float32) / exact + np.finfo(np.float32).eps)
    large = exact + (ratio / np.log(MAX_DISTANCE / exact) * (buckets - exact)).astype(int)
    table = jnp.asarray(np.where(n < exact, n, np.minimum(large, buckets - 1)), jnp.int32)
    if not bidirectional:
        return table[jnp.clip(-distance, 0, MAX_DISTANCE)]
    return table[jnp.minimum(jnp.abs(distance), MAX_DISTANCE)] + buckets * (distance > 0)


class RelativePositions(nn.Module):
    """The bias of a stack's self-attention: positions [B|1,T] and [B|1,S] -> [B|1,H,T,S]."""

    heads: int
    bidirectional: bool
    buckets: int = 32

    @nn.compact
    def __call__(self, query, key):
        init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        shape, axes = (self.heads, self.buckets), ("heads", "relpos_buckets")
        table = weight(self, "rel_embedding", init, shape, axes)
        # [B|1,T,S]
        distance = key[:, None, :] - query[:, :, None]
        # [H,B|1,T,S] -> [B|1,H,T,S]
        return table[:, bucket(distance, self.bidirectional, self.buckets)].swapaxes(0, 1)
