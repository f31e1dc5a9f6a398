"""The extension point: what a parameter-efficient method may do to a frozen T5.

A method is one frozen dataclass in one file. It owns its parameters (`tuned`, a small pytree) and
overrides the hooks it needs. Each hook wraps one step of the frozen model; by default it just
takes that step, so that `Method()` is the plain T5.

`tuned` is a dict of four parts:

    shared    what is used once a model (a prompt, a reparametriser)
    encoder   one tree a layer, stacked: every leaf [L, ...]
    decoder   the same for the decoder's layers
    theta     leaves that the method took out of θ itself, by path ("decoder/logits_dense/kernel")

Hooks inside a layer get that layer's slice of `encoder` or `decoder`; the others get `shared`.
Shapes: B batch, T and S tokens, P prompt rows, D emb_dim, H heads, K head_dim, L layers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from flax import traverse_util

from prompt_tuning_jax.errors import UserError

if TYPE_CHECKING:
    from prompt_tuning_jax.streams import Stream
    from prompt_tuning_jax.t5 import T5Config
    from prompt_tuning_jax.vocabulary import Vocabulary

Tree = Any
Extra = tuple[tuple[jax.Array, jax.Array], ...]  # (keys, values) pairs, each [P,H,K] or [B,P,H,K]


class Site(NamedTuple):
    """Where in the model a hook runs."""

    stack: str  # "encoder" | "decoder"
    part: str = ""  # "self" | "cross" | "mlp"
    name: str = ""  # T5X's: "query" "key" "value" "out" "wi_0" "wi_1" "wo"
    layer: Any = None  # layer index; a tracer, since the layers are scanned
    train: bool = False
    rng: Any = None  # a key of this layer's own while training


@dataclasses.dataclass(frozen=True)
class Method:
    """The plain frozen T5: nothing is tuned."""

    # ---- parameters ------------------------------------------------------------------------
    def read(self, vocabulary: Vocabulary, label_words: Sequence[str]) -> Tree:
        """What `init` needs from the host (tokenised label words, files), as a tree of arrays."""
        return {}

    def init(self, rng: jax.Array, config: T5Config, theta: Tree, start: Tree = None) -> Tree:
        """The first `tuned` (without "theta"). Traceable; `start` is what `read` returned, or None
        where only shapes matter."""
        shared, encoder, decoder = jax.random.split(rng, 3)

        def stacked(rng, stack, layers):
            return jax.vmap(lambda r: self.init_layer(r, config, stack))(
                jax.random.split(rng, layers)
            )

        return {
            "shared": self.init_shared(shared, config, theta, start),
            "encoder": stacked(encoder, "encoder", config.num_encoder_layers),
            "decoder": stacked(decoder, "decoder", config.num_decoder_layers),
        }

    def abstract(self, config: T5Config, theta: Tree) -> Tree:
        """The shapes and dtypes of the whole `tuned`, "theta" included; θ may be shapes itself."""
        _, taken = jax.eval_shape(self.split, theta)
        tuned = jax.eval_shape(lambda t: self.init(jax.random.key(0), config, t), theta)
        return tuned | {"theta": taken}

    def init_shared(self, rng: jax.Array, config: T5Config, theta: Tree, start: Tree) -> Tree:
        """The part that the whole model shares."""
        return {}

    def init_layer(self, rng: jax.Array, config: T5Config, stack: str) -> Tree:
        """The part of one layer."""
        return {}

    def split(self, theta: Tree) -> tuple[Tree, dict[str, jax.Array]]:
        """θ -> (frozen, taken): the leaves that this method trains leave θ, by path."""
        return theta, {}

    def join(self, frozen: Tree, tuned: Tree) -> Tree:
        """(frozen, tuned) -> θ, the inverse of `split`."""
        taken = tuned.get("theta", {})
        if not taken:
            return frozen
        flat = traverse_util.flatten_dict(frozen, sep="/") | taken
        return traverse_util.unflatten_dict(flat, sep="/")

    def axes(self, config: T5Config, tuned: Tree) -> Tree:
        """A tuple of logical axis names for every leaf of `tuned`, None where replicated.

        A leading "layers" or "prompts" says that the leaf is a stack of independent parameters;
        Adafactor then factors and clips inside each.
        """

        def leading(name, tree):
            return jax.tree.map(lambda leaf: (name, *(None,) * (leaf.ndim - 1))[: leaf.ndim], tree)

        return {
            part: leading("layers" if part in ("encoder", "decoder") else None, tree)
            for part, tree in tuned.items()
        }

    def export(self, tuned: Tree) -> Tree:
        """What the hooks read and an artifact saves: reparametrisations computed and dropped."""
        return tuned

    def exported(self) -> Method:
        """The method that goes with `export(tuned)`: the same hooks, no reparametrisation."""
        return self

    def together(self, tuned: Sequence[Tree]) -> tuple[Method, Tree]:
        """Several exported `tuned` as one method's, of which `prompt_ids` choose in their order.

        UserError where the examples of a batch cannot have parameters of their own.
        """
        raise UserError(f"artifacts of {type(self).__name__} cannot share a batch: load one")

    def constrain(self, tuned: Tree) -> Tree:
        """`tuned` after each update, put back where it may be."""
        return tuned

    # ---- hooks -----------------------------------------------------------------------------
    def embed(self, shared: Tree, site: Site, stream: Stream) -> Stream:
        """A stack's embedded input, before dropout, masks and relative positions."""
        return stream

    def project(self, tuned: Tree, site: Site, f: Callable, x: jax.Array) -> jax.Array:
        """One weight matrix: x [B,T,in] -> f(x) [B,T,out]."""
        return f(x)

    def attend(
        self,
        tuned: Tree,
        site: Site,
        f: Callable,
        q: jax.Array,
        k: jax.Array,
        v: jax.Array,
        extra: Extra,
    ) -> jax.Array:
        """One attention: q [B,T,H,K], k and v [B,S,H,K] -> f(q, k, v, extra) [B,T,H,K].

        Keys and values added to `extra` are seen by every query, have relative-position bias 0
        and stay out of the decoding cache.
        """
        return f(q, k, v, extra)

    def sublayer(self, tuned: Tree, site: Site, f: Callable, x: jax.Array) -> jax.Array:
        """Attention or MLP between its norm and its residual: x [B,T,D] -> f(x) [B,T,D]."""
        return f(x)

    def side_start(self, shared: Tree, site: Site, x: jax.Array, below: Any) -> Any:
        """The second stream at the foot of a stack; `below` is the encoder's, at its top."""
        return None

    def side(self, tuned: Tree, site: Site, x: jax.Array, side: Any) -> Any:
        """The second stream after one layer, whose output is x [B,T,D]."""
        return side

    def head(self, shared: Tree, site: Site, x: jax.Array, side: Any) -> jax.Array:
        """The decoder's normed states before the logits, [B,T,D] -> [B,T,D]."""
        return x


