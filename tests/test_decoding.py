"""Decoders against all sequences of a tiny vocabulary, scored one by one."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from prompt_tuning_jax import decoding, t5
from prompt_tuning_jax.decoding import Beam, Greedy, Rank, Sample
from prompt_tuning_jax.errors import UserError

V, U = 5, 3
CONFIG = t5.T5Config(
    vocab_size=V,
    emb_dim=8,
    num_heads=2,
    head_dim=4,
    num_encoder_layers=1,
    num_decoder_layers=1,
    mlp_dim=8,
    dropout_rate=0.0,
)
# a model whose greedy, best, per-token best and ranked sequences differ, from input to input too
THETA = small.theta(CONFIG, seed=164)
INPUTS = [[2, 3, 1], [4, 4, 2, 1], [3, 1], [2, 2, 4, 3, 1], [4, 2, 3, 1]]
SOURCE = small.padded(INPUTS, 5)


def decode(decoder, source=SOURCE, length=U, seed=0, labels=None):
    @small.quick_jit
    def run(params, source, rng, labels):
        batch = {"encoder_input_tokens": source}
        return decoder(t5.T5(CONFIG), params, t5.EMPTY, batch, length, rng, labels)

    rng = decoding.keys(jax.random.key(seed), np.arange(len(source)), len(source))
    ids = run(THETA, source, rng, labels)
    assert ids.shape == (len(source), length) and ids.dtype == jnp.int32
    return [tuple(row) for row in np.asarray(ids).tolist()]


@functools.cache
def steps():
    """{prefix: log-probabilities of the next token [examples,V]}, by teacher forcing."""
    ends = list(itertools.product(range(V), repeat=U - 1))
    batch = {
        "encoder_input_tokens": np.repeat(SOURCE, len(ends), 0),
        "decoder_input_tokens": np.tile([[0, *end] for end in ends], (len(INPUTS), 1)),
    }
    logits = small.logits(THETA, batch, CONFIG).astype(np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    log_probs = log_probs.reshape(len(INPUTS), len(ends), U, V)
    return {end[:n]: log_probs[:, i, n] for i, end in enumerate(ends) for n in range(U)}


def log_prob(example, tokens):
    """Of a sequence without padding."""
    return sum(steps()[tuple(tokens[:n])][example, token] for n, token in enumerate(tokens))


def sequences():
    """Every sequence that can be written in U tokens: up to its end, or cut at U."""
    for length in range(1, U + 1):
        for tokens in itertools.product(range(V), repeat=length):
            if decoding.EOS not in tokens[:-1] and (tokens[-1] == decoding.EOS or length == U):
                yield tokens


def padded(tokens):
    return (*tokens, *[0] * (U - len(tokens)))


def greedy(example):
    tokens = []
    while len(tokens) < U and decoding.EOS not in tokens:
        tokens.append(int(steps()[tuple(tokens)][example].argmax()))
    return padded(tokens)


# ---- greedy and beam -----------------------------------------------------------------------


def test_greedy_takes_the_likeliest_token_and_stops_at_the_end():
    wanted = [greedy(i) for i in range(len(INPUTS))]
    assert decode(Greedy()) == wanted
    assert {decoding.EOS in row[:-1] for row in wanted} == {True, False}  # some end early


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_beams_that_cover_everything_find_the_best_sequence(alpha):
    def best(example):
        return max(sequences(), key=lambda s: log_prob(example, s) / len(s) ** alpha)

    wanted = [padded(best(i)) for i in range(len(INPUTS))]
    # 4 + 16 open prefixes of one and two tokens; 20 beams hold them all
    assert decode(Beam(20, alpha)) == wanted
    assert wanted != [greedy(i) for i in range(len(INPUTS))]


def test_one_beam_is_greedy():
    assert decode(Beam(1)) == [greedy(i) for i in range(len(INPUTS))]


@pytest.mark.parametrize("decoder", [Greedy(), Beam(2)], ids=str)
def test_rows_of_padding_are_empty_and_change_no_other(decoder):
    source = SOURCE.copy()
    source[[0, 3]] = 0
    full, gaps = decode(decoder), decode(decoder, source)
    assert gaps[0] == gaps[3] == (0, 0, 0)
    assert [gaps[i] for i in (1, 2, 4)] == [full[i] for i in (1, 2, 4)]


# ---- sampling ------------------------------------------------------------------------------

PROBABILITIES = np.array([0.04, 0.3, 0.01, 0.5, 0.15])


def draws(sample, count=20_000):
    """How often each token is drawn from PROBABILITIES."""
    rows = jnp.broadcast_to(jnp.log(PROBABILITIES), (count, V))
    rng = jax.random.split(jax.random.key(0), count)
    return np.bincount(np.asarray(sample.choose(rows, rng)), minlength=V)


def assert_drawn_from(counts, probabilities):
    """Exactly the support, and Pearson's chi-square within 5 standard deviations."""
    support = probabilities > 0
    assert not counts[~support].any()
    expected = counts.sum() * probabilities[support] / probabilities.sum()
    freedom = max(support.sum() - 1, 1)
    chi_square = ((counts[support] - expected) ** 2 / expected).sum()
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize(
    ("sample", "kept"),
    [
        (Sample(), [0, 1, 2, 3, 4]),
        (Sample(top_k=2), [1, 3]),
        (Sample(top_k=9), [0, 1, 2, 3, 4]),
        # the smallest set of the likeliest tokens that has the probability: .5, .5 + .3, …
        (Sample(top_p=0.45), [3]),
        (Sample(top_p=0.75), [1, 3]),
        (Sample(top_p=0.85), [1, 3, 4]),
        (Sample(top_p=0.999), [0, 1, 2, 3, 4]),
        # of the three likeliest, .526 and .316 of what they have together
        (Sample(top_k=3, top_p=0.6), [1, 3]),
    ],
    ids=str,
)
def test_what_is_drawn_and_how_often(sample, kept):
    wanted = np.where(np.isin(range(V), kept), PROBABILITIES, 0)
    assert_drawn_from(draws(sample), wanted)


