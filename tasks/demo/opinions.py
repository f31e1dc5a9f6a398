"""Opinions: short texts that praise or blame something, and what follows from them."""

import random

from prompt_tuning_jax.tasks.demo import words

_PLAIN = (
    "the {subject} was {a} and {b}.",
    "a {a} and {b} {subject}.",
    "the {subject} was {a}. the {other} was {b} too.",
    "what a {a} {subject}!",
    "{who} found the {subject} {a}.",
    "{who} saw a {a} {subject} on {day}.",
    "the {subject} in the {place} was {a}.",
    "it was a {a} {subject} with a {b} {other}.",
    "the {other} was so {a}, and so was the {subject}.",
    "a {subject} can be {a}, and this one was {a} and {b}.",
    "{who} came for the {subject}, and it was {a}.",
)
# {a} and {b} are then words of the opposite side.
_NEGATED = (
    "the {subject} was not {a}.",
    "the {subject} was never {a} or {b}.",
    "{who} found nothing {a} in the {subject}.",
    "there was nothing {a} about the {subject}.",
    "the {subject} was far from {a}.",
)


def opinion(rng: random.Random, positive: bool) -> str:
    """One or two sentences that praise (`positive`) or blame, some by denying the opposite."""
    negated = rng.random() < 0.2
    side = words.GOOD if positive != negated else words.BAD
    a, b = rng.sample(side, 2)
    subject, other = rng.sample(words.SUBJECTS, 2)
    return rng.choice(_NEGATED if negated else _PLAIN).format(
        a=a,
        b=b,
        subject=subject,
        other=other,
        who=rng.choice(words.PEOPLE),
        day=rng.choice(words.DAYS),
        place=rng.choice(words.PLACES),
    )
