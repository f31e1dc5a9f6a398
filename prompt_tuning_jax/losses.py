"""Cross-entropy of teacher forcing, with T5X's label smoothing, z-loss and normalisations."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.largest import argmax

NORMALIZATIONS = ("NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE")


class Sums(NamedTuple):
    """Sums over a batch's real target tokens (float32 scalars), to be added over batches."""

    loss: jax.Array  # cross-entropy + z-loss
    z_loss: jax.Array
    correct: jax.Array  # tokens whose largest logit is the target
    tokens: jax.Array


@dataclasses.dataclass(frozen=True)
class Loss:
    """z_loss: weight of log(Z)^2 (T5X: 1e-4). label_smoothing: mass taken from the target.

    normalizing_factor: what the summed loss is divided by; T5X's LOSS_NORMALIZING_FACTOR: None
    (the sum itself), a number, or one of "NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS",
    "AVERAGE_PER_SEQUENCE".
    """

    z_loss: float = 0.0
    label_smoothing: float = 0.0
    normalizing_factor: float | str | None = "NUM_REAL_TARGET_TOKENS"

    def __post_init__(self):
        factor = self.normalizing_factor
        if isinstance(factor, str) and factor not in NORMALIZATIONS:
            raise UserError(f"LOSS_NORMALIZING_FACTOR = {factor!r}: choose from {NORMALIZATIONS}")

    def weights(self, batch: dict[str, jax.Array], size: int | None = None) -> jax.Array:
        """What each target token counts, [B,U] float32, the normalisation included.

        Computed for the whole batch before it is cut into microbatches, whose losses then add up.
        size: NUM_TOTAL_TARGET_TOKENS where the batch is trimmed or packed, None: that of this one.
        """
        real = batch["decoder_loss_weights"].astype(jnp.float32)
        factor = self.normalizing_factor
        if not isinstance(factor, str):
            return real if factor is None else real / factor
        if factor == "NUM_REAL_TARGET_TOKENS":
            return real / jnp.maximum(real.sum(), 1)
        if factor == "NUM_TOTAL_TARGET_TOKENS":
            return real / (size or real.size)
        # AVERAGE_PER_SEQUENCE: a sequence's tokens count one together, the sequences are averaged
        segments = batch.get("decoder_segment_ids", jnp.ones(real.shape, jnp.int32))
        # [B,U,U] -> [B,U]: how many real tokens there are in a token's own sequence
        own = ((segments[:, :, None] == segments[:, None]) * real[:, None]).sum(-1)
        each = real / jnp.maximum(own, 1)
        return each / jnp.maximum(each.sum(), 1)

    def tokens(self, logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        """logits [B,U,V] float32, targets [B,U] -> (loss, z-loss part) of every token, [B,U].

        The smoothed target has 1 - s at the target and s / (V - 1) elsewhere; its entropy is
        subtracted, so that a perfect model's loss is 0.
        """
        log_z = jax.nn.logsumexp(logits, -1)
        at_target = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
        loss = log_z - at_target
        s, vocabulary = self.label_smoothing, logits.shape[-1]
        if s:
            low = s / (vocabulary - 1)
            entropy = -((1 - s) * np.log(1 - s) + s * np.log(low))
            others = logits.sum(-1) - at_target
            loss = log_z - (1 - s) * at_target - low * others - entropy
        z_loss = self.z_loss * jnp.square(log_z)
        return loss + z_loss, z_loss

    def sums(self, logits: jax.Array, batch: dict[str, jax.Array]) -> Sums:
        """The unnormalised sums over real tokens, for reports and evaluation."""
        real = batch["decoder_loss_weights"].astype(jnp.float32)
        loss, z_loss = self.tokens(logits, batch["decoder_target_tokens"])
        correct = (argmax(logits) == batch["decoder_target_tokens"]) * real
        return Sums((loss * real).sum(), (z_loss * real).sum(), correct.sum(), real.sum())
