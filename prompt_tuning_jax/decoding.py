"""How predictions are made: greedy, sampling, beam search, ranking the label words.

A decoder is a frozen dataclass; `decoder(model, theta, tuned, batch, length, rng, labels)` is
traceable and returns token ids [B,U], U = `length`, zeros after the end of sequence. `tuned` is
exported; rng are `keys`, one for each row. All but the ranking run one token at a time over a cache
of keys and values.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.largest import argmax
from prompt_tuning_jax.method import Tree
from prompt_tuning_jax.streams import Encoded
from prompt_tuning_jax.t5 import T5, empty_cache

EOS = 1
NEVER = -1e10  # log-probability of a sequence that must not be chosen


def keys(rng: jax.Array, examples: np.ndarray, rows: int) -> jax.Array:
    """A random key for each row of a batch, [rows]: that of its example, whose number is in
    `examples` (the rows after these are padding). So what is drawn for an example depends neither
    on its place in a batch nor on the batch's size."""
    numbers = np.zeros(rows, np.uint32)
    numbers[: len(examples)] = examples
    return jax.vmap(jax.random.fold_in, (None, 0))(rng, numbers)


def _stepper(model: T5, theta: Tree, tuned: Tree, encoded: Encoded):
    """step(tokens [B], cache, i) -> (log-probabilities [B,V], cache)."""

    def step(tokens, cache, i):
        logits, cache = model.apply(
            {"params": theta}, tuned, encoded, tokens[:, None], cache, i, method="decode_step"
        )
        return jax.nn.log_softmax(logits[:, 0]), cache

    return step


@dataclasses.dataclass(frozen=True)
class Greedy:
    """The most probable token at each step (the paper's evaluation)."""

    def choose(self, log_probs: jax.Array, rng: jax.Array) -> jax.Array:
        """log-probabilities [B,V] and keys [B] -> tokens [B]."""
        return argmax(log_probs)

    def __call__(self, model, theta, tuned, batch, length, rng, labels):
        encoded = model.apply({"params": theta}, tuned, batch, method="encode")
        step = _stepper(model, theta, tuned, encoded)
        rows = encoded.x.shape[0]

        def advance(i, tokens, cache, done, out):
            log_probs, cache = step(tokens, cache, i)
            tokens = self.choose(log_probs, jax.vmap(jax.random.fold_in, (0, None))(rng, i))
            tokens = jnp.where(done, 0, tokens).astype(jnp.int32)
            out = jax.lax.dynamic_update_slice_in_dim(out, tokens[:, None], i, axis=1)
            return i + 1, tokens, cache, done | (tokens == EOS), out

        # rows of padding alone (a last batch filled up) are done before they begin
        done = jnp.all(batch["encoder_input_tokens"] == 0, 1)
        start = jnp.zeros(rows, jnp.int32)
        cache = empty_cache(model.config, rows, length)
        # the first step fills the cache of cross-attention, so the loop's cache has its shape
        state = advance(0, start, cache, done, jnp.zeros((rows, length), jnp.int32))
        state = jax.lax.while_loop(
            lambda s: (s[0] < length) & ~jnp.all(s[3]), lambda s: advance(*s), state
        )
        return state[4]


