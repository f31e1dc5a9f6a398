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
from prompt_tuning_jax.streams import Rows, Stream


class SoftPrompt(nn.Module):
    """Owns P_e and splices it in front of an embedded input (section 2 of the paper).

    The parameter `prompt` is [N,P,D] float32 whatever the activations' dtype, N prompts (tasks) of
    P rows; each of a row's G segments gets the one that its `prompt_ids` [B,G] names, the first
    prompt where there are none. Positions count the prompt: its rows' from 0, the tokens' from P.

    With sees_input the rows are joined to every example and see it, as they do in the paper.
    Without, they see the rows of their own prompt alone, so that the stream carries them [N,P,D]
    apart from the batch; the tokens see them as before (the mask of google-research/prompt-tuning's
    prefix LM).
    """

    length: int
    prompts: int = 1
    sees_input: bool = True
    start: Callable = nn.initializers.uniform(0.5)

    @nn.compact
    def __call__(self, stream: Stream) -> Stream:
        """Stream of [B,T,D] -> [B,G*P+T,D], or [B,T,D] with the rows in its `rows`."""
        batch, _, width = stream.x.shape
        prompt = self.param("prompt", self.start, (self.prompts, self.length, width))
        prompt = prompt.astype(stream.x.dtype)
        front = Rows(prompt, jnp.arange(self.length))
        behind = dataclasses.replace(stream, positions=stream.positions + self.length)
        if not self.sees_input:
            rows = front if stream.rows is None else stream.rows.behind(front)
            return dataclasses.replace(behind, rows=rows)
        ids = stream.prompt_ids
        if ids is None:
            ids = jnp.zeros((batch, 1), jnp.int32)
        segments = jnp.arange(1, ids.shape[1] + 1)
        # [B,G,P,D] -> [B,G*P,D]
        rows = prompt[ids].reshape(batch, -1, width)
        own = jnp.repeat(segments, self.length)[None]
        own = jnp.broadcast_to(own, (batch, own.shape[1]))
        positions = jnp.tile(front.positions, ids.shape[1])[None]
        positions = jnp.broadcast_to(positions, (stream.positions.shape[0], positions.shape[1]))
        return dataclasses.replace(
            behind,
            # [B,G*P,D] and [B,T,D] -> [B,G*P+T,D]
            x=jnp.concatenate([rows, stream.x], 1),
            segment_ids=jnp.concatenate([own, stream.segment_ids], 1),
            positions=jnp.concatenate([positions, behind.positions], 1),
        )


@dataclasses.dataclass(frozen=True)
class Prompt(Method):
    """`length` rows P_e [P,D] (100 in the paper), `start` one of prompt_init.py, `prompts` = N.

    sees_input: whether the rows see the example, as in the paper, or are computed once a batch
    (`SoftPrompt`).
    tuned: {"shared": {"prompt": [N,P,D] float32}}.
    """

    length: int = 100
    start: Any = Uniform()
    prompts: int = 1
    sees_input: bool = True

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
        return SoftPrompt(self.length, self.prompts, start=rows).init(rng, stream)["params"]

    def axes(self, config, tuned):
        return super().axes(config, tuned) | {
            "shared": {"prompt": ("prompts", "prompt", "prompt_embed")}
        }

    def exported(self):
        return dataclasses.replace(self, start=Uniform())

    def together(self, tuned):
        prompts = [tree["shared"]["prompt"] for tree in tuned]
        if self.prompts > 1:
            raise UserError(f"{self.prompts} prompts are in each artifact: load one")
        both = {"prompt": jnp.concatenate(prompts)}
        return dataclasses.replace(self, prompts=len(tuned)), {**tuned[0], "shared": both}

    def embed(self, shared, site, stream):
        if site.stack != "encoder":
            return stream
        soft = SoftPrompt(self.length, self.prompts, self.sees_input)
        return soft.apply({"params": shared}, stream)
