"""T5 1.1 (Raffel et al. 2020; Shazeer 2020), frozen, in the order in which it computes.

Parameter names, logical axes and initialisers are T5X's (t5x/examples/t5/network.py), the layers
of a stack being stacked on axis 0 under `layers`. Every step that a method may wrap is one
visible call of a hook (method.py).

Prompt rows that do not see the input go through the encoder by themselves, before the batch does,
whose tokens then attend to their keys and values (streams.py).

Shapes: B batch, T query tokens, S key tokens (T in self-attention), U target tokens, D emb_dim,
H heads, K head_dim, F mlp_dim, L layers, V vocab_size, N prompts of P rows.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning_jax.attention import Attention
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.int8 import Int8
from prompt_tuning_jax.method import Method, Site, Tree
from prompt_tuning_jax.relative_positions import RelativePositions
from prompt_tuning_jax.streams import Context, Encoded, Pair, Seen, Stream
from prompt_tuning_jax.weights import Kernel, Norm, weight

LARGEST = 2**31 - 1  # of a size: JAX counts in 32 bits
# with others the buckets' logarithm divides by zero (relative_positions.py)
LIMITS = {"scan_unroll": (0, LARGEST), "relpos_buckets": (4, 255)}
CHOICES = {"dtype": ("float32", "bfloat16"), "remat_policy": ("none", "minimal", "full")}
# flax.linen's functions that an MLP may have; a file's names reach nothing else of that module
ACTIVATIONS = (
    *("linear", "relu", "gelu", "silu", "swish", "sigmoid", "tanh", "elu", "selu", "leaky_relu"),
    "softplus",
)


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Sizes and choices of one T5; the names are those of T5X's `T5Config`.

    relpos_per_layer: every layer has a table of distances of its own (umT5, scalable_t5), not one
    for the stack.
    dtype: of the activations, "float32" or "bfloat16" (softmax, norms and logits are float32).
    scan_unroll: layers unrolled into one scan step; 0 unrolls the whole stack.
    remat_policy: "none", "minimal" (matrix products are kept) or "full" (a layer keeps its input).
    """

    vocab_size: int = 32128
    emb_dim: int = 512
    num_heads: int = 6
    head_dim: int = 64
    num_encoder_layers: int = 8
    num_decoder_layers: int = 8
    mlp_dim: int = 1024
    mlp_activations: tuple[str, ...] = ("gelu", "linear")
    logits_via_embedding: bool = False
    relpos_buckets: int = 32
    relpos_per_layer: bool = False
    dropout_rate: float = 0.1
    dtype: str = "float32"
    scan_unroll: int = 1
    remat_policy: str = "none"

    def __post_init__(self):
        """UserError for what is no size, no activation or no choice."""
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
        for field in dataclasses.fields(self):
            value, (least, most) = getattr(self, field.name), LIMITS.get(field.name, (1, LARGEST))
            if field.type == "int" and not (type(value) is int and least <= value <= most):
                raise UserError(f"{field.name} = {value!r:.40}: a whole number, {least} to {most}")
            if field.type == "bool" and type(value) is not bool:
                raise UserError(f"{field.name} = {value!r:.40}: True or False")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UserError(f"{name} = {getattr(self, name)!r:.40}: choose from {choices}")
        odd = [name for name in self.mlp_activations if name not in ACTIVATIONS]
        if odd or not self.mlp_activations:
            known = ", ".join(ACTIVATIONS)
            raise UserError(f"mlp_activations = {self.mlp_activations!r:.80}: some of {known}")

    def architecture(self) -> dict[str, Any]:
        """The fields that decide θ's shapes and meaning; the others may differ from run to run."""
        free = ("dropout_rate", "dtype", "scan_unroll", "remat_policy")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in free}


