"""T5's attention over several groups of keys: the stack's own, prompt rows', a method's."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from prompt_tuning_jax.method import Method, Site
from prompt_tuning_jax.streams import Context, Pair
from prompt_tuning_jax.weights import Kernel

if TYPE_CHECKING:
    from prompt_tuning_jax.t5 import T5Config

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

    q [B,T,H,K] -> [B,T,H,K] in q's dtype. drop: what is dropped of a group's weights [B,H,T,S].
    """
    # [B,H,T,S] of each group
    weights = softmax(tuple(_scores(q, group) for group in groups))
    out = jnp.zeros((), q.dtype)
    for group, part in zip(groups, weights, strict=True):
        spec = "bhts,shk->bthk" if group.v.ndim == 3 else "bhts,bshk->bthk"
        # [B,T,H,K]
        out += jnp.einsum(spec, drop(part).astype(q.dtype), group.v.astype(q.dtype))
    return out


@jax.custom_jvp
def softmax(scores: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """The softmax over the last axes of all arrays together, [B,H,T,S] each: as that of the joined
    scores, which would be a copy of them, and of the weights on the way back, in memory."""
    largest = functools.reduce(jnp.maximum, [part.max(-1, keepdims=True) for part in scores])
    powers = [jnp.exp(part - largest) for part in scores]
    total = sum(part.sum(-1, keepdims=True) for part in powers)
    # by its inverse: libtpu 0.0.42 dies of the division, a stack overflow, for T5 base in int8
    return tuple(part * (1 / total) for part in powers)


@softmax.defjvp
def _softmax_jvp(primals, tangents):
    weights = softmax(*primals)
    pairs = [*zip(weights, tangents[0], strict=True)]
    mean = sum((weight * moved).sum(-1, keepdims=True) for weight, moved in pairs)
    return weights, tuple(weight * (moved - mean) for weight, moved in pairs)


def _scores(q: jax.Array, group: Keys) -> jax.Array:
    spec = "bthk,shk->bhts" if group.k.ndim == 3 else "bthk,bshk->bhts"
    keys = group.k.astype(q.dtype)
    scores = jnp.einsum(spec, q, keys, preferred_element_type=jnp.float32)
    if group.bias is not None:
        scores += group.bias
    if group.visible is not None:
        # added, not chosen: nothing to do on the way back
        scores += jnp.where(group.visible[:, None], 0.0, MASKED)
    return scores


class Attention(nn.Module):
    """Multi-head attention, self or cross.

    cache: keys and values that are already there, "self" [B,S,H,K] (slots to be filled while
    decoding), "cross" [B,H,K,S] and "rows" [N,P,H,K]; it returns with those that were used.
    """

    config: T5Config
    method: Method

    @nn.compact
    def __call__(self, x, tuned, site: Site, context: Context, cache: dict[str, Pair]):
        c, dtype = self.config, x.dtype
        joined = c.num_heads * c.head_dim

        @functools.cache  # keys and values of tokens and of rows have the same weights
        def kernel(name, features=joined, axes=("embed", "joined_kv"), scale=1.0):
            return Kernel(features, axes, scale, name=name)

        def project(name, inputs, *choices):
            weight = kernel(name, *choices)
            return self.method.project(tuned, site._replace(name=name), weight, inputs)

        def heads(a, axis=context.axis):
            # TPUs would make product and reshape one, for which they copy all layers' kernels
            a = jax.lax.optimization_barrier(a)
            # [B,S,H*K] -> [B,S,H,K]
            a = a.reshape(*a.shape[:-1], c.num_heads, c.head_dim)
            return nn.with_logical_constraint(a, (axis, "length", "heads", "kv"))

        def keys_and_values(source, axis=context.axis):
            return heads(project("key", source), axis), heads(project("value", source), axis)

        # T5 folds the division by sqrt(K) into the start of the query kernel: variance / K
        q = heads(project("query", x, joined, ("embed", "joined_kv"), 1.0 / c.head_dim))
        bias: jax.Array | None = context.bias
        visible: jax.Array | None = context.visible
        if site.part == "self":
            k, v = keys_and_values(x)
            if "self" in cache:
                # [B,1,H,K] into [B,S,H,K]
                k, v = (
                    jax.lax.dynamic_update_slice_in_dim(old, new, context.step, axis=1)
                    for old, new in zip(cache["self"], (k, v), strict=True)
                )
            cache = cache | {"self": (k, v)}
        else:
            bias, visible = None, context.memory_visible
            if "cross" not in cache:
                # [B,S,H,K] -> [B,H,K,S], as every step of decoding reads them
                pair = (a.transpose(0, 2, 3, 1) for a in keys_and_values(context.memory))
                cache = cache | {"cross": tuple(pair)}
            k, v = (a.transpose(0, 3, 1, 2) for a in cache["cross"])
        rows = []
        if context.seen is not None and site.part == (
            "self" if context.memory is None else "cross"
        ):
            if "rows" not in cache:
                cache = cache | {"rows": keys_and_values(context.memory_rows, "prompts")}
            seen = context.seen
            rows = [Keys(*seen.pick(cache["rows"]), seen.bias, seen.visible)]
        # T5 drops whole columns: the same keys for every query of a head
        drop = nn.Dropout(c.dropout_rate, broadcast_dims=(-2,), deterministic=not site.train)

        def step(q, k, v, extra):
            added = [Keys(*pair) for pair in extra]
            return attention(q, [Keys(k, v, bias, visible), *rows, *added], drop)

        y = self.method.attend(tuned, site, step, q, k, v, ())
        # [B,T,H,K] -> [B,T,H*K] -> [B,T,D]
        y = y.astype(dtype).reshape(*y.shape[:-2], joined)
        return project("out", y, c.emb_dim, ("joined_kv", "embed")), cache