def test_temperature():
    assert_drawn_from(draws(Sample(temperature=2.0)), PROBABILITIES**0.5)
    assert_drawn_from(draws(Sample(temperature=0.5)), PROBABILITIES**2)
    # .5^2 is .686 of the squares' sum, so the nucleus is smaller than at temperature 1
    assert_drawn_from(draws(Sample(temperature=0.5, top_p=0.68)), np.eye(V)[3])


def test_whole_sequences_are_drawn_from_the_model():
    rows = decode(Sample(), np.repeat(SOURCE[:1], 4000, 0), seed=3)
    drawn = {padded(tokens): 0 for tokens in sequences()}
    for row in rows:
        drawn[row] += 1  # a token after the end would be a KeyError
    wanted = {padded(tokens): np.exp(log_prob(0, tokens)) for tokens in sequences()}
    assert sum(wanted.values()) == pytest.approx(1)
    common = [row for row in drawn if wanted[row] > 0.005]
    assert len(common) > 10
    counts = [drawn[row] for row in common]
    rest = [len(rows) - sum(counts), 1 - sum(wanted[row] for row in common)]
    assert_drawn_from(
        np.array([*counts, rest[0]]), np.array([*(wanted[row] for row in common), rest[1]])
    )
    # the same seed draws the same, another one differs
    assert decode(Sample(), seed=1) == decode(Sample(), seed=1) != decode(Sample(), seed=2)


def test_what_is_drawn_depends_on_the_example_and_not_on_its_place():
    first, again = (decoding.keys(jax.random.key(5), n, 4) for n in ([7, 3, 9], [3, 7]))
    first, again = jax.random.key_data(first), jax.random.key_data(again)
    assert first.shape[0] == again.shape[0] == 4
    assert first[:2].tolist() == again[:2][::-1].tolist()
    assert len({tuple(key) for key in first.tolist()}) == 4


def test_sampling_errors():
    for bad in ({"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(UserError, match="temperature > 0"):
            Sample(**bad)
    with pytest.raises(UserError, match="at least one"):
        Beam(0)


# ---- ranking -------------------------------------------------------------------------------

LABELS = [(3, 1), (2, 4, 1), (4, 1), (1,), (3, 3, 1)]


@pytest.mark.parametrize("per_token", [False, True])
def test_ranking_compares_the_labels_log_probabilities(per_token):
    def score(example, label):
        return log_prob(example, label) / (len(label) if per_token else 1)

    wanted = [max(LABELS, key=lambda label: score(i, label)) for i in range(len(INPUTS))]
    ids = decode(Rank(per_token), length=4, labels=small.padded(LABELS, 3))
    assert ids == [(*padded(label), 0) for label in wanted]
    assert len(set(wanted)) > 1


def test_ranking_needs_labels():
    with pytest.raises(UserError, match="label words"):
        decode(Rank())
