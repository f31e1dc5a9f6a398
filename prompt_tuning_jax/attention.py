"""T5's attention over the stack's keys and those that a method adds."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from prompt_tuning_jax.method import Extra

MASKED = -1e10  # T5X's score of a pair that may not attend


def attention(q, k, v, bias=None, visible=None, extra: Extra = (), drop=lambda weights: weights):
    """softmax(q k^T + bias) v, T5's without the division by sqrt(K).

    q [B,T,H,K], k v [B,S,H,K], bias [B|1,H,T,S] float32, visible [B|1,T,S] bool; extra pairs of
    keys and values [P,H,K] or [B,P,H,K], seen by every query at bias 0 -> [B,T,H,K] in q's dtype.
    """
    # [B,H,T,S]
    scores = jnp.einsum("bthk,bshk->bhts", q, k, preferred_element_type=jnp.float32)
    if bias is not None:
        scores += bias
    if visible is not None:
        scores = jnp.where(visible[:, None], scores, MASKED)
    pairs = [(k, v), *((a.astype(k.dtype), b.astype(v.dtype)) for a, b in extra)]
    for keys, _ in pairs[1:]:
        spec = "bthk,phk->bhtp" if keys.ndim == 3 else "bthk,bphk->bhtp"
        more = jnp.einsum(spec, q, keys, preferred_element_type=jnp.float32)
        # [B,H,T,S+P]
        scores = jnp.concatenate([scores, more], -1)
    weights = drop(jax.nn.softmax(scores, -1)).astype(q.dtype)
    out, start = jnp.zeros((), q.dtype), 0
    for _, values in pairs:
        spec = "bhtp,phk->bthk" if values.ndim == 3 else "bhtp,bphk->bthk"
        stop = start + values.shape[-3]
        # [B,T,H,K]
        out += jnp.einsum(spec, weights[..., start:stop], values)
        start = stop
    return out
