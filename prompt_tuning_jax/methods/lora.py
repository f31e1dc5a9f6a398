"""LoRA (Hu et al. 2021): y = W x + (alpha / r) B A x on chosen weight matrices."""

from __future__ import annotations

import dataclasses
import zlib

import jax
import jax.numpy as jnp

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Method
from prompt_tuning_jax.t5 import matrices


@dataclasses.dataclass(frozen=True)
class LoRA(Method):
    """Low-rank updates of the matrices named in `targets`, in every layer.

    rank r, alpha and dropout (of the update's input) as in the paper's section 4; targets are
    T5X's names: "query" "key" "value" "out" "wi_0" "wi_1" "wo"; `parts` limits them to "self",
    "cross" and "mlp". A starts normal with variance 1/in, B at zero, so training starts at the
    frozen model.
    tuned: {"encoder"|"decoder": {"self": {"query": {"a": [L,in,r], "b": [L,r,out]}}}}, float32.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("query", "value")
    parts: tuple[str, ...] = ("self", "cross", "mlp")
    dropout: float = 0.0

    def __post_init__(self):
        for field in ("targets", "parts"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if self.rank < 1:
            raise UserError(f"LoRA.rank = {self.rank}: a rank is at least 1")

    def init_layer(self, rng, config, stack):
        known = {name for _, name in matrices(config, "decoder")}
        if set(self.targets) - known:
            wrong = sorted(set(self.targets) - known)[0]
            raise UserError(
                f"LoRA.targets: no weight matrix is called {wrong!r}, but {sorted(known)}"
            )
        tree: dict[str, dict] = {}
        for i, ((part, name), (width, out)) in enumerate(matrices(config, stack).items()):
            if part in self.parts and name in self.targets:
                a = jax.random.normal(jax.random.fold_in(rng, i), (width, self.rank)) * width**-0.5
                tree.setdefault(part, {})[name] = {"a": a, "b": jnp.zeros((self.rank, out))}
        return tree

    def project(self, tuned, site, f, x):
        ab = tuned.get(site.part, {}).get(site.name)
        if ab is None:
            return f(x)
        low = x
        if site.train and self.dropout:
            # every matrix of the layer has its own mask
            rng = jax.random.fold_in(site.rng, zlib.crc32(f"{site.part}/{site.name}".encode()))
            keep = jax.random.bernoulli(rng, 1 - self.dropout, x.shape)
            low = jnp.where(keep, x / (1 - self.dropout), 0).astype(x.dtype)
        # [B,T,in] -> [B,T,r] -> [B,T,out]
        update = low @ ab["a"].astype(x.dtype) @ ab["b"].astype(x.dtype)
        return f(x) + (self.alpha / self.rank) * update