class MLP(nn.Module):
    """T5 1.1: wo(gelu(wi_0 x) * wi_1 x), [B,T,D] -> [B,T,D]; T5 1.0: wo(relu(wi x))."""

    config: T5Config
    method: Method

    @nn.compact
    def __call__(self, x, tuned, site: Site, context: Context):
        c = self.config

        def project(name, inputs, features, axes):
            kernel = Kernel(features, axes, distribution="truncated_normal", name=name)
            return self.method.project(tuned, site._replace(name=name), kernel, inputs)

        hidden = 1
        for i, activation in enumerate(c.mlp_activations):
            name = "wi" if len(c.mlp_activations) == 1 else f"wi_{i}"
            # [B,T,F]
            wide = project(name, x, c.mlp_dim, ("embed", "mlp"))
            hidden *= wide if activation == "linear" else getattr(nn, activation)(wide)
        hidden = nn.Dropout(c.dropout_rate, broadcast_dims=(-2,))(
            hidden, deterministic=not site.train
        )
        hidden = nn.with_logical_constraint(hidden, (context.axis, "length", "mlp"))
        return project("wo", hidden, c.emb_dim, ("mlp", "embed"))


# what a layer computes, in order: (part, T5X's name of its norm, T5X's name of the block)
BLOCKS = {
    "encoder": (
        ("self", "pre_attention_layer_norm", "attention"),
        ("mlp", "pre_mlp_layer_norm", "mlp"),
    ),
    "decoder": (
        ("self", "pre_self_attention_layer_norm", "self_attention"),
        ("cross", "pre_cross_attention_layer_norm", "encoder_decoder_attention"),
        ("mlp", "pre_mlp_layer_norm", "mlp"),
    ),
}


class Layer(nn.Module):
    """Self-attention, in the decoder cross-attention, MLP; each x + sublayer(norm(x))."""

    config: T5Config
    method: Method
    stack: str
    train: bool

    @nn.compact
    def __call__(self, carry, tuned, layer, cache, context: Context):
        c, m, (x, side), given = self.config, self.method, carry, cache
        rng = self.make_rng("dropout") if self.train else None
        site = Site(self.stack, layer=layer, train=self.train, rng=rng)
        if c.relpos_per_layer:
            context = context.with_bias(_distances(c, self.stack))

        def attend(part, name, x):
            nonlocal cache
            module = Attention(c, m, name=name)
            y, cache = module(x, tuned, site._replace(part=part), context, cache)
            return y

        def mlp(part, name, x):
            return MLP(c, m, name=name)(x, tuned, site._replace(part=part), context)

        for part, norm, name in BLOCKS[self.stack]:
            f = functools.partial(mlp if part == "mlp" else attend, part, name)
            # [B,T,D]
            y = m.sublayer(tuned, site._replace(part=part), f, Norm(name=norm)(x))
            y = nn.Dropout(c.dropout_rate, broadcast_dims=(-2,))(y, deterministic=not self.train)
            x = nn.with_logical_constraint(x + y, (context.axis, "length", "embed"))
        side = m.side(tuned, site._replace(part="layer"), x, side)
        # what was there already stays where it is: the scan would copy it
        new = {name: pair for name, pair in cache.items() if name == "self" or name not in given}
        return (x, side), (new if context.keep else None)


def _distances(config: T5Config, stack: str) -> RelativePositions:
    buckets = config.relpos_buckets
    return RelativePositions(config.num_heads, stack == "encoder", buckets, name="relpos_bias")


