"""Opinions: short texts that praise or blame something."""

import random

from prompt_tuning_jax.tasks.demo import words
from prompt_tuning_jax.tasks.demo.words import World

_PLAIN = (
    "the {subject} was {a} and {b}.",
    "a {a} and {b} {subject}.",
    "the {subject} was {a}. the {other} was {b} too.",
    "what a {a} {subject}!",
    "{who} found the {subject} {a}.",
    "{who} saw a {a} {subject} on {day}.",
    "it was a {a} {subject} with a {b} {other}.",
    "the {other} was so {a}, and so was the {subject}.",
    "{who} came for the {subject}, and it was {a}.",
)
# {a} and {b} are then words of the opposite side.
_NEGATED = (
    "the {subject} was not {a}.",
    "the {subject} was never {a} or {b}.",
    "{who} found nothing {a} in the {subject}.",
    "the {subject} was far from {a}.",
)


def opinion(rng: random.Random, world: World, positive: bool) -> str:
    """One or two sentences that praise (`positive`) or blame, some by denying the opposite."""
    negated = rng.random() < 0.2
    a, b = rng.sample(world.good if positive != negated else world.bad, 2)
    subject, other = rng.sample(world.subjects, 2)
    return rng.choice(_NEGATED if negated else _PLAIN).format(
        a=a,
        b=b,
        subject=subject,
        other=other,
        who=rng.choice(world.people),
        day=rng.choice(words.DAYS),
    )
