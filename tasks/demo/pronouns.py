"""Pronouns: two people, something that one of them did, and whom "she" or "he" means."""

import dataclasses
import random

from prompt_tuning_jax.tasks.demo import words
from prompt_tuning_jax.tasks.demo.words import World

# A woman and a man: the pronoun itself says who is meant.
_MEETINGS = (
    "{a} met {b} at the {place}.",
    "{a} and {b} went to the {place}.",
    "{a} saw {b} on {day}.",
    "{a} called {b}.",
    "{a} sold a {thing} to {b}.",
    "{a} sat with {b} at the {place}.",
)
_DEEDS = (
    "{p} was {mood}.",
    "{p} had a {color} {thing}.",
    "{p} looked {mood}.",
    "then {p} ate {food}.",
    "{p} went home on {day}.",
    "{p} bought a {thing}.",
)
# Two women or two men: what is said of them tells whether the first or the second is meant.
_REASONS = (
    ("{a} thanked {b} because {p} had helped.", 1),
    ("{a} asked {b} because {p} needed help.", 0),
    ("{a} visited {b} because {p} was sick.", 1),
    ("{a} phoned {b} because {p} was lost.", 0),
    ("{a} praised {b} because {p} sang well.", 1),
    ("{a} begged {b} because {p} was hungry.", 0),
    ("{a} followed {b} because {p} knew the way.", 1),
    ("{a} told {b} because {p} had seen it.", 0),
)


@dataclasses.dataclass(frozen=True)
class Mention:
    """A text with {p} in the pronoun's place.

    Attributes:
      text: the text.
      pronoun: "she" or "he".
      who: whom it means.
      other: the other one whom it could mean.
    """

    text: str
    pronoun: str
    who: str
    other: str


def mention(rng: random.Random, world: World) -> Mention:
    """Two people and a pronoun for one of them; a quarter are of one sex."""
    if rng.random() < 0.25:
        text, which = rng.choice(_REASONS)
        group, pronoun = rng.choice(((world.women, "she"), (world.men, "he")))
        pair = rng.sample(group, 2)
        text = text.format(a=pair[0], b=pair[1], p="{p}")
        return Mention(text, pronoun, pair[which], pair[1 - which])
    woman, man = rng.choice(world.women), rng.choice(world.men)
    a, b = rng.sample((woman, man), 2)
    text = f"{rng.choice(_MEETINGS)} {rng.choice(_DEEDS)}".format(
        a=a,
        b=b,
        p="{p}",
        place=rng.choice(world.places),
        thing=rng.choice(world.things),
        day=rng.choice(words.DAYS),
        color=rng.choice(words.COLORS),
        food=rng.choice(world.foods),
        mood=rng.choice(words.MOODS),
    )
    if rng.random() < 0.5:
        return Mention(text, "she", woman, man)
    return Mention(text, "he", man, woman)
