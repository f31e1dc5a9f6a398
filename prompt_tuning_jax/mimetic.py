"""A start for small T5s from which they soon find out whose value is whose, and what is the same.

At T5X's random start a small model first learns to answer with any value that the text has, and
while it does so the trace of a value's neighbours is wiped out of its encoder states: from there
gradients show no way on. This start has that way built in, after Trockman and Kolter 2023
("Mimetic Initialization of Self-Attention Layers", arXiv 2305.09828), who start each head's query
times key and value times output near multiples of the identity. Five orthogonal parts of the states
have a use from the start; the embeddings leave all but the first free:

- OWN: what a token is.
- LEFT, RIGHT: its neighbours on either side, which some heads look at by the distance's bias.
- TWIN: the LEFT of the same token elsewhere. One head of the encoder looks for it, and not at the
  token itself, which would be the most alike.
- MATCH, one direction: how alike LEFT and TWIN are, as the MLP's products tell. A claim that was
  said before has it.

The other heads, and half of the heads of the cross-attention, look for tokens that are alike in
themselves or in their neighbours. Nothing is held: training moves all of it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import traverse_util

from prompt_tuning_jax import t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Tree
from prompt_tuning_jax.relative_positions import bucket

# Of each local head. A decoder's head sees no later token: those heads begin without a bias there.
NEIGHBOURS = (-1, 1, -2, 2)


@dataclasses.dataclass(frozen=True)
class Mimetic:
    """T5X's random start with neighbours and likeness built in.

    strength: added to the bias of the distance that a local head looks at, and in the encoder taken
      from that of the token itself where a head looks for likeness. Attention is its exponential:
      e^8 leaves a head hardly anything else to see.
    match: how long MATCH is for a perfect match, in embeddings.
    """

    strength: float = 8.0
    match: float = 0.5

    def __call__(self, rng: jax.Array, config: t5.T5Config) -> Tree:
        """θ, traceable.

        Raises:
          UserError: heads or states too few, MLP too narrow or not gated, or a table of distances
            a layer.
        """
        c, local, width = config, len(NEIGHBOURS), config.head_dim
        gated = c.mlp_activations == ("gelu", "linear") and c.mlp_dim >= 2 * width
        if c.num_heads < local + 2 or c.emb_dim <= 4 * width or c.relpos_per_layer or not gated:
            raise UserError(
                f"mimetic.Mimetic: NUM_HEADS = {c.num_heads}, EMBED_DIM = {c.emb_dim}, HEAD_DIM = "
                f"{width}, MLP_DIM = {c.mlp_dim}: it takes {local + 2} heads or more, more than "
                f"{4 * width} EMBED_DIM, {2 * width} MLP_DIM or more with gelu and linear, and one "
                "table of distances a stack"
            )
        random, orthonormal = jax.random.split(rng)
        # [D,D], orthonormal columns: four parts [D,K] and a direction [D,1]
        basis = jnp.linalg.qr(jax.random.normal(orthonormal, (c.emb_dim, c.emb_dim)))[0]
        own, left, right, twin = (basis[:, i * width : (i + 1) * width] for i in range(4))
        match = basis[:, 4 * width]
        flat = traverse_util.flatten_dict(t5.init_params(random, config), sep="/")

        def put(kernel, heads, part):
            """A part [D,K] into some heads of a kernel [L,D,H*K], or of an output [L,H*K,D]."""
            name, chosen = f"{kernel}/kernel", jnp.array(heads)
            leaf = flat[name]
            if kernel.endswith("out"):
                # [L,H*K,D] -> [L,H,K,D]
                split = leaf.reshape(leaf.shape[0], c.num_heads, width, -1)
                flat[name] = split.at[:, chosen].set(part.T).reshape(leaf.shape)
            else:
                # [L,D,H*K] -> [L,D,H,K]
                split = leaf.reshape(*leaf.shape[:2], c.num_heads, width)
                flat[name] = split.at[:, :, chosen].set(part[:, None]).reshape(leaf.shape)

        encoder, cross = "encoder/layers/attention", "decoder/layers/encoder_decoder_attention"
        for block in (encoder, "decoder/layers/self_attention"):
            for head, offset in enumerate(NEIGHBOURS):
                put(f"{block}/value", [head], own)
                put(f"{block}/out", [head], left if offset < 0 else right)
            for which in ("query", "key"):
                put(f"{block}/{which}", [local], left)
                put(f"{block}/{which}", range(local + 1, c.num_heads), own + left + right)
        for which in ("query", "key"):
            put(f"{encoder}/{which}", [local + 1], own)
            put(f"{cross}/{which}", range(c.num_heads // 2), own + left + right)
        put(f"{encoder}/value", [local + 1], left)
        put(f"{encoder}/out", [local + 1], twin)
        for stack in ("encoder", "decoder"):
            name = f"{stack}/relpos_bias/rel_embedding"
            flat[name] = self._distances(flat[name], stack == "encoder")

        # gelu(u) v + gelu(-u) (-v) = u v: 2 K of the MLP's products add up to LEFT times TWIN
        products, mlp = slice(2 * width), "encoder/layers/mlp"
        per_product = self.match * jnp.sqrt(c.emb_dim) / width
        for kernel, part in (("wi_0", left), ("wi_1", twin)):
            name = f"{mlp}/{kernel}/kernel"
            flat[name] = flat[name].at[:, :, products].set(jnp.concatenate([part, -part], 1))
        name = f"{mlp}/wo/kernel"
        flat[name] = flat[name].at[:, products].set(per_product * match)

        # [D,3K+1]
        free = basis[:, width : 4 * width + 1]
        embedding = flat["token_embedder/embedding"]
        embedding = embedding - embedding @ free @ free.T
        longer = jnp.sqrt(c.emb_dim / (c.emb_dim - free.shape[1]))
        flat["token_embedder/embedding"] = embedding * longer
        return traverse_util.unflatten_dict(flat, sep="/")

    def _distances(self, table: jax.Array, bidirectional: bool) -> jax.Array:
        """The stack's table of distances [H,buckets]: which each head shall see, or shall not."""
        seen = [(h, offset) for h, offset in enumerate(NEIGHBOURS) if bidirectional or offset < 0]
        heads, offsets = jnp.array(seen).T
        places = bucket(offsets, bidirectional, table.shape[1])
        table = table.at[heads, places].add(self.strength)
        if not bidirectional:
            return table
        itself = bucket(jnp.array(0), bidirectional, table.shape[1])
        return table.at[len(NEIGHBOURS) :, itself].add(-self.strength)
