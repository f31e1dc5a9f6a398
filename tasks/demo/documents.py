"""The pre-training corpus: short documents in which the micro-world's skills occur in many forms.

A document states facts and asks, lists, checks or repeats them; or says what somebody thinks of
something, what came of what, or whom a word means. Where the question stands, how it is led in and
which words answer it vary freely, so that there is a direction in the model for "the answer comes
now" that no single wording owns. The formats of the downstream tasks (`questions.py`) do not occur.

MARK stands where what comes next can be told from what came before: LM adaptation continues
documents from there. A small model learns next to nothing from prefixes that end anywhere: most of
what it then has to predict are sentences that nothing foretells, and the few words that something
does foretell drown in their noise.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence

from prompt_tuning_jax.tasks.demo import causes, exercises, facts
from prompt_tuning_jax.tasks.demo.exercises import Exercise, Pair
from prompt_tuning_jax.tasks.demo.facts import Fact
from prompt_tuning_jax.tasks.demo.opinions import opinion
from prompt_tuning_jax.tasks.demo.pronouns import mention
from prompt_tuning_jax.tasks.demo.words import WORLDS, World

MARK = "|"
# Words and punctuation marks before MARK, at most.
LONGEST = 38

# How a question with its answer follows a text, and how it surrounds one.
_QUESTION_AFTER = (
    "{text} {question} {answer}",
    "{text} q: {question} a: {answer}",
    "{text} ask: {question} reply: {answer}",
    "{text} {question} it is {answer}",
    "{text} {question} the answer is {answer}",
    "{text} - {question} - {answer}",
    "{text} {question} ( {answer} )",
    "{text} {who} asked: {question} {answer}",
    "{text} {question} so: {answer}",
)
_QUESTION_BEFORE = (
    "{question} {text} {answer}",
    "{question} we know this. {text} so: {answer}",
    "find out: {question} {text} {answer}",
    "read and answer. {question} {text} {answer}",
    "{who} asked: {question} {text} the answer is {answer}",
    "the story: {text} the question: {question} {answer}",
    "listen. {text} now, {question} {answer}",
)
# A passage as a list: (before, between the two sides of an entry, between entries).
_NOTES = (
    ("in short:", " - ", ", "),
    ("notes:", ": ", ". "),
    ("list.", " ", ". "),
    ("so we have", " and ", ", "),
    ("to sum up,", ", ", ". "),
)
_AGAIN = ("again:", "that is,", "in other words,", "so")
# What people do after they have praised, or blamed.
_REACTIONS = (
    ("loved it", "hated it"),
    ("enjoyed it", "disliked it"),
    ("smiled", "frowned"),
    ("will come again", "will never come again"),
)
_BECAUSE = (
    "{cause}, so {mark}{effect}.",
    "{effect} because {mark}{cause}.",
    "{cause}. then {mark}{effect}.",
    "why? {cause}. {mark}{effect}.",
    "{effect}, for {mark}{cause}.",
)
_CHOSEN = (
    "{given}. {why} {a} or {b}? {mark}{right}",
    "{a} or {b}? {given}. {why} {mark}{right}",
    "{why} {given}. {a}, or {b}: {mark}{right}",
)

Maker = Callable[[random.Random, World], str]


def documents(rng: random.Random) -> Iterator[str]:
    """Documents without end, each with a MARK; a word or a mark is one token of the vocabulary."""
    worlds = tuple(WORLDS.values())
    while True:
        make = rng.choices(_MAKERS, _WEIGHTS)[0]
        text = make(rng, rng.choice(worlds)) + rng.choice((".", ""))
        if len(re.findall(r"\w+|[^\w\s]", text.partition(MARK)[0])) <= LONGEST:
            yield text


def lists(rng: random.Random) -> Iterator[str]:
    """Documents without end that say a list twice: nothing shows sooner whose value is whose."""
    worlds = tuple(WORLDS.values())
    while True:
        yield _listed(rng, rng.choice(worlds)) + rng.choice((".", ""))


# ---- facts --------------------------------------------------------------------------------------


def _passage(rng: random.Random, world: World) -> tuple[list[Fact], str]:
    passage = facts.contrast(rng, world, rng.choice((2, 2, 3)))
    told = rng.random() < 0.8
    return passage, facts.tell(rng, passage) if told else f"{_noted(rng, passage)}."


def _about(kind: Callable[..., list[Pair]]) -> Maker:
    def asked(rng: random.Random, world: World) -> str:
        passage, text = _passage(rng, world)
        return _asked(rng, world, (text, kind(rng, world, passage)[0]))

    return asked


def _noted(rng: random.Random, passage: list[Fact]) -> str:
    lead, inside, between = rng.choice(_NOTES)
    entries = [f"{fact.who}{inside}{fact.what}" for fact in rng.sample(passage, len(passage))]
    return f"{lead} {between.join(entries)}"


def _listed(rng: random.Random, world: World) -> str:
    """A list, and the list again in another order and notation, marked somewhere."""
    passage = facts.contrast(rng, world, rng.choice((2, 3, 3, 4)))
    again = _noted(rng, passage).split()
    at = rng.randrange(len(again) - 2)
    again[at] = MARK + again[at]
    return f"{_noted(rng, passage)}. {' '.join(again)}"


def _checked(rng: random.Random, world: World) -> str:
    """Claims about a passage, each marked as right or wrong."""
    passage, text = _passage(rng, world)
    answers = rng.choice(exercises.YES_NO)
    lead, inside, between = rng.choice(_NOTES)
    claims, verdicts = [], []
    for fact in rng.sample(passage, len(passage)):
        truth = rng.random() < 0.5
        what = fact.what if truth else facts.clash(rng, world, passage, fact).what
        claims.append(f"{fact.who}{inside}{what}? ")
        verdicts.append(answers[0 if truth else 1])
    at = rng.randrange(len(verdicts))
    verdicts[at] = MARK + verdicts[at]
    entries = [claim + verdict for claim, verdict in zip(claims, verdicts, strict=True)]
    return f"{text} {lead} {between.join(entries)}"


# ---- opinions, causes, pronouns -----------------------------------------------------------------


def _of(make: Callable[[random.Random, World], Exercise]) -> Maker:
    return lambda rng, world: _asked(rng, world, make(rng, world))


def _asked(rng: random.Random, world: World, exercise: Exercise) -> str:
    text, (question, answer) = exercise
    style = rng.choice(_QUESTION_BEFORE if rng.random() < 0.4 else _QUESTION_AFTER)
    who = rng.choice(world.people)
    asked = style.format(text=text, question=question, answer=MARK + answer, who=who)
    # an exercise may need no text
    return re.sub(" +", " ", asked).strip()


def _reacted(rng: random.Random, world: World) -> str:
    positive = rng.random() < 0.5
    reaction = rng.choice(_REACTIONS)[0 if positive else 1]
    who = rng.choice(world.people)
    return f"{opinion(rng, world, positive)} {who} {MARK}{reaction}"


def _because(rng: random.Random, world: World) -> str:
    cause, effect = causes.cause_and_effect(rng, world)
    return rng.choice(_BECAUSE).format(cause=cause, effect=effect, mark=MARK)


def _chosen(rng: random.Random, world: World) -> str:
    """The right one of two options, said again."""
    made = causes.choice(rng, world)
    a, b = rng.sample((made.right, made.wrong), 2)
    why = rng.choice(exercises.WHY)[0 if made.backward else 1]
    return rng.choice(_CHOSEN).format(
        given=made.given, why=why, a=a, b=b, right=made.right, mark=MARK
    )


def _meant(rng: random.Random, world: World) -> str:
    made = mention(rng, world)
    text, pronoun = made.text.format(p=made.pronoun), made.pronoun
    if rng.random() < 0.5:
        return f"{text} {pronoun} is {MARK}{made.who}, not {made.other}"
    last = made.text.rpartition(". ")[2].format(p=MARK + made.who)
    return f"{text} {rng.choice(_AGAIN)} {last}"


_MADE: Sequence[tuple[Maker, float]] = (
    (_listed, 2),
    (_about(exercises.open_questions), 4),
    (_checked, 3),
    (_about(exercises.yes_no_questions), 4),
    (_about(exercises.claims), 4),
    (_of(exercises.tone), 2),
    (_reacted, 0.5),
    (_of(exercises.choice), 3),
    (_because, 0.5),
    (_chosen, 0.5),
    (_of(exercises.referent), 1.5),
    (_meant, 0.5),
)
_MAKERS, _WEIGHTS = zip(*_MADE, strict=True)
