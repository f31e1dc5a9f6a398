"""Prefix tuning (Li and Liang 2021): P trained keys and values in every attention."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Method

SITES = ("encoder_self", "decoder_self", "decoder_cross")


class PrefixMLP(nn.Module):
    """The reparametrisation (section 4.3): P rows [P,width] -> tanh MLP -> keys and values.

    Computes one kind of attention in all L layers: {"key", "value"}, each [L,P,H,K] float32.
    """

    length: int
    width: int
    hidden: int
    shape: tuple[int, int, int]  # (L, H, K)

    @nn.compact
    def __call__(self):
        rows = self.param("rows", nn.initializers.normal(1.0), (self.length, self.width))
        # [P,hidden]
        x = jnp.tanh(nn.Dense(self.hidden, name="down")(rows))
        # [P,2,L,H,K] -> [2,L,P,H,K]
        x = jnp.moveaxis(nn.DenseGeneral((2, *self.shape), name="up")(x), 0, 2)
        return {"key": x[0], "value": x[1]}


@dataclasses.dataclass(frozen=True)
class Prefix(Method):
    """`length` extra keys and values in every layer's attentions that `sites` names.

    Every query sees them, at relative-position bias 0. With `hidden` they come, while training,
    from an MLP of that width over `length` rows of width `width`; `export` computes them once and
    leaves the MLP out. hidden = 0 trains them directly, from a normal of `stddev`.
    tuned: {"encoder"|"decoder": {"self"|"cross": {"key", "value": [L,P,H,K]}}} float32, or, with
    the MLP, {"shared": {site: the parameters of `PrefixMLP`}}.
    """

    length: int = 20
    sites: tuple[str, ...] = SITES
    hidden: int = 512
    width: int = 512
    stddev: float = 0.02

    def __post_init__(self):
        object.__setattr__(self, "sites", tuple(self.sites))
        if not (isinstance(self.length, int) and self.length > 0):
            raise UserError(f"Prefix.length = {self.length!r}: a prefix has at least one row")
        if not self.sites or set(self.sites) - set(SITES):
            raise UserError(f"Prefix.sites = {self.sites}: choose from {SITES}")

    def _mlp(self, shape):
        return PrefixMLP(self.length, self.width, self.hidden, shape)

    def init_shared(self, rng, config, theta, start):
        if not self.hidden:
            return {}
        layers = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
        return {
            site: self._mlp((layers[site.split("_")[0]], config.num_heads, config.head_dim)).init(
                jax.random.fold_in(rng, i)
            )["params"]
            for i, site in enumerate(self.sites)
        }

    def init_layer(self, rng, config, stack):
        if self.hidden:
            return {}
        shape = (self.length, config.num_heads, config.head_dim)
        parts = [site.split("_")[1] for site in self.sites if site.startswith(stack)]
        draws = {
            part: jax.random.split(jax.random.fold_in(rng, SITES.index(f"{stack}_{part}")))
            for part in parts
        }
        return {
            part: {
                "key": self.stddev * jax.random.normal(key, shape),
                "value": self.stddev * jax.random.normal(value, shape),
            }
            for part, (key, value) in draws.items()
        }

    def export(self, tuned):
        if not self.hidden:
            return tuned
        plain: dict[str, dict] = {"shared": {}, "encoder": {}, "decoder": {}}
        for site, params in tuned["shared"].items():
            stack, part = site.split("_")
            _, _, layers, heads, head_dim = params["up"]["kernel"].shape
            plain[stack][part] = self._mlp((layers, heads, head_dim)).apply({"params": params})
        return plain

    def exported(self):
        return dataclasses.replace(self, hidden=0)

    def attend(self, tuned, site, f, q, k, v, extra):
        own = tuned.get(site.part)
        if own is None:
            return f(q, k, v, extra)
        return f(q, k, v, (*extra, (own["key"], own["value"])))
