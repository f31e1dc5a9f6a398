"""Facts of the micro-world, the ways to state them and the ways to ask about them.

A passage gives two or three people the same attribute with different values, so that no question
about it can be answered without finding out whose value is whose.
"""

import random
from dataclasses import dataclass

from prompt_tuning_jax.tasks.demo import words


@dataclass(frozen=True)
class Relation:
    """One attribute of people. The wordings have the slots {who}, {what} (the value), {about}.

    Attributes:
      values: what the attribute can be.
      statements: sentences that state a fact.
      asks_what: questions that the value answers.
      asks_who: questions that the person answers.
      asks_if: questions that yes or no answers.
      about: what the attribute is further about (a color: of which thing), one for all people of a
        passage; empty where the relation has no such slot.
    """

    values: tuple[str, ...]
    statements: tuple[str, ...]
    asks_what: tuple[str, ...]
    asks_who: tuple[str, ...]
    asks_if: tuple[str, ...]
    about: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Fact:
    """That the attribute `relation` (about `about`) of `who` is `what`."""

    relation: Relation
    who: str
    what: str
    about: str

    def wording(self, template: str, what: str = "") -> str:
        """One of the relation's wordings for this fact, or for a rumor that the value is `what`."""
        return template.format(who=self.who, what=what or self.what, about=self.about)


RELATIONS = (
    Relation(
        words.PLACES,
        (
            "{who} lives in the {what}.",
            "the home of {who} is the {what}.",
            "in the {what} lives {who}.",
        ),
        ("where does {who} live?", "what is the home of {who}?"),
        ("who lives in the {what}?", "who has a home in the {what}?"),
        ("does {who} live in the {what}?", "is the {what} the home of {who}?"),
    ),
    Relation(
        words.JOBS,
        ("{who} is a {what}.", "{who} works as a {what}.", "the {what} is called {who}."),
        ("what is the job of {who}?", "what does {who} work as?"),
        ("who is a {what}?", "who works as a {what}?"),
        ("is {who} a {what}?", "does {who} work as a {what}?"),
    ),
    Relation(
        words.ANIMALS,
        ("{who} keeps a {what}.", "{who} feeds a {what}.", "a {what} belongs to {who}."),
        ("which animal does {who} keep?", "what does {who} feed?"),
        ("who keeps a {what}?", "who feeds a {what}?"),
        ("does {who} keep a {what}?", "is the animal of {who} a {what}?"),
    ),
    Relation(
        words.FOODS,
        ("{who} likes {what}.", "{who} eats {what}.", "the favorite food of {who} is {what}."),
        ("what does {who} like to eat?", "what is the favorite food of {who}?"),
        ("who likes to eat {what}?", "who eats {what}?"),
        ("does {who} like {what}?", "is {what} the favorite food of {who}?"),
    ),
    Relation(
        words.COLORS,
        (
            "{who} has a {what} {about}.",
            "the {about} of {who} is {what}.",
            "{who} bought a {what} {about}.",
        ),
        ("which color is the {about} of {who}?", "what color of {about} does {who} have?"),
        ("who has a {what} {about}?", "who bought the {what} {about}?"),
        ("is the {about} of {who} {what}?", "does {who} have a {what} {about}?"),
        words.THINGS,
    ),
    Relation(
        words.PLACES,
        (
            "on {about} {who} went to the {what}.",
            "{who} visits the {what} on {about}.",
            "{who} goes to the {what} every {about}.",
        ),
        ("where does {who} go on {about}?", "which place does {who} visit on {about}?"),
        ("who goes to the {what} on {about}?", "who visits the {what} on {about}?"),
        ("does {who} go to the {what} on {about}?", "did {who} visit the {what} on {about}?"),
        words.DAYS,
    ),
    Relation(
        words.NUMBERS,
        ("{who} is {what} years old.", "{who} turned {what}.", "the age of {who} is {what}."),
        ("how old is {who}?", "what is the age of {who}?"),
        ("who is {what} years old?", "who turned {what}?"),
        ("is {who} {what} years old?", "is {what} the age of {who}?"),
    ),
)


def contrast(rng: random.Random, people: int) -> list[Fact]:
    """`people` facts of one relation, about different people with different values."""
    relation = rng.choice(RELATIONS)
    about = rng.choice(relation.about)
    names = rng.sample(words.PEOPLE, people)
    values = rng.sample(relation.values, people)
    return [Fact(relation, who, what, about) for who, what in zip(names, values, strict=True)]


def tell(rng: random.Random, facts: list[Fact]) -> str:
    """The facts as a passage: each in one of its wordings, in a random order."""
    shuffled = rng.sample(facts, len(facts))
    return " ".join(fact.wording(rng.choice(fact.relation.statements)) for fact in shuffled)


def ask_open(rng: random.Random, facts: list[Fact]) -> tuple[str, str]:
    """A question about one of the facts, and the word of the passage that answers it."""
    fact = rng.choice(facts)
    if rng.random() < 0.6:
        return fact.wording(rng.choice(fact.relation.asks_what)), fact.what
    return fact.wording(rng.choice(fact.relation.asks_who)), fact.who


def ask_if(rng: random.Random, facts: list[Fact], truth: bool) -> str:
    """A question about one of the facts that is answered by yes (`truth`) or no."""
    fact = rng.choice(facts)
    what = fact.what if truth else wrong_value(rng, fact, facts)
    return fact.wording(rng.choice(fact.relation.asks_if), what)


def wrong_value(rng: random.Random, fact: Fact, facts: list[Fact]) -> str:
    """A value that is not the fact's; mostly another person's, so that it too is in the passage."""
    others = [other.what for other in facts if other.what != fact.what]
    if rng.random() < 0.25:
        others = [value for value in fact.relation.values if value != fact.what]
    return rng.choice(others)
