"""A T5 small enough for tests, its inputs, and functions of it compiled quickly.

heads * head_dim differs from emb_dim (as in T5 1.1 small), the stacks differ in depth, and every
width is a multiple of 4, so that a 2x4 mesh divides the model.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from prompt_tuning_jax import t5
from prompt_tuning_jax.method import Method

CONFIG = t5.T5Config(
    vocab_size=96,
    emb_dim=16,
    num_heads=4,
    head_dim=6,
    num_encoder_layers=2,
    num_decoder_layers=3,
    mlp_dim=20,
    dropout_rate=0.0,
)
# The model of T5X's test checkpoint in the shared data.
T5X_TINY = t5.T5Config(
    emb_dim=4,
    num_heads=2,
    head_dim=2,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=8,
    relpos_buckets=4,
)
INPUTS = [[17, 5, 40, 8, 95, 3, 1], [9, 11, 1], [23, 50, 50, 7, 1], [64, 1]]
TARGETS = [[31, 4, 1], [77, 12, 60, 8, 1], [5, 1], [88, 40, 33, 1]]

# Tests compile more than they compute: XLA's optimisations would cost more than they save.
quick_jit = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
        "xla_cpu_use_fusion_emitters": False,
    },
)


def theta(config=CONFIG, seed=0):
    """θ drawn in numpy, float32, sized so that attention is neither uniform nor one-hot."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = rng.standard_normal(leaf.shape)
        if path.endswith("scale"):
            values = 1 + 0.2 * values
        elif path.endswith("kernel"):
            values *= leaf.shape[-2] ** -0.5 * (0.7 if "query" in path or "key" in path else 1)
        return values.astype(np.float32)

    flat = traverse_util.flatten_dict(t5.abstract_params(config), sep="/")
    drawn = {path: draw(path, leaf) for path, leaf in sorted(flat.items())}
    return traverse_util.unflatten_dict(drawn, sep="/")


def padded(rows, length):
    """Lists of ids -> int32 [B,length], zeros at the ends."""
    return np.array([[*row, *[0] * (length - len(row))] for row in rows], np.int32)


def shifted(rows):
    """What the decoder reads to predict each row: 0 first, its last token left out."""
    return [[0, *row[:-1]] for row in rows]


def batch(inputs=INPUTS, targets=TARGETS, input_length=8, target_length=6):
    """Token ids as a batch under seqio's names."""
    target = padded(targets, target_length)
    return {
        "encoder_input_tokens": padded(inputs, input_length),
        "decoder_input_tokens": padded(shifted(targets), target_length),
        "decoder_target_tokens": target,
        "decoder_loss_weights": (target > 0).astype(np.float32),
    }


def packed(count):
    """The first so many examples, one after the other in one row, under seqio's names."""
    batch = {}
    stacks = ("encoder", INPUTS[:count]), ("decoder", shifted(TARGETS[:count]))
    for stack, rows in stacks:
        length = sum(map(len, rows)) + 2
        segments = [i + 1 for i, row in enumerate(rows) for _ in row]
        positions = [place for row in rows for place in range(len(row))]
        batch |= {
            f"{stack}_input_tokens": padded([sum(rows, [])], length),
            f"{stack}_segment_ids": padded([segments], length),
            f"{stack}_positions": padded([positions], length),
        }
    return batch


@functools.partial(quick_jit, static_argnames=("model", "train"))
def _apply(model, params, tuned, batch, rng, train):
    return model.apply({"params": params}, tuned, batch, train, rngs={"dropout": rng})


def logits(params, batch, config=CONFIG, method=Method(), tuned=t5.EMPTY, seed=None):
    """Teacher-forced logits [B,U,V]; with a `seed`, those of training (dropout)."""
    rng, model = jax.random.key(seed or 0), t5.T5(config, method)
    # from the host, wherever they lie: one compilation for all callers
    params, tuned = jax.device_get((params, tuned))
    return np.asarray(_apply(model, params, tuned, batch, rng, seed is not None))


def init(method, params, config=CONFIG, start=None, seed=0):
    """The first `tuned` of a method, what it takes out of θ left out."""
    call = quick_jit(functools.partial(method.init, config=config))
    return call(jax.random.key(seed), theta=params, start=start)


def close(actual, wanted, tolerance=1e-5):
    """Asserts that two arrays agree to `tolerance` of the largest wanted value."""
    actual, wanted = np.asarray(actual, np.float64), np.asarray(wanted, np.float64)
    assert actual.shape == wanted.shape
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def same(left, right):
    """Whether two trees are equal in structure and bit for bit in values."""
    if jax.tree.structure(left) != jax.tree.structure(right):
        return False
    equal = jax.tree.map(lambda a, b: jnp.array_equal(a, b), left, right)
    return all(jax.tree.leaves(equal))
