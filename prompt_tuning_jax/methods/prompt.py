"""Prompt tuning (Lester, Al-Rfou and Constant 2021): P trained rows in front of the input."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.prompt_init import Uniform
from prompt_tuning_jax.t5 import Stream


class SoftPrompt(nn.Module):
    """Owns P_e and splices it in front of an embedded input (section 2 of the paper).

    The parameter `prompt` is [N,P,D] float32 whatever the activations' dtype, N prompts (tasks) of
    P rows; each example gets the one that its `prompt_ids` names, the first where it names none.
    One segment a row: the prompt belongs to segment 1, so packed rows are not for it.
    """

    length: int
    prompts: int = 1
    start: Callable = nn.initializers.uniform(0.5)

    @nn.compact
    def __call__(self, stream: Stream) -> Stream:
        """Stream of [B,T,D] -> [B,P+T,D]; mask and positions cover the prompt's rows."""
        batch, _, width = stream.x.shape
        shape = (self.prompts, self.length, width)
        prompt = self.param("prompt", self.start, shape)
        if stream.prompt_ids is None:
            rows = jnp.broadcast_to(prompt[0], (batch, *shape[1:]))
        else:
            rows = prompt[stream.prompt_ids[:, 0]]
        first = jnp.ones((stream.segment_ids.shape[0], self.length), jnp.int32)
        own = jnp.broadcast_to(jnp.arange(self.length), (stream.positions.shape[0], self.length))
        return dataclasses.replace(
            stream,
            # [B,P,D] and [B,T,D] -> [B,P+T,D]
            x=jnp.concatenate([rows.astype(stream.x.dtype), stream.x], 1),
            segment_ids=jnp.concatenate([first, stream.segment_ids], 1),
            positions=jnp.concatenate([own, stream.positions + self.length], 1),
        )


@dataclasses.dataclass(frozen=True)
class Prompt(Method):
    """`length` rows P_e [P,D] (100 in the paper), `start` one of prompt_init.py, `prompts` = N.

    tuned: {"shared": {"prompt": [N,P,D] float32}}.
    """

    length: int = 100
    start: Any = Uniform()
    prompts: int = 1

    def __post_init__(self):
        if not (isinstance(self.length, int) and self.length > 0):
            raise UserError(f"PROMPT_LENGTH = {self.length!r}: a prompt has at least one row")

    def read(self, vocabulary, label_words):
        return self.start.read(vocabulary, label_words)

    def init_shared(self, rng, config, theta, start):
        embedding = theta["token_embedder"]["embedding"]

        def rows(rng, shape):
            if start is None:
                return jnp.zeros(shape)
            draw = functools.partial(
                self.start.rows, length=shape[1], embedding=embedding, read=start
            )
            return jax.vmap(draw)(jax.random.split(rng, shape[0])).astype(jnp.float32)

        one = jnp.zeros((1, 1), jnp.int32)
        stream = Stream(jnp.zeros((1, 1, config.emb_dim)), one, one)
        return SoftPrompt(self.length, self.prompts, rows).init(rng, stream)["params"]

    def axes(self, config, tuned):
        return super().axes(config, tuned) | {
            "shared": {"prompt": ("prompts", "prompt", "prompt_embed")}
        }

    def exported(self):
        return dataclasses.replace(self, start=Uniform())

    def embed(self, shared, site, stream):
        if site.stack != "encoder":
            return stream
        return SoftPrompt(self.length, self.prompts).apply({"params": shared}, stream)
