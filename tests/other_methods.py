"""Methods that the package does not have, each by hooks that its own methods leave alone."""

import dataclasses

import jax
import jax.numpy as jnp

from prompt_tuning_jax.attention import Keys, attention
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.t5 import matrices


@dataclasses.dataclass(frozen=True)
class IA3(Method):
    """Scales keys, values and the MLP's hidden layer (Liu et al. 2022), by `project`."""

    def init_layer(self, rng, config, stack):
        sizes = matrices(config, stack)
        scales: dict[str, dict] = {}
        for (part, name), (width, out) in sizes.items():
            if name in ("key", "value", "wo"):
                scales.setdefault(part, {})[name] = jnp.ones(width if name == "wo" else out)
        return scales

    def project(self, tuned, site, f, x):
        scale = tuned[site.part].get(site.name)
        if scale is None:
            return f(x)
        return f(x * scale) if site.name == "wo" else f(x) * scale


@dataclasses.dataclass(frozen=True)
class Adapter(Method):
    """A bottleneck after every attention and MLP (Houlsby et al. 2019), by `sublayer`."""

    rank: int = 2

    def init_layer(self, rng, config, stack):
        parts = ("self", "cross", "mlp") if stack == "decoder" else ("self", "mlp")
        return {
            part: {
                "down": 0.3 * jax.random.normal(key, (config.emb_dim, self.rank)),
                "up": jnp.zeros((self.rank, config.emb_dim)),
            }
            for part, key in zip(parts, jax.random.split(rng, len(parts)), strict=True)
        }

    def sublayer(self, tuned, site, f, x):
        y, own = f(x), tuned[site.part]
        return y + jnp.tanh(y @ own["down"]) @ own["up"]


@dataclasses.dataclass(frozen=True)
class Ladder(Method):
    """A narrow network beside both stacks (Sung et al. 2022), by `side_start`, `side`, `head`."""

    width: int = 4

    def init_shared(self, rng, config, theta, start):
        return {
            "in": 0.3 * jax.random.normal(rng, (config.emb_dim, self.width)),
            "out": jnp.zeros((self.width, config.emb_dim)),
            "gate": jnp.float32(0.5),
        }

    def init_layer(self, rng, config, stack):
        return {"mix": 0.3 * jax.random.normal(rng, (config.emb_dim, self.width))}

    def side_start(self, shared, site, x, below):
        start = x @ shared["in"]
        return start if below is None else start + below.mean(1, keepdims=True)

    def side(self, tuned, site, x, side):
        return jnp.tanh(side + x @ tuned["mix"])

    def head(self, shared, site, x, side):
        return x + shared["gate"] * side @ shared["out"]


@dataclasses.dataclass(frozen=True)
class LlamaAdapter(Method):
    """Gated attention to trained rows, its softmax apart (Zhang et al. 2023), by `attend`."""

    length: int = 3

    def init_layer(self, rng, config, stack):
        key, value = jax.random.split(rng)
        shape = (self.length, config.num_heads, config.head_dim)
        return {
            "key": jax.random.normal(key, shape),
            "value": jax.random.normal(value, shape),
            "gate": jnp.zeros(config.num_heads),
        }

    def attend(self, tuned, site, f, q, k, v, extra):
        y = f(q, k, v, extra)
        if site.part != "self":
            return y
        own = Keys(tuned["key"], tuned["value"])
        return y + jnp.tanh(tuned["gate"])[:, None] * attention(q, [own])


@dataclasses.dataclass(frozen=True)
class ClippedPrompt(Prompt):
    """A prompt whose rows are kept in a box after each update, by `constrain`."""

    length: int = 3
    limit: float = 0.45

    def constrain(self, tuned):
        rows = jnp.clip(tuned["shared"]["prompt"], -self.limit, self.limit)
        return tuned | {"shared": {"prompt": rows}}


ALL = (IA3(), Adapter(), Ladder(), LlamaAdapter(), ClippedPrompt())