@dataclasses.dataclass(frozen=True)
class Chain(Method):
    """Several methods at once, e.g. LoRA under a prompt: later ones wrap earlier ones.

    Each method's own tree lies under its index ("0", "1", …) in every part of `tuned` but "theta",
    whose paths are disjoint.
    """

    methods: tuple[Method, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "methods", tuple(self.methods))
        odd = [m for m in self.methods if not isinstance(m, Method)]
        if odd:
            raise UserError(f"Chain.methods: {odd[0]!r:.80} is not a Method")

    def read(self, vocabulary, label_words):
        return {str(i): m.read(vocabulary, label_words) for i, m in enumerate(self.methods)}

    def init(self, rng, config, theta, start=None):
        trees = [
            m.init(jax.random.fold_in(rng, i), config, theta, start and start[str(i)])
            for i, m in enumerate(self.methods)
        ]
        return {
            part: {str(i): tree[part] for i, tree in enumerate(trees)}
            for part in ("shared", "encoder", "decoder")
        }

    def split(self, theta):
        taken: dict[str, jax.Array] = {}
        for m in self.methods:
            theta, more = m.split(theta)
            taken |= more
        return theta, taken

    def _each(self, call: Callable[[Method, Tree], Tree], tuned: Tree) -> Tree:
        """`call(method, its own tuned)` for every method, put together again."""
        own, theta = {k: v for k, v in tuned.items() if k != "theta"}, tuned.get("theta", {})
        left, results = dict(theta), []
        for i, m in enumerate(self.methods):
            left, taken = m.split(traverse_util.unflatten_dict(left, sep="/"))
            left = traverse_util.flatten_dict(left, sep="/")
            tree = {part: trees[str(i)] for part, trees in own.items()}
            results.append(call(m, tree | ({"theta": taken} if taken else {})))
        out: Tree = {part: {str(i): tree[part] for i, tree in enumerate(results)} for part in own}
        if "theta" in tuned:
            out["theta"] = {k: v for tree in results for k, v in tree.get("theta", {}).items()}
        return out

    def axes(self, config, tuned):
        return self._each(lambda m, tree: m.axes(config, tree), tuned)

    def export(self, tuned):
        return self._each(lambda m, tree: m.export(tree), tuned)

    def exported(self):
        return Chain(tuple(m.exported() for m in self.methods))

    def constrain(self, tuned):
        return self._each(lambda m, tree: m.constrain(tree), tuned)

    def embed(self, shared, site, stream):
        for i, m in enumerate(self.methods):
            stream = m.embed(shared[str(i)], site, stream)
        return stream

    def _wrap(self, hook: str, tuned, site, f, *args):
        for i, m in enumerate(self.methods):
            f = functools.partial(getattr(m, hook), tuned[str(i)], site, f)
        return f(*args)

    def project(self, tuned, site, f, x):
        return self._wrap("project", tuned, site, f, x)

    def attend(self, tuned, site, f, q, k, v, extra):
        return self._wrap("attend", tuned, site, f, q, k, v, extra)

    def sublayer(self, tuned, site, f, x):
        return self._wrap("sublayer", tuned, site, f, x)

    def side_start(self, shared, site, x, below):
        return tuple(
            m.side_start(shared[str(i)], site, x, None if below is None else below[i])
            for i, m in enumerate(self.methods)
        )

    def side(self, tuned, site, x, side):
        return tuple(
            m.side(tuned[str(i)], site, x, s)
            for (i, m), s in zip(enumerate(self.methods), side, strict=True)
        )

    def head(self, shared, site, x, side):
        for (i, m), s in zip(enumerate(self.methods), side, strict=True):
            x = m.head(shared[str(i)], site, x, s)
        return x
