"""Pre-training objectives, in numpy: span corruption (T5) and prefix language modelling.

Each objective is what `Task.objective` holds. It is called anew whenever a document is drawn,
with the token ids of the document without EOS, and returns the ids of one example's inputs and
targets, also without EOS: whoever builds the batch appends EOS to both. Room for that EOS is kept,
so that an objective's result never exceeds `lengths["inputs"] - 1` tokens of input.

Sources: Raffel et al. 2020 (arXiv 1910.10683), sections 3.1.4 and 3.2.3; T5's
`t5.data.preprocessors` (`span_corruption`, `prefix_lm`). Of the same tokens and the same seed
`denoise` makes T5's very example. T5 joins documents and cuts what comes out into pieces of one
length, as a corpus is read here too (windows.py); an objective takes what it is given for one
document, and a random window of it where it is too long.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import stateless

if TYPE_CHECKING:
    from prompt_tuning_jax.vocabulary import Vocabulary

NOISE_DENSITY = 0.15
MEAN_NOISE_SPAN_LENGTH = 3.0


def span_corruption(
    ids: Sequence[int] | np.ndarray,
    rng: np.random.Generator,
    vocabulary: "Vocabulary",
    lengths: Mapping[str, int],
    noise_density: float = NOISE_DENSITY,
    mean_noise_span_length: float = MEAN_NOISE_SPAN_LENGTH,
) -> tuple[np.ndarray, np.ndarray]:
    """One span-corruption example: "a b <0> e <1>" -> "<0> c d <1> f".

    A document too long for `lengths["inputs"]` gives a random window of it, as long as fits.

    Args:
      ids: the document's tokens [n], without EOS.
      rng: source of the window and of `denoise`'s seed.
      vocabulary: gives the sentinels, `vocabulary.sentinel(i)` for the i-th noise span.
      lengths: feature lengths, "inputs" and "targets", EOS included.
      noise_density: fraction of the tokens that is dropped from the inputs, in (0, 1).
      mean_noise_span_length: tokens in a dropped span, on average.

    Returns:
      inputs, targets: int32 ids without EOS.

    Raises:
      UserError: there are more spans than sentinels.
    """
    tokens_length, _ = span_corruption_lengths(
        lengths["inputs"], noise_density, mean_noise_span_length
    )
    window = _random_window(np.asarray(ids, np.int32), tokens_length, rng)
    # seqio's seeds, too, are two words
    seed = rng.integers(1 << 32, size=2)
    return denoise(window, seed, vocabulary, noise_density, mean_noise_span_length)


def prefix_lm(
    ids: Sequence[int] | np.ndarray,
    rng: np.random.Generator,
    vocabulary: "Vocabulary",
    lengths: Mapping[str, int],
) -> tuple[np.ndarray, np.ndarray]:
    """One prefix-LM example: the inputs are a prefix of the document, the targets are the rest.

    The split point is uniform over [1, n - 1], both sides non-empty (a single token is all
    target). A document of more than `lengths["inputs"] - 1` tokens gives a random window of that
    many. So far as T5's `prefix_lm`, but for the numbers drawn, and T5 cuts such a document into
    consecutive pieces. Where `lengths["targets"]` is the shorter length, T5 cuts off what is too
    long of the rest; here the split point is uniform over those after which the rest fits, so that
    short targets are trained on no end that is none.

    Args:
      ids: the document's tokens [n], without EOS.
      rng: source of the window and of the split point.
      vocabulary: not needed here; every objective is called alike.
      lengths: feature lengths, "inputs" and "targets", EOS included.

    Returns:
      inputs, targets: int32 ids without EOS.
    """
    window = _random_window(np.asarray(ids, np.int32), lengths["inputs"] - 1, rng)
    last = max(len(window) - 1, 0)
    first = min(max(1, len(window) - (lengths["targets"] - 1)), last)
    split = rng.integers(first, last, endpoint=True)
    return window[:split], window[split:]


def denoise(
    ids: np.ndarray,
    seed: stateless.Seed,
    vocabulary: "Vocabulary",
    noise_density: float = NOISE_DENSITY,
    mean_noise_span_length: float = MEAN_NOISE_SPAN_LENGTH,
) -> tuple[np.ndarray, np.ndarray]:
    """Span corruption of tokens [n] as they are, by a seed as seqio gives T5's preprocessors.

    As T5's `single_example_denoise` with `random_spans_noise_mask`, `noise_span_to_unique_sentinel`
    and `nonnoise_span_to_unique_sentinel`. Returns and raises as `corrupt`.
    """
    # T5 splits the seed in six: the mask has the first two, and nothing else draws
    seeds = stateless.split(seed, 2)
    mask = random_spans_noise_mask(len(ids), seeds, noise_density, mean_noise_span_length)
    return corrupt(ids, mask, vocabulary)


def span_corruption_lengths(
    inputs_length: int,
    noise_density: float = NOISE_DENSITY,
    mean_noise_span_length: float = MEAN_NOISE_SPAN_LENGTH,
) -> tuple[int, int]:
    """How many raw tokens fill `inputs_length` once corrupted, and how long their targets are.

    Returns:
      tokens_length, targets_length: tokens of raw text (no EOS), and of targets (with EOS). 512
      input tokens take 568 raw ones and give 114 of targets. As T5's `random_spans_helper`.
    """

    def corrupted(tokens_length: int) -> tuple[int, int]:
        noise = round(tokens_length * noise_density)
        spans = round(noise / mean_noise_span_length)
        return tokens_length - noise + spans + 1, noise + spans + 1

    tokens_length = inputs_length - 1
    while corrupted(tokens_length + 1)[0] <= inputs_length:
        tokens_length += 1
    targets_length = corrupted(tokens_length)[1]
    # T5's exception: at half noise the targets may outgrow the inputs by one.
    if noise_density == 0.5 and targets_length > inputs_length:
        return tokens_length - 1, targets_length - 1
    return tokens_length, targets_length


def random_spans_noise_mask(
    length: int,
    seeds: Sequence[stateless.Seed] | np.ndarray,
    noise_density: float = NOISE_DENSITY,
    mean_noise_span_length: float = MEAN_NOISE_SPAN_LENGTH,
) -> np.ndarray:
    """Which tokens are noise: bool [length], spans of kept and noise tokens in turn, kept first.

    T5's mask of the same name, with its draws. The numbers of noise tokens and spans depend on the
    length alone; all masks that have them are equally likely. The last token is always noise, and
    where one span is enough (up to 30 tokens by default) it is the document's end. Where that
    makes more spans than noise tokens or kept tokens (much noise in spans of about 1), T5 fails and
    there are fewer spans here.

    Args:
      length: number of tokens.
      seeds: two, for the lengths of the noise spans and of the kept spans.
      noise_density: as in `span_corruption`.
      mean_noise_span_length: likewise.
    """
    # At least two tokens, so that one is kept and one is noise; a lone token is then kept.
    padded = max(length, 2)
    # T5 rounds a float32 product, halves to even.
    noise = int(np.rint(np.float32(padded) * np.float32(noise_density)))
    noise = min(max(noise, 1), padded - 1)
    spans = int(np.rint(np.float32(noise) / np.float32(mean_noise_span_length)))
    spans = min(max(spans, 1), noise, padded - noise)
    noise_lengths = _random_segments(noise, spans, seeds[0])
    kept_lengths = _random_segments(padded - noise, spans, seeds[1])
    alternating = np.stack([kept_lengths, noise_lengths], axis=1).reshape(-1)
    return np.repeat(np.arange(2 * spans) % 2 == 1, alternating)[:length]


def corrupt(
    ids: np.ndarray, mask: np.ndarray, vocabulary: "Vocabulary"
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs with each noise span, and targets with each kept span, replaced by one sentinel.

    Args:
      ids: tokens [n], int32.
      mask: noise tokens [n], bool; as in T5 the first token is kept, so that the i-th sentinel of
        the targets stands before the span that the i-th sentinel of the inputs replaces.
      vocabulary: gives the sentinels.

    Returns:
      inputs, targets: int32 ids without EOS.

    Raises:
      UserError: there are more spans than sentinels (T5 would go on with ordinary tokens).
    """
    return (
        _spans_to_sentinels(ids, mask, vocabulary),
        _spans_to_sentinels(ids, ~mask, vocabulary),
    )


def _spans_to_sentinels(ids: np.ndarray, mask: np.ndarray, vocabulary: "Vocabulary") -> np.ndarray:
    starts = mask & ~np.concatenate([[False], mask[:-1]])
    spans = int(starts.sum())
    if spans > vocabulary.extra_ids:
        raise UserError(
            f"span corruption makes {spans} spans of a document of {len(ids)} tokens, and the "
            f"vocabulary has {vocabulary.extra_ids} sentinels: raise extra_ids or shorten inputs"
        )
    result = np.array(ids, np.int32)
    result[starts] = [vocabulary.sentinel(i) for i in range(spans)]
    return result[starts | ~mask]


def _random_segments(items: int, segments: int, seed: stateless.Seed) -> np.ndarray:
    """Lengths [segments] >= 1 that sum to `items`, every such choice equally likely."""
    # T5 shuffles so many marks among the places where a segment may begin
    cuts = np.flatnonzero(stateless.permutation(seed, items - 1) < segments - 1) + 1
    return np.diff(np.concatenate([[0], cuts, [items]]))


def _random_window(ids: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    start = rng.integers(0, max(len(ids) - size, 0), endpoint=True)
    return ids[start : start + size]
