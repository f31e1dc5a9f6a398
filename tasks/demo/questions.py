"""Downstream examples made of the same world as the corpus, in formats that it does not have."""

import random
from collections.abc import Callable, Hashable, Iterator

from prompt_tuning_jax.tasks.demo import facts
from prompt_tuning_jax.tasks.demo.opinions import opinion

# Test and validation come first, so that another size of train leaves them as they are.
SIZES = {"test": 300, "validation": 300, "train": 2000}

# rng, whether the label is the first one -> what the example is about, the record
Make = Callable[[random.Random, bool], tuple[Hashable, dict]]


def sentiment(rng: random.Random, positive: bool) -> tuple[Hashable, dict]:
    """A text that praises or blames: {"sentence", "label"}."""
    text = opinion(rng, positive)
    return text, {"sentence": text, "label": "positive" if positive else "negative"}


def open_question(rng: random.Random, _: bool) -> tuple[Hashable, dict]:
    """A question whose answer stands in the passage: {"question", "context", "answers"}."""
    passage = facts.contrast(rng, rng.choice((2, 3)))
    question, answer = facts.ask_open(rng, passage)
    record = {"question": question, "context": facts.tell(rng, passage), "answers": [answer]}
    return frozenset(passage), record


def yes_no_question(rng: random.Random, truth: bool) -> tuple[Hashable, dict]:
    """A question that yes or no answers: {"passage", "question", "label"}."""
    passage = facts.contrast(rng, rng.choice((2, 3)))
    record = {
        "question": facts.ask_if(rng, passage, truth),
        "passage": facts.tell(rng, passage),
        "label": "yes" if truth else "no",
    }
    return frozenset(passage), record


def records(make: Make, split: str) -> Iterator[dict]:
    """The split's records; no two of any split are about the same facts or have the same text.

    Labels alternate, so that each split has as many of the one as of the other.
    """
    rng = random.Random(f"{make.__name__} 0")
    seen: set[Hashable] = set()
    for name, size in SIZES.items():
        for number in range(size):
            content, record = make(rng, number % 2 == 0)
            while content in seen:
                content, record = make(rng, number % 2 == 0)
            seen.add(content)
            if name == split:
                yield record
        if name == split:
            return