@dataclasses.dataclass(frozen=True)
class Sample(Greedy):
    """Tokens drawn from the model; temperature, the k likeliest tokens (top_k), the likeliest
    ones that make up probability p together (top_p; Holtzman et al. 2020). 0 and 1.0: no limit."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if self.temperature <= 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError(f"{self}: temperature > 0, top_k >= 0 and 0 < top_p <= 1")

    def choose(self, log_probs, rng):
        scaled = log_probs / self.temperature
        if self.top_k:
            kth = jax.lax.top_k(scaled, min(self.top_k, scaled.shape[-1]))[0][:, -1:]
            scaled = jnp.where(scaled < kth, NEVER, scaled)
        if self.top_p < 1:
            ordered = -jnp.sort(-jax.nn.softmax(scaled), -1)
            before = jnp.cumsum(ordered, -1) - ordered
            # the smallest probability that is still in the nucleus
            least = jnp.min(jnp.where(before < self.top_p, ordered, 1), -1, keepdims=True)
            scaled = jnp.where(jax.nn.softmax(scaled) < least, NEVER, scaled)
        return jax.vmap(jax.random.categorical)(rng, scaled)


@dataclasses.dataclass(frozen=True)
class Beam:
    """Beam search; a finished sequence of n tokens (its end counted) scores log p / n^alpha.

    transformers' algorithm with early_stopping=False (T5X's has another length penalty and stops
    later): a row is searched until no open beam, scored at its present length, beats the worst of
    `beams` finished ones; whatever other rows of the batch still search for.
    """

    beams: int = 4
    alpha: float = 1.0

    def __post_init__(self):
        if self.beams < 1:
            raise UserError(f"Beam.beams = {self.beams}: at least one")

    def __call__(self, model, theta, tuned, batch, length, rng, labels):
        encoded = model.apply({"params": theta}, tuned, batch, method="encode")
        step, k = _stepper(model, theta, tuned, encoded), self.beams
        rows, vocabulary = encoded.x.shape[0], model.config.vocab_size

        def each(move, cache):  # the rows' keys and values [L,N,P,H,K] have no beams
            return {n: p if n == "rows" else jax.tree.map(move, p) for n, p in cache.items()}

        def pick(a, index):  # [B,n,...], [B,m] -> [B,m,...]
            return jnp.take_along_axis(a, index.reshape(*index.shape, *(1,) * (a.ndim - 2)), 1)

        def extend(i, log_probs, alive, out, best, finished, searched):
            """One token more for every beam: 2k candidates, the finished kept apart."""
            total = alive[:, :, None] + log_probs.reshape(rows, -1, vocabulary)
            score, index = jax.lax.top_k(total.reshape(rows, -1), 2 * k)
            beam, token = index // vocabulary, (index % vocabulary).astype(jnp.int32)
            candidates = pick(out, beam).at[:, :, i].set(token)
            ends = token == EOS
            last = i + 1 == length
            # among the 2k, only an end that ranks in the first k counts
            first = jnp.arange(2 * k) < k
            counts = ((ends & first) | last) & searched[:, None]
            closed = jnp.where(counts, score / (i + 1.0) ** self.alpha, NEVER)
            best, order = jax.lax.top_k(jnp.concatenate([best, closed], 1), k)
            finished = pick(jnp.concatenate([finished, candidates], 1), order)
            alive, order = jax.lax.top_k(jnp.where(ends, NEVER, score), k)
            hope = alive[:, 0] / (i + 1.0) ** self.alpha
            return (
                alive,
                pick(candidates, order),
                pick(beam, order),
                pick(token, order),
                best,
                finished,
                searched & (best[:, -1] < hope),
            )

        def advance(i, tokens, cache, alive, out, best, finished, searched):
            log_probs, cache = step(tokens.reshape(-1), cache, i)
            alive, out, beam, tokens, best, finished, searched = extend(
                i, log_probs, alive, out, best, finished, searched
            )
            source = (jnp.arange(rows)[:, None] * k + beam).reshape(-1)
            cache = each(lambda a: jnp.take(a, source, axis=1), cache)
            return i + 1, tokens, cache, alive, out, best, finished, searched

        # the first step is computed once a row: of its beams only the first is open
        log_probs, cache = step(
            jnp.zeros(rows, jnp.int32), empty_cache(model.config, rows, length), 0
        )
        out = jnp.zeros((rows, k, length), jnp.int32)
        alive, out, _, tokens, best, finished, searched = extend(
            0,
            log_probs,
            jnp.full((rows, k), NEVER).at[:, 0].set(0.0),
            out,
            jnp.full((rows, k), NEVER),
            jnp.zeros((rows, k, length), jnp.int32),
            # rows of padding alone (a last batch filled up) are never searched
            jnp.any(batch["encoder_input_tokens"] > 0, 1),
        )
        # [L,B,…] -> [L,B*k,…]
        cache = each(lambda a: jnp.repeat(a, k, axis=1), cache)
        state = (jnp.int32(1), tokens, cache, alive, out, best, finished, searched)
        # encoder states are no longer read (their keys and values are cached), only their mask
        encoded = encoded.replace(
            x=jnp.repeat(encoded.x, k, axis=0),
            segment_ids=jnp.repeat(encoded.segment_ids, k, axis=0),
            side=jax.tree.map(lambda a: jnp.repeat(a, k, axis=0), encoded.side),
            prompt_ids=jax.tree.map(lambda a: jnp.repeat(a, k, axis=0), encoded.prompt_ids),
        )
        step = _stepper(model, theta, tuned, encoded)
        state = jax.lax.while_loop(
            lambda s: (s[0] < length) & jnp.any(s[7]), lambda s: advance(*s), state
        )
        return state[6][:, 0]


@dataclasses.dataclass(frozen=True)
class Rank:
    """The label word with the highest log-probability (its end of sequence included).

    labels [C,U] are the label words' tokens, zero padded; per_token divides by their number.
    """

    per_token: bool = False

    def __call__(self, model, theta, tuned, batch, length, rng, labels):
        if labels is None:
            raise UserError("decoding.Rank needs a task with label words; this one has free text")
        encoded = model.apply({"params": theta}, tuned, batch, method="encode")
        rows = encoded.x.shape[0]

        def score(label):
            # [U] -> [B]: teacher forcing on the label, shifted right
            inputs = jnp.broadcast_to(jnp.pad(label[:-1], (1, 0)), (rows, label.shape[0]))
            logits = model.apply(
                {"params": theta}, tuned, encoded, {"decoder_input_tokens": inputs}, method="decode"
            )
            chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), label[None, :, None], -1)[
                ..., 0
            ]
            real = label > 0
            total = jnp.where(real, chosen, 0).sum(1)
            return total / real.sum() if self.per_token else total

        best = jnp.argmax(jax.lax.map(score, labels), 0)
        return jnp.zeros((rows, length), jnp.int32).at[:, : labels.shape[1]].set(labels[best])
