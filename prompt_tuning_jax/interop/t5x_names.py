"""The layouts that T5X's models have had, as one: t5x/examples/t5's names, and the sizes they tell.

encoder/layers_0/…                a layer by itself
encoder/layers/…     [L,…]        ours: the layers stacked on axis 0
encoder/encoder/…    [in,L,out]   scanned layers of flaxformer and t5x/examples/scalable_t5

The heads of scalable_t5 have an axis of their own: query, key and value [D,H,K], out [H,K,D].
"""

from __future__ import annotations

import math
import re

import numpy as np

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.interop.leaf import Leaf
from prompt_tuning_jax.t5 import T5Config

STACKS = ("encoder", "decoder")
HEADS = {"query": 1, "key": 1, "value": 1, "out": 0}  # kernel -> the axis of its heads
LARGEST_TABLE = 2**24  # values; 48 layers of 128 heads and 32 buckets have 200,000
TABLE = "relpos_bias/rel_embedding"


def canonical(path: str, leaves: dict[str, Leaf]) -> dict[str, Leaf]:
    """Leaves under our names, layer first; one table of distances where all layers have the same.

    UserError where a scanned leaf has no axis for its layers, or two leaves get one name.
    """
    renamed: dict[str, Leaf] = {}
    for name, leaf in leaves.items():
        stack, _, rest = name.partition("/")
        if stack in STACKS and rest.startswith(f"{stack}/"):
            if len(leaf.shape) < 2:
                raise UserError(f"{path}: {name} {leaf.shape} is scanned, but has no layers' axis")
            leaf = leaf.permuted(1, 0, *range(2, len(leaf.shape)))
            name = f"{stack}/layers/{rest.removeprefix(f'{stack}/')}"
        parts, stacked = name.split("/"), "/layers/" in name
        if len(parts) > 1 and parts[-2] in HEADS and len(leaf.shape) == 3 + stacked:
            leaf = leaf.joined(HEADS[parts[-2]] + stacked)
        if name in renamed:
            raise UserError(f"{path}: {name} is there twice, scanned and stacked")
        renamed[name] = leaf
    return _one_table(renamed)


def _one_table(leaves: dict[str, Leaf]) -> dict[str, Leaf]:
    """`leaves`, the tables of every layer replaced by one a stack, where in both all are equal."""
    shared, replaced = {}, set()
    for stack in STACKS:
        layers = {m[0] for name in leaves if (m := re.match(rf"{stack}/layers(_\d+)?/", name))}
        names = [f"{layer}{TABLE}" for layer in sorted(layers)]
        if not names or not all(name in leaves for name in names):
            return leaves
        if any(math.prod(leaves[name].shape) > LARGEST_TABLE for name in names):
            return leaves  # no table, so it is not read
        tables = [leaves[name].whole() for name in names]
        if names == [f"{stack}/layers/{TABLE}"]:
            tables = list(tables[0])
        if not all(np.array_equal(tables[0], table) for table in tables):
            return leaves
        shared[f"{stack}/{TABLE}"] = Leaf.of(tables[0])
        replaced |= set(names)
    return {name: leaf for name, leaf in leaves.items() if name not in replaced} | shared


def sizes(path: str, leaves: dict[str, Leaf]) -> T5Config:
    """The configuration that canonical leaves have the shapes of.

    What no shape tells is taken as T5 has it: tanh-GELU in a gated MLP, ReLU in a plain one.
    UserError where what tells the sizes is not there, or is none of a T5.
    """
    try:
        return _sizes(path, leaves)
    except ValueError as error:
        text = str(error)
        raise UserError(text if text.startswith(path) else f"{path}: {text}") from None


def _sizes(path: str, leaves: dict[str, Leaf]) -> T5Config:

    def layers(stack):
        stacked = leaves.get(f"{stack}/layers/mlp/wo/kernel")
        if stacked is not None:
            return stacked.shape[0]
        found = (re.match(rf"{stack}/layers_(\d+)/", name) for name in leaves)
        return 1 + max((int(match[1]) for match in found if match), default=-1)

    def shape(*names):
        for name in names:
            stacked = name.replace("/layers_0/", "/layers/")
            found = leaves[name].shape if name in leaves else None
            if found is None and stacked in leaves:
                found = leaves[stacked].shape[1:]
            if found is not None:
                if len(found) != 2 or not all(found):
                    raise UserError(f"{path}: {name} {found} is no matrix, so this is no T5")
                return found
        raise UserError(f"{path}: no {names[0]} in it, so this is no T5")

    vocab_size, emb_dim = shape("token_embedder/embedding")
    heads, buckets = shape(f"encoder/{TABLE}", f"encoder/layers_0/{TABLE}")
    _, joined = shape("encoder/layers_0/attention/query/kernel")
    gated = not any("/mlp/wi/" in name for name in leaves)
    return T5Config(
        vocab_size=vocab_size,
        emb_dim=emb_dim,
        num_heads=heads,
        head_dim=joined // heads,
        num_encoder_layers=layers("encoder"),
        num_decoder_layers=layers("decoder"),
        mlp_dim=shape("encoder/layers_0/mlp/wo/kernel")[0],
        mlp_activations=("gelu", "linear") if gated else ("relu",),
        logits_via_embedding="decoder/logits_dense/kernel" not in leaves,
        relpos_buckets=buckets,
        relpos_per_layer=f"encoder/{TABLE}" not in leaves,
    )
