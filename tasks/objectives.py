"""Pre-training objectives as a run sets them: their numbers, and how much text makes one row."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import pretraining

if TYPE_CHECKING:
    from prompt_tuning_jax.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class SpanCorruption:
    """T5's objective (`pretraining.span_corruption`).

    Attributes:
      noise_density: the fraction of the tokens that is dropped, between 0 and 1.
      mean_noise_span_length: tokens in a dropped span on average, 1 or more.
    """

    noise_density: float = pretraining.NOISE_DENSITY
    mean_noise_span_length: float = pretraining.MEAN_NOISE_SPAN_LENGTH

    def __post_init__(self) -> None:
        if not 0 < self.noise_density < 1:
            raise UserError(f"noise_density = {self.noise_density}: between 0 and 1")
        if not self.mean_noise_span_length >= 1:
            raise UserError(f"mean_noise_span_length = {self.mean_noise_span_length}: 1 or more")

    def window(self, lengths: Mapping[str, int]) -> int:
        """Tokens of text whose corruption is `lengths["inputs"]` tokens long, EOS included.

        Raises:
          UserError: their targets are longer than `lengths["targets"]`.
        """
        tokens, targets = pretraining.span_corruption_lengths(
            lengths["inputs"], self.noise_density, self.mean_noise_span_length
        )
        if lengths["targets"] < targets:
            raise UserError(
                f"TASK_FEATURE_LENGTHS {dict(lengths)}: span corruption of {lengths['inputs']} "
                f"tokens of inputs makes {targets} of targets, so that many are needed"
            )
        return tokens

    def __call__(
        self,
        ids: np.ndarray,
        rng: np.random.Generator,
        vocabulary: "Vocabulary",
        lengths: Mapping[str, int],
    ) -> tuple[np.ndarray, np.ndarray]:
        numbers = self.noise_density, self.mean_noise_span_length
        return pretraining.span_corruption(ids, rng, vocabulary, lengths, *numbers)


@dataclasses.dataclass(frozen=True)
class PrefixLM:
    """T5's prefix language modelling, which is LM adaptation (`pretraining.prefix_lm`)."""

    def window(self, lengths: Mapping[str, int]) -> int:
        """Tokens of text that are split in two: as many as the inputs hold beside their EOS."""
        return lengths["inputs"] - 1

    def __call__(
        self,
        ids: np.ndarray,
        rng: np.random.Generator,
        vocabulary: "Vocabulary",
        lengths: Mapping[str, int],
    ) -> tuple[np.ndarray, np.ndarray]:
        return pretraining.prefix_lm(ids, rng, vocabulary, lengths)
