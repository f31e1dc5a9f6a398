"""Facts of the micro-world, the ways to state them and the ways to ask about them.

A passage gives two or three people the same attribute with different values, so that no question
about it can be answered without finding out whose value is whose.
"""

import dataclasses
import random
from collections.abc import Sequence

from prompt_tuning_jax.tasks.demo.words import World


@dataclasses.dataclass(frozen=True)
class Relation:
    """One attribute of people. The wordings have the slots {who}, {what} (the value), {about}.

    Attributes:
      values: the field of `World` that holds what the attribute can be.
      statements: sentences that state a fact.
      asks_what: questions that the value answers.
      asks_who: questions that the person answers.
      asks_if: questions that yes or no answers.
      about: the field of what the attribute is further about (a color: of which thing), one for all
        people of a passage; empty where the relation has no such slot.
    """

    values: str
    statements: tuple[str, ...]
    asks_what: tuple[str, ...]
    asks_who: tuple[str, ...]
    asks_if: tuple[str, ...]
    about: str = ""


@dataclasses.dataclass(frozen=True)
class Fact:
    """That the attribute `relation` (about `about`) of `who` is `what`."""

    relation: Relation
    who: str
    what: str
    about: str

    def wording(self, template: str) -> str:
        """One of the relation's wordings for this fact."""
        return template.format(who=self.who, what=self.what, about=self.about)


RELATIONS = (
    Relation(
        "places",
        (
            "{who} lives in the {what}.",
            "the home of {who} is the {what}.",
            "{who} stays in the {what}.",
        ),
        ("where is the home of {who}?", "in which place lives {who}?"),
        ("who lives in the {what}?", "who has a home in the {what}?"),
        ("does {who} live in the {what}?", "is the {what} the home of {who}?"),
    ),
    Relation(
        "jobs",
        ("{who} is a {what}.", "{who} works as a {what}.", "{who} earns money as a {what}."),
        ("what is the job of {who}?", "what is the work of {who}?"),
        ("who is a {what}?", "who works as a {what}?"),
        ("is {who} a {what}?", "does {who} work as a {what}?"),
    ),
    Relation(
        "animals",
        ("{who} keeps a {what}.", "{who} feeds a {what}.", "{who} owns a {what}."),
        ("which animal lives with {who}?", "what is the animal of {who}?"),
        ("who keeps a {what}?", "who feeds a {what}?"),
        ("does {who} keep a {what}?", "is the animal of {who} a {what}?"),
    ),
    Relation(
        "foods",
        ("{who} likes {what}.", "{who} eats {what}.", "the favorite food of {who} is {what}."),
        ("what is eaten by {who}?", "what is the favorite food of {who}?"),
        ("who likes to eat {what}?", "who eats {what}?"),
        ("does {who} like {what}?", "is {what} the favorite food of {who}?"),
    ),
    Relation(
        "colors",
        (
            "{who} has a {what} {about}.",
            "the {about} of {who} is {what}.",
            "{who} bought a {what} {about}.",
        ),
        ("which color is the {about} of {who}?", "what color has the {about} of {who}?"),
        ("who has a {about} in {what}?", "who bought a {about} in {what}?"),
        ("is the {about} of {who} {what}?", "does {who} have a {about} in {what}?"),
        "things",
    ),
    Relation(
        "numbers",
        ("{who} is {what} years old.", "{who} turned {what}.", "the age of {who} is {what}."),
        ("how old is {who}?", "what is the age of {who}?"),
        ("whose age is {what}?", "who turned {what}?"),
        ("did {who} turn {what}?", "is {what} the age of {who}?"),
    ),
)

# What a passage says of a claim.
FOLLOWS, CLASHES, UNSAID = range(3)


def contrast(rng: random.Random, world: World, people: int) -> list[Fact]:
    """`people` facts of one relation, about different people with different values."""
    relation = rng.choice(RELATIONS)
    names = rng.sample(world.people, people)
    values = rng.sample(getattr(world, relation.values), people)
    about = _about(rng, world, relation)
    return [Fact(relation, who, what, about) for who, what in zip(names, values, strict=True)]


def state(rng: random.Random, fact: Fact) -> str:
    """The fact in one of its wordings."""
    return fact.wording(rng.choice(fact.relation.statements))


def tell(rng: random.Random, facts: list[Fact]) -> str:
    """The facts as a passage: each in one of its wordings, in a random order."""
    return " ".join(state(rng, fact) for fact in rng.sample(facts, len(facts)))


def ask_open(rng: random.Random, facts: list[Fact]) -> tuple[str, str]:
    """A question about one of the facts, and the word of the passage that answers it."""
    fact = rng.choice(facts)
    if rng.random() < 0.6:
        return fact.wording(rng.choice(fact.relation.asks_what)), fact.what
    return fact.wording(rng.choice(fact.relation.asks_who)), fact.who


def ask_if(rng: random.Random, claimed: Fact) -> str:
    """A question that is answered by yes where the claim follows and by no where it clashes."""
    return claimed.wording(rng.choice(claimed.relation.asks_if))


def claim(rng: random.Random, world: World, facts: list[Fact], verdict: int) -> Fact:
    """A claim that follows from the facts, clashes with them, or of which they say nothing.

    What is not said is about somebody else, or about another attribute of a person.
    """
    fact = rng.choice(facts)
    if verdict == FOLLOWS:
        return fact
    if verdict == CLASHES:
        return clash(rng, world, facts, fact)
    if rng.random() < 0.5:
        strangers = sorted(set(world.people) - {known.who for known in facts})
        what = rng.choice((fact.what, rng.choice(getattr(world, fact.relation.values))))
        return dataclasses.replace(fact, who=rng.choice(strangers), what=what)
    relation = rng.choice([other for other in RELATIONS if other != fact.relation])
    what = rng.choice(getattr(world, relation.values))
    return Fact(relation, fact.who, what, _about(rng, world, relation))


def claims(
    rng: random.Random, world: World, facts: list[Fact], verdicts: Sequence[int], most: int
) -> list[tuple[Fact, int]]:
    """Up to `most` claims about the facts with their verdicts, no person or value twice."""
    made: list[tuple[Fact, int]] = []
    used: set[str] = set()
    for verdict in rng.choices(verdicts, k=3 * most):
        claimed = claim(rng, world, facts, verdict)
        if len(made) < most and not used & {claimed.who, claimed.what}:
            used |= {claimed.who, claimed.what}
            made.append((claimed, verdict))
    return made


def clash(rng: random.Random, world: World, facts: list[Fact], fact: Fact) -> Fact:
    """One of the facts with another value, mostly another person's, so that it too is there."""
    others = [other.what for other in facts]
    if rng.random() < 0.25:
        others = list(getattr(world, fact.relation.values))
    return dataclasses.replace(fact, what=rng.choice([o for o in others if o != fact.what]))


def _about(rng: random.Random, world: World, relation: Relation) -> str:
    return rng.choice(getattr(world, relation.about)) if relation.about else ""
