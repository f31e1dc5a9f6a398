"""What travels through a stack, what its layers share, what the encoder hands to the decoder.

Shapes: B batch, T tokens in a row, G segments packed in a row, N prompts of P rows, D emb_dim,
S keys, H heads, K head_dim, L layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

Pair = tuple[jax.Array, jax.Array]  # keys and values


@struct.dataclass
class Rows:
    """Prompt rows apart from the batch: they see the rows of their own prompt and no input, so
    that the stack computes them once for all examples that read them.

    x [N,P,D]; positions [P] int32; keys {"encoder", "decoder"}: the keys and values [L,N,P,H,K] of
    every layer's self- and cross-attention where they were computed before, {} where the model is
    to do it.
    """

    x: jax.Array
    positions: jax.Array
    keys: dict[str, Pair] = struct.field(default_factory=dict)

    def behind(self, front: Rows) -> Rows:
        """Both, `front` first and at its own positions."""
        prompts = max(self.x.shape[0], front.x.shape[0])
        both = (jnp.broadcast_to(r.x, (prompts, *r.x.shape[1:])) for r in (front, self))
        positions = jnp.concatenate([front.positions, self.positions + front.positions.shape[0]])
        # [N,P,D] and [N,P',D] -> [N,P+P',D]
        return Rows(jnp.concatenate([*both], 1), positions)


@struct.dataclass
class Stream:
    """What travels through a stack. The model alone builds masks and position biases from it.

    x [B,T,D]; segment_ids [B,T] int32, 0 is padding, tokens attend within their own segment;
    positions [B,T], or [1,T] where all examples have the same; prompt_ids [B,G] int32, the prompt
    of each of G segments in a row, or None where there is one prompt; rows: those that each token
    sees too, its own segment's prompt.
    """

    x: jax.Array
    segment_ids: jax.Array
    positions: jax.Array
    prompt_ids: jax.Array | None = None
    rows: Rows | None = None


@struct.dataclass
class Encoded:
    """The encoder's result: states x [B,S,D], segment_ids [B,S], a method's second stream, the
    prompt of each segment [B,G] and the rows' own states."""

    x: jax.Array
    segment_ids: jax.Array
    side: Any = None
    prompt_ids: jax.Array | None = None
    rows: Rows | None = None


@struct.dataclass
class Seen:
    """How a stack's queries see the rows.

    positions [1,S] of the rows as keys, S = P, or G*P where there are several prompts; bias
    [B|1,H,T,S], None in cross-attention and where each layer has a table; visible [B,T,S] bool,
    None where all are; prompt_ids [B,G], None where there is one prompt.
    """

    positions: jax.Array
    bias: jax.Array | None = None
    visible: jax.Array | None = None
    prompt_ids: jax.Array | None = None

    @classmethod
    def of(cls, rows: Rows, segment_ids: jax.Array, prompt_ids: jax.Array | None) -> Seen:
        """By queries of these segments [B,T]; the bias is left out."""
        if rows.x.shape[0] == 1 or prompt_ids is None:
            return cls(rows.positions[None])
        (length,), segments = rows.positions.shape, prompt_ids.shape[1]
        positions, visible = jnp.tile(rows.positions, segments)[None], None
        if segments > 1:
            own = jnp.repeat(jnp.arange(1, segments + 1), length)
            # [B,T,G*P]
            visible = segment_ids[:, :, None] == own
        return cls(positions, None, visible, prompt_ids)

    def pick(self, pair: Pair) -> Pair:
        """Keys and values of all prompts [N,P,H,K] -> what is seen, [P,H,K] or [B,G*P,H,K]."""
        if self.prompt_ids is None:
            return pair[0][0], pair[1][0]
        batch = self.prompt_ids.shape[0]
        # [B,G,P,H,K] -> [B,G*P,H,K]
        k, v = (a[self.prompt_ids].reshape(batch, -1, *a.shape[2:]) for a in pair)
        return k, v


@struct.dataclass
class Context:
    """What the layers of a stack share."""

    positions: tuple[jax.Array, jax.Array]  # [B|1,T] and [B|1,S], queries and keys
    bias: jax.Array | None  # [B|1,H,T,S] self-attention's, None where each layer has a table
    visible: jax.Array  # [B|1,T,S] bool: which keys a query may see in self-attention
    memory: jax.Array | None = None  # [B,S,D] encoder states
    memory_visible: jax.Array | None = None  # [B,T,S] bool, the same for cross-attention
    memory_rows: jax.Array | None = None  # [N,P,D] encoder states of rows apart from the batch
    seen: Seen | None = None  # how such rows are seen, in the encoder or in cross-attention
    step: Any = None  # decoding step, int32: where in the cache this token goes
    keep: bool = struct.field(pytree_node=False, default=False)  # keys and values leave the layers
    axis: str = struct.field(pytree_node=False, default="batch")  # what x's first axis is

    def with_bias(self, distances: Callable[[jax.Array, jax.Array], jax.Array]) -> Context:
        """With self-attention's biases, `distances` of the positions of queries and keys."""
        query, key = self.positions
        seen = self.seen
        if seen is not None and self.memory is None:
            seen = dataclasses.replace(seen, bias=distances(query, seen.positions))
        return dataclasses.replace(self, bias=distances(query, key), seen=seen)