def _layers(config: T5Config, method: Method, stack: str, train: bool):
    """The layers of one stack as one scanned module: parameters stacked on axis 0."""
    length = config.num_decoder_layers if stack == "decoder" else config.num_encoder_layers
    layer = Layer
    if config.remat_policy != "none":
        policies = {
            "full": None,
            "minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        }
        layer = nn.remat(Layer, prevent_cse=False, policy=policies[config.remat_policy])
    scanned = nn.scan(
        layer,
        length=length,
        unroll=config.scan_unroll or length,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(0, 0, 0, nn.broadcast),
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
    return scanned(config, method, stack, train, name="layers"), jnp.arange(length)


class Encoder(nn.Module):
    """Embedded tokens -> states; full attention inside each segment."""

    config: T5Config
    method: Method

    @nn.compact
    def __call__(self, tuned: Tree, stream: Stream, train: bool) -> Encoded:
        c, m = self.config, self.method
        site = Site("encoder", train=train, rng=self.make_rng("dropout") if train else None)
        dropout = nn.Dropout(c.dropout_rate, broadcast_dims=(-2,), deterministic=not train)
        # [B,T,D] -> [B,P+T,D] where the method joins a prompt that sees the input
        stream = m.embed(tuned["shared"], site, stream)
        distances = None if c.relpos_per_layer else _distances(c, "encoder")
        layers, index = _layers(c, m, "encoder", train)
        norm = Norm(name="encoder_norm")

        def through(x, segments, positions, cache, **choices):
            # [B,T,T]
            visible = (segments[:, :, None] == segments[:, None, :]) & (segments[:, None, :] > 0)
            context = Context((positions, positions), None, visible, **choices)
            if distances is not None:
                context = context.with_bias(distances)
            x = dropout(x)
            side = m.side_start(tuned["shared"], site, x, None)
            (x, side), cache = layers((x, side), tuned["encoder"], index, cache, context)
            return dropout(norm(x)), side, cache

        rows, seen, cache = stream.rows, None, {}
        if rows is not None:
            rows = dataclasses.replace(rows, keys=tuned.get("rows", {}))
            if not rows.keys:
                own = jnp.ones((1, rows.x.shape[1]), jnp.int32), rows.positions[None]
                # [N,P,D]
                states, _, kept = through(rows.x, *own, {}, keep=True, axis="prompts")
                rows = dataclasses.replace(rows, x=states, keys={"encoder": kept["self"]})
            seen = Seen.of(rows, stream.segment_ids, stream.prompt_ids)
            cache = {"rows": rows.keys["encoder"]}
        tokens = stream.x, stream.segment_ids, stream.positions
        x, side, _ = through(*tokens, cache, seen=seen)
        return Encoded(x, stream.segment_ids, side, stream.prompt_ids, rows)


class Decoder(nn.Module):
    """Embedded targets and encoder states -> logits [B,U,V] float32, and the decoding cache."""

    config: T5Config
    method: Method

    @nn.compact
    def __call__(
        self, tuned: Tree, stream: Stream, encoded: Encoded, train: bool, embedding, cache, step
    ):
        c, m = self.config, self.method
        site = Site("decoder", train=train, rng=self.make_rng("dropout") if train else None)
        dropout = nn.Dropout(c.dropout_rate, broadcast_dims=(-2,), deterministic=not train)
        stream = m.embed(tuned["shared"], site, stream)
        segments, positions = stream.segment_ids, stream.positions
        key_positions, same = positions, segments[:, :, None] == segments[:, None, :]
        cache, memory_rows, seen = dict(cache or {}), None, None
        if encoded.rows is not None:
            memory_rows = encoded.rows.x
            seen = Seen.of(encoded.rows, segments, encoded.prompt_ids)
            if "decoder" in encoded.rows.keys:
                cache["rows"] = encoded.rows.keys["decoder"]
        if "self" in cache:
            # the keys are the cache's slots 0..S-1, one segment
            key_positions = jnp.arange(cache["self"][0].shape[2])[None]
            same = jnp.ones((1, 1, 1), bool)
        # [B|1,U,S]: inside a segment the order of positions is the order of tokens
        visible = same & (key_positions[:, None, :] <= positions[:, :, None])
        memory_segments = encoded.segment_ids[:, None, :]
        memory_visible = (segments[:, :, None] == memory_segments) & (memory_segments > 0)
        context = Context(
            (positions, key_positions),
            None,
            visible,
            encoded.x,
            memory_visible,
            memory_rows,
            seen,
            step,
            keep=step is not None,
        )
        if not c.relpos_per_layer:
            context = context.with_bias(_distances(c, "decoder"))
        x = dropout(stream.x)
        side = m.side_start(tuned["shared"], site, x, encoded.side)
        layers, index = _layers(c, m, "decoder", train)
        (x, side), new = layers((x, side), tuned["decoder"], index, cache, context)
        cache |= new or {}
        x = dropout(Norm(name="decoder_norm")(x))
        x = m.head(tuned["shared"], site, x, side).astype(jnp.float32)
        if c.logits_via_embedding:
            # T5 1.0: tied to the embedding [V,D], scaled by 1/sqrt(D)
            return x @ embedding.T / np.sqrt(c.emb_dim), cache
        logits = Kernel(
            c.vocab_size, ("embed", "vocab"), distribution="truncated_normal", name="logits_dense"
        )
        return logits(x), cache


class Embed(nn.Module):
    """The token embedding [V,D], shared by both stacks."""

    config: T5Config

    def setup(self):
        shape, axes = (self.config.vocab_size, self.config.emb_dim), ("vocab", "embed")
        self.embedding = weight(self, "embedding", nn.initializers.normal(1.0), shape, axes)

    def __call__(self, tokens):
        # [B,T] -> [B,T,D]
        table = self.embedding
        rows = table[tokens] if isinstance(table, Int8) else jnp.take(table, tokens, axis=0)
        return rows.astype(self.config.dtype)


class T5(nn.Module):
    """The encoder-decoder. `tuned` is a method's exported tree ({} parts for the plain T5), with
    what `row_keys` computed as its part "rows" or without.

    `apply({"params": theta}, tuned, batch, train=...)` with rngs={"dropout": key} while training.
    """

    config: T5Config
    method: Method = Method()

    def setup(self):
        self.token_embedder = Embed(self.config)
        self.encoder = Encoder(self.config, self.method)
        self.decoder = Decoder(self.config, self.method)

    def __call__(self, tuned: Tree, batch: dict[str, jax.Array], train: bool = False) -> jax.Array:
        """Teacher forcing: a batch under seqio's EncDecFeatureConverter names -> logits [B,U,V]."""
        return self.decode(tuned, self.encode(tuned, batch, train), batch, train)

    def encode(self, tuned: Tree, batch: dict[str, jax.Array], train: bool = False) -> Encoded:
        """encoder_input_tokens [B,T] int32, 0 = padding (where packed, encoder_segment_ids and
        encoder_positions [B,T] too), prompt_ids [B,G] where there are several prompts -> states."""
        tokens = batch["encoder_input_tokens"]
        segments = batch.get("encoder_segment_ids", (tokens > 0).astype(jnp.int32))
        positions = batch.get("encoder_positions", jnp.arange(tokens.shape[1])[None])
        stream = Stream(self.token_embedder(tokens), segments, positions, batch.get("prompt_ids"))
        return self.encoder(tuned, stream, train)

    def decode(
        self, tuned: Tree, encoded: Encoded, batch: dict[str, jax.Array], train: bool = False
    ):
        """decoder_input_tokens [B,U] (and, where packed, decoder_segment_ids and decoder_positions)
        over encoder states -> logits [B,U,V]."""
        tokens = batch["decoder_input_tokens"]
        segments = batch.get("decoder_segment_ids", jnp.ones_like(tokens))
        positions = batch.get("decoder_positions", jnp.arange(tokens.shape[1])[None])
        stream = Stream(self.token_embedder(tokens), segments, positions)
        return self._decode(tuned, stream, encoded, train)[0]

    def decode_step(
        self, tuned: Tree, encoded: Encoded, tokens: jax.Array, cache: Tree, step: jax.Array
    ):
        """One token a sequence: tokens [B,1] at `step` -> (logits [B,1,V], cache).

        `cache` is `empty_cache` at the first step, then what the step before returned: from the
        second step on the keys and values of cross-attention come from it.
        """
        segments = jnp.ones_like(tokens)
        stream = Stream(self.token_embedder(tokens), segments, jnp.reshape(step, (1, 1)))
        return self._decode(tuned, stream, encoded, False, cache, step)

    def _row_keys(self, tuned: Tree) -> dict[str, Pair]:
        one = jnp.ones((1, 1), jnp.int32)
        encoded = self.encode(tuned, {"encoder_input_tokens": one})
        assert encoded.rows is not None
        _, cache = self.decode_step(
            tuned, encoded, one, empty_cache(self.config, 1, 1), jnp.int32(0)
        )
        return encoded.rows.keys | {"decoder": cache["rows"]}

    def _decode(self, tuned, stream, encoded, train, cache=None, step=None):
        embedding = self.token_embedder.embedding
        return self.decoder(tuned, stream, encoded, train, embedding, cache, step)


def prompt_rows(config: T5Config, method: Method, shared: Tree) -> Stream:
    """What a method makes of an input of one token, as shapes: its rows join `x` or are apart."""
    one = jnp.ones((1, 1), jnp.int32)
    stream = Stream(jnp.zeros((1, 1, config.emb_dim)), one, one)
    return jax.eval_shape(lambda shared: method.embed(shared, Site("encoder"), stream), shared)


def row_keys(model: T5, theta: Tree, tuned: Tree) -> dict[str, Pair]:
    """The keys and values [L,N,P,H,K] of the prompt rows that do not see the input, of both
    stacks; {} where the method has none. As `tuned["rows"]` they spare their computation."""
    if prompt_rows(model.config, model.method, tuned["shared"]).rows is None:
        return {}
    keys: Any = model.apply({"params": theta}, tuned, method="_row_keys")
    return keys


def matrices(config: T5Config, stack: str) -> dict[tuple[str, str], tuple[int, int]]:
    """(part, name) of every weight matrix in one layer of a stack -> its (in, out) widths."""
    d, joined, f = config.emb_dim, config.num_heads * config.head_dim, config.mlp_dim
    attention = {"query": (d, joined), "key": (d, joined), "value": (d, joined), "out": (joined, d)}
    parts = ("self", "cross") if stack == "decoder" else ("self",)
    gates = len(config.mlp_activations)
    mlp = {"wi" if gates == 1 else f"wi_{i}": (d, f) for i in range(gates)} | {"wo": (f, d)}
    return {(part, name): size for part in parts for name, size in attention.items()} | {
        ("mlp", name): size for name, size in mlp.items()
    }


def empty_cache(config: T5Config, batch: int, length: int) -> Tree:
    """Self-attention's keys and values of `length` tokens, zeros [L,B,S,H,K]."""
    shape = (config.num_decoder_layers, batch, length, config.num_heads, config.head_dim)
    return {"self": (jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype))}


EMPTY: dict[str, dict] = {"shared": {}, "encoder": {}, "decoder": {}}  # `tuned` of the plain T5


def _init(rng: jax.Array, config: T5Config):
    tokens = jnp.zeros((1, 1), jnp.int32)
    batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
    return T5(config).init(rng, EMPTY, batch)["params"]


@functools.cache
def _boxed(config: T5Config):
    return jax.eval_shape(lambda: _init(jax.random.key(0), config))


def abstract_params(config: T5Config) -> Tree:
    """θ's shapes and dtypes, nothing allocated."""
    return nn.unbox(_boxed(config))


def logical_axes(config: T5Config) -> Tree:
    """θ's logical axis names, a PartitionSpec a leaf (T5X's: vocab, embed, joined_kv, mlp, …)."""
    return nn.get_partition_spec(_boxed(config))


def init_params(rng: jax.Array, config: T5Config) -> Tree:
    """θ at T5X's random start, for pre-training."""
    return nn.unbox(_init(rng, config))
