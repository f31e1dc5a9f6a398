"""Causes and effects: what happens in a world and what comes of it."""

import dataclasses
import random

from prompt_tuning_jax.tasks.demo.words import World


@dataclasses.dataclass(frozen=True)
class Choice:
    """Something that happened, what came before or after it, and what has nothing to do with it.

    Attributes:
      given: what happened; like the others without a full stop.
      right: its cause where `backward`, else its effect.
      wrong, other: the causes or the effects of something else.
      backward: whether the cause is asked for.
    """

    given: str
    right: str
    wrong: str
    other: str
    backward: bool


def cause_and_effect(rng: random.Random, world: World) -> tuple[str, str]:
    """Two clauses, the first the reason of the second."""
    return _named(rng, world, rng.choice(world.causes))


def choice(rng: random.Random, world: World) -> Choice:
    """A question of what came before or after, with two answers to choose from."""
    (cause, effect), *others = (_named(rng, world, m) for m in rng.sample(world.causes, 3))
    backward = rng.random() < 0.5
    wrong, other = (pair[0 if backward else 1] for pair in others)
    given, right = (effect, cause) if backward else (cause, effect)
    return Choice(given, right, wrong, other, backward)


def _named(rng: random.Random, world: World, matter: tuple[str, str]) -> tuple[str, str]:
    who = rng.choice(world.people)
    cause, effect = matter
    return cause.format(who=who), effect.format(who=who)
