"""A tree's values as one number: the same wherever and however its arrays lie."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}
_SEEDS = (0x9E3779B9, 0x7F4A7C15)


def checksum(tree: Any) -> jax.Array:
    """The bits of all leaves and where each stands, as two sums modulo 2^32: uint32 [2].

    Made to be jitted, one pass over the leaves where they lie: sums of whole numbers come out the
    same in any order, so neither mesh nor number of processes matters. One changed value always
    changes both sums; others stay undetected with a chance of 2^-64.
    """
    sums = [jnp.uint32(len(jax.tree.leaves(tree)))] * len(_SEEDS)
    for number, leaf in enumerate(jax.tree.leaves(tree)):
        words = _words(leaf)
        place = _places(words.shape)
        for i, seed in enumerate(_SEEDS):
            # one to one in `words`, so that no single change is lost
            mixed = _mix(words ^ _mix(place + jnp.uint32((seed * (number + 1)) % 2**32)))
            sums[i] = sums[i] + jnp.sum(mixed, dtype=jnp.uint32)
    return jnp.stack(sums)


def _words(leaf: jax.Array) -> jax.Array:
    """Its bits, uint32, in its shape; 64-bit values are two words, in a last dimension."""
    if leaf.dtype == jnp.bool_:
        leaf = leaf.astype(jnp.uint8)
    return jax.lax.bitcast_convert_type(leaf, _WORDS[leaf.dtype.itemsize]).astype(jnp.uint32)


def _places(shape: tuple[int, ...]) -> jax.Array:
    """Each element's index in row-major order, modulo 2^32; by dimensions, which can be sharded."""
    place, stride = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    return place


def _mix(words: jax.Array) -> jax.Array:
    """MurmurHash3's last step: a permutation of 32-bit numbers in which every bit moves others."""
    words = (words ^ (words >> 16)) * jnp.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * jnp.uint32(0xC2B2AE35)
    return words ^ (words >> 16)
