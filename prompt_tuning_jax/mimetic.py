"""A start for small T5s from which they soon find out whose value is whose.

At T5X's random start a small model first learns to answer with any value that the text has, and
while it does so the trace of a value's neighbours is wiped out of its encoder states: from there
gradients show no way on. This start has that way built in, after Trockman and Kolter 2023
("Mimetic Initialization of Self-Attention Layers", arXiv 2305.09828), who start each head's query
times key and value times output near multiples of the identity:

- some heads of the self-attention look at a neighbour each, by the distance's bias, and copy what
  they see there into a subspace B of the states;
- the other heads, and half of the heads of the cross-attention, look for what is alike within B.

Nothing is held: training moves all of it.
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

# A decoder's head sees no later token: those heads begin without a bias there.
NEIGHBOURS = (-1, 1, -2, 2)


@dataclasses.dataclass(frozen=True)
class Mimetic:
    """T5X's random start with neighbours and likeness built in.

    strength: added to the bias of the distance that a local head looks at. Attention is its
    exponential: e^8 leaves the head hardly anything else to see.
    """

    strength: float = 8.0

    def __call__(self, rng: jax.Array, config: t5.T5Config) -> Tree:
        """θ, traceable.

        Raises:
          UserError: heads too few, a head wider than the states, or a table of distances a layer.
        """
        local, heads, width = len(NEIGHBOURS), config.num_heads, config.head_dim
        if heads <= local or width > config.emb_dim or config.relpos_per_layer:
            raise UserError(
                f"mimetic.Mimetic: NUM_HEADS = {heads}, HEAD_DIM = {width}: it takes more than "
                f"{local} heads, none wider than EMBED_DIM, and one table of distances a stack"
            )
        random, orthonormal = jax.random.split(rng)
        # B [D,K], K orthonormal columns
        basis = jnp.linalg.qr(jax.random.normal(orthonormal, (config.emb_dim, width)))[0]
        flat = traverse_util.flatten_dict(t5.init_params(random, config), sep="/")

        def begin(kernel, chosen):
            # [L,D,H*K] -> [L,D,H,K]
            split = kernel.reshape(*kernel.shape[:2], heads, width)
            return split.at[:, :, chosen].set(basis[:, None]).reshape(kernel.shape)

        for name, leaf in flat.items():
            part, which = ["", *name.split("/")][-3:-1]
            if part == "encoder_decoder_attention" and which in ("query", "key"):
                flat[name] = begin(leaf, slice(heads // 2))
            elif part in ("attention", "self_attention") and which in ("query", "key"):
                flat[name] = begin(leaf, slice(local, None))
            elif part in ("attention", "self_attention") and which == "value":
                flat[name] = begin(leaf, slice(local))
            elif part in ("attention", "self_attention") and which == "out":
                # [L,H*K,D] -> [L,H,K,D]
                split = leaf.reshape(leaf.shape[0], heads, width, -1)
                flat[name] = split.at[:, :local].set(basis.T).reshape(leaf.shape)
            elif which == "relpos_bias":
                flat[name] = self._local(leaf, name.startswith("encoder"))
        return traverse_util.unflatten_dict(flat, sep="/")

    def _local(self, table: jax.Array, bidirectional: bool) -> jax.Array:
        """The stack's table of distances [H,buckets], one bucket a local head made strong."""
        seen = [(h, offset) for h, offset in enumerate(NEIGHBOURS) if bidirectional or offset < 0]
        heads, offsets = jnp.array(seen).T
        places = bucket(offsets, bidirectional, table.shape[1])
        return table.at[heads, places].add(self.strength)
