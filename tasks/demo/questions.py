"""Downstream examples made of the same worlds as the corpus, in formats that it does not have."""

import random
from collections.abc import Callable, Hashable, Iterator

from prompt_tuning_jax.tasks.demo import causes, facts
from prompt_tuning_jax.tasks.demo.opinions import opinion
from prompt_tuning_jax.tasks.demo.pronouns import mention
from prompt_tuning_jax.tasks.demo.words import WORLDS, World

# Test and validation come first, so that another size of train leaves them as they are.
SIZES = {"test": 500, "validation": 500, "train": 2000}

# (rng, world, number of the example) -> what the example is about, the record; the number decides
# the label, so that each split has as many of the one as of the other.
Make = Callable[[random.Random, World, int], tuple[Hashable, dict]]


def sentiment(rng: random.Random, world: World, number: int) -> tuple[Hashable, dict]:
    """A text that praises or blames: {"sentence", "label"}."""
    positive = number % 2 == 0
    text = opinion(rng, world, positive)
    return text, {"sentence": text, "label": "positive" if positive else "negative"}


def open_question(rng: random.Random, world: World, number: int) -> tuple[Hashable, dict]:
    """A question whose answer stands in the passage: {"question", "context", "answers"}."""
    passage = facts.contrast(rng, world, rng.choice((2, 3)))
    question, answer = facts.ask_open(rng, passage)
    record = {"question": question, "context": facts.tell(rng, passage), "answers": [answer]}
    return frozenset(passage), record


def yes_no_question(rng: random.Random, world: World, number: int) -> tuple[Hashable, dict]:
    """A question that yes or no answers: {"passage", "question", "label"}."""
    truth = number % 2 == 0
    passage = facts.contrast(rng, world, rng.choice((2, 3)))
    claimed = facts.claim(rng, world, passage, facts.FOLLOWS if truth else facts.CLASHES)
    record = {
        "question": facts.ask_if(rng, claimed),
        "passage": facts.tell(rng, passage),
        "label": "yes" if truth else "no",
    }
    return frozenset(passage), record


def entailment(rng: random.Random, world: World, number: int) -> tuple[Hashable, dict]:
    """Whether one text follows from another: {"premise", "hypothesis", "label"}, two labels."""
    verdict = (facts.FOLLOWS, facts.CLASHES, facts.FOLLOWS, facts.UNSAID)[number % 4]
    label = "entailment" if verdict == facts.FOLLOWS else "not_entailment"
    return _inference(rng, world, verdict, label)


def commitment(rng: random.Random, world: World, number: int) -> tuple[Hashable, dict]:
    """As `entailment`, where clashing and saying nothing are labels of their own."""
    verdict = (facts.FOLLOWS, facts.CLASHES, facts.UNSAID)[number % 3]
    return _inference(rng, world, verdict, ("entailment", "contradiction", "neutral")[verdict])


def cause_or_effect(rng: random.Random, world: World, number: int) -> tuple[Hashable, dict]:
    """What came before or after: {"premise", "choice1", "choice2", "question", "label"}."""
    made = causes.choice(rng, world)
    first = number % 2 == 0
    choices = (made.right, made.wrong) if first else (made.wrong, made.right)
    record = {
        "premise": f"{made.given}.",
        "choice1": f"{choices[0]}.",
        "choice2": f"{choices[1]}.",
        "question": "cause" if made.backward else "effect",
        "label": "choice1" if first else "choice2",
    }
    return (made.given, made.right, made.wrong), record


def pronoun(rng: random.Random, world: World, number: int) -> tuple[Hashable, dict]:
    """Whom the marked pronoun means: {"text", "answers"}."""
    made = mention(rng, world)
    text = made.text.format(p=f"*{made.pronoun}*")
    return text, {"text": text, "answers": [made.who]}


def records(make: Make, world: str, split: str) -> Iterator[dict]:
    """The split's records; no two of any split are about the same facts or have the same text."""
    rng = random.Random(f"{make.__name__} {world} 0")
    seen: set[Hashable] = set()
    for name, size in SIZES.items():
        for number in range(size):
            content, record = make(rng, WORLDS[world], number)
            while content in seen:
                content, record = make(rng, WORLDS[world], number)
            seen.add(content)
            if name == split:
                yield record
        if name == split:
            return


def _inference(rng: random.Random, world: World, verdict: int, label: str) -> tuple[Hashable, dict]:
    premise = facts.contrast(rng, world, 2)
    record = {
        "premise": facts.tell(rng, premise),
        "hypothesis": facts.state(rng, facts.claim(rng, world, premise, verdict)),
        "label": label,
    }
    return frozenset(premise), record
