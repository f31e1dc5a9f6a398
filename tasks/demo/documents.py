"""The pre-training corpus: short documents in which the micro-world's skills occur in many forms.

A document states facts and asks, lists, checks or repeats them; or says what somebody thinks of
something, what came of what, or whom a word means. Where the question stands, how it is led in and
which words answer it vary freely, so that there is a direction in the model for "the answer comes
now" that no single wording owns. The formats of the downstream tasks (`questions.py`) do not occur.

What the rest of a document tells is marked as in "anna - mill. anna lives in the[ mill]." Both
objectives of pre-training go by the marks (`salient.py`). A small model learns next to nothing from
places chosen at random: most of what it then has to predict are sentences that nothing foretells,
and the few words that something does foretell drown in their noise.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping

from prompt_tuning_jax.tasks.demo import causes, exercises, facts
from prompt_tuning_jax.tasks.demo.exercises import Exercise
from prompt_tuning_jax.tasks.demo.facts import CLASHES, FOLLOWS, UNSAID, Fact
from prompt_tuning_jax.tasks.demo.opinions import opinion
from prompt_tuning_jax.tasks.demo.pronouns import mention
from prompt_tuning_jax.tasks.demo.words import WORLDS, World
from prompt_tuning_jax.tasks.salient import OPEN

# Words and punctuation marks in a document, at most.
LONGEST = 44

# What stands before a question, between it and its answer, and after the answer.
_ASKED = (
    ("", " {}", ""),
    ("", " {}", ""),
    ("q: ", " a: {}", ""),
    ("ask: ", " reply: {}", ""),
    ("- ", " - {}", ""),
    ("", " ( {}", " )"),
    ("{who} asked: ", " {}", ""),
)
# The same for a question before its text.
_ASKED_BEFORE = (
    "{question} {text}",
    "{question} we know this. {text}",
    "find out: {question} {text}",
    "read and answer. {question} {text}",
    "{who} asked: {question} {text}",
)
# What leads in an answer. The text itself never does: what follows it need not be the answer.
_LEADS = ("it is", "the answer is", "so:", "hence", "answer:")
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
    "{cause}, so [{effect}].",
    "{effect} because [{cause}].",
    "{cause}. then [{effect}].",
    "{effect}. why? [{cause}].",
    "{effect}, for [{cause}].",
)

Maker = Callable[[random.Random, World], str]


def documents(rng: random.Random) -> Iterator[str]:
    """Documents of all kinds without end."""
    return _made(rng, _ALL)


def lists(rng: random.Random) -> Iterator[str]:
    """Documents without end that say part of a list again, or ask what is in it: the first lesson.

    Nothing shows sooner whose value is whose.
    """
    return _made(rng, _LISTS)


def _made(rng: random.Random, weights: Mapping[Maker, float]) -> Iterator[str]:
    worlds = tuple(WORLDS.values())
    makers, shares = zip(*weights.items(), strict=True)
    while True:
        make = rng.choices(makers, shares)[0]
        text = re.sub(" +", " ", make(rng, rng.choice(worlds))).strip()
        if len(re.findall(r"\w+|[^\w\s\[\]]", text)) <= LONGEST:
            # the space belongs to the word: a token of the vocabulary
            yield text.replace(f" {OPEN}", f"{OPEN} ")


# ---- facts --------------------------------------------------------------------------------------


def _recited(rng: random.Random, world: World) -> str:
    """A list, and some of it again: the whole would let what is left over be guessed."""
    passage = facts.contrast(rng, world, rng.choice((2, 3, 4)))
    again = rng.sample(passage, rng.choice((1, 2)) if len(passage) > 2 else 1)
    return f"{_noted(rng, passage)} {_noted(rng, again, marked=True)}"


def _told(rng: random.Random, world: World) -> str:
    passage = facts.contrast(rng, world, rng.choice((2, 3)))
    again = rng.sample(passage, rng.choice((1, 2)))
    turned = rng.random() < 0.3
    return f"{facts.tell(rng, passage)} {_noted(rng, again, marked=True, turned=turned)}"


def _members(rng: random.Random, world: World) -> str:
    """Which words are in a list."""
    values = getattr(world, rng.choice(facts.RELATIONS).values)
    there = rng.sample(values, rng.choice((1, 2, 3)))
    absent = rng.sample([value for value in values if value not in there], 2)
    answers = rng.choice(exercises.YES_NO)
    asked = [(v, answers[0]) for v in there[:2]] + [(v, answers[1]) for v in absent]
    rng.shuffle(asked)
    lead, _, between = rng.choice(_NOTES)
    questions = " ".join(f"{v}? [{a}]" for v, a in asked[: rng.choice((2, 3, 4))])
    listed = between.join(rng.sample(there, len(there)))
    return f"{_named(rng, answers)} {lead} {listed}. {questions}"


def _checked_list(rng: random.Random, world: World) -> str:
    passage = facts.contrast(rng, world, rng.choice((2, 2, 3)))
    return _checked(rng, world, passage, _noted(rng, passage), rng.choice(exercises.YES_NO))


def _checked_passage(rng: random.Random, world: World) -> str:
    kinds = rng.choice((exercises.YES_NO, exercises.YES_NO, exercises.THREE_WAY))
    return _checked(rng, world, *_passage(rng, world), rng.choice(kinds))


def _checked(
    rng: random.Random, world: World, passage: list[Fact], text: str, answers: tuple[str, ...]
) -> str:
    """Entries of a list, each marked as right or wrong, or as one of which nothing is said."""
    lead, inside, between = rng.choice(_NOTES)
    made = facts.claims(rng, world, passage, (FOLLOWS, CLASHES, UNSAID)[: len(answers)], 3)
    entries = between.join(f"{c.who}{inside}{c.what}? [{answers[v]}]" for c, v in made)
    return f"{_named(rng, answers)} {text} {lead} {entries}"


def _passage(rng: random.Random, world: World) -> tuple[list[Fact], str]:
    passage = facts.contrast(rng, world, rng.choice((2, 2, 3)))
    told = rng.random() < 0.8
    return passage, facts.tell(rng, passage) if told else _noted(rng, passage)


def _noted(
    rng: random.Random, passage: list[Fact], marked: bool = False, turned: bool = False
) -> str:
    """The passage as a list; `marked` what each entry ends with, `turned` with the values first."""
    lead, inside, between = rng.choice(_NOTES)
    form = "{}" + inside + ("[{}]" if marked else "{}")
    pairs = [(f.what, f.who) if turned else (f.who, f.what) for f in passage]
    return f"{lead} {between.join(form.format(*pair) for pair in rng.sample(pairs, len(pairs)))}."


def _open(rng: random.Random, world: World) -> str:
    return _asked(rng, world, exercises.open_questions(rng, *_passage(rng, world)))


def _yes_no(rng: random.Random, world: World) -> str:
    return _asked(rng, world, exercises.yes_no_questions(rng, world, *_passage(rng, world)))


def _claims(rng: random.Random, world: World) -> str:
    return _asked(rng, world, exercises.claims(rng, world, *_passage(rng, world)))


# ---- opinions, causes, pronouns -----------------------------------------------------------------


def _reacted(rng: random.Random, world: World) -> str:
    side = rng.randrange(2)
    reaction = rng.choice(_REACTIONS)[side]
    return f"{opinion(rng, world, side == 0)} {rng.choice(world.people)} [{reaction}]"


def _because(rng: random.Random, world: World) -> str:
    cause, effect = causes.cause_and_effect(rng, world)
    return rng.choice(_BECAUSE).format(cause=cause, effect=effect)


def _meant(rng: random.Random, world: World) -> str:
    made = mention(rng, world)
    text = made.text.format(p=made.pronoun)
    if rng.random() < 0.5:
        return f"{text} {made.pronoun} is [{made.who}], not [{made.other}]"
    return f"{text} {rng.choice(_AGAIN)} {made.text.rpartition('. ')[2].format(p=f'[{made.who}]')}"


def _about(exercise: Callable[[random.Random, World], Exercise]) -> Maker:
    return lambda rng, world: _asked(rng, world, exercise(rng, world))


# ---- questions ----------------------------------------------------------------------------------


def _asked(rng: random.Random, world: World, exercise: Exercise) -> str:
    """The exercise's questions after its text, or one of them before it."""
    named, text = _named(rng, exercise.answers), exercise.text
    lead = f"{rng.choice(_LEADS)} " if rng.random() < 0.4 else ""
    if text and rng.random() < 0.35:
        (question, answer), lead = exercise.pairs[0], lead or f"{rng.choice(_LEADS)} "
        style = rng.choice(_ASKED_BEFORE)
        asked = style.format(question=question, text=text, who=rng.choice(world.people))
        return f"{named} {asked} {_answer(rng, lead, answer)}"
    before, between, after = rng.choice(_ASKED)
    before = before.format(who=rng.choice(world.people))
    asked = " ".join(
        before + question + between.format(_answer(rng, lead, answer)) + after
        for question, answer in exercise.pairs
    )
    return f"{named} {text} {asked}" if rng.random() < 0.5 else f"{text} {named} {asked}"


def _answer(rng: random.Random, lead: str, answer: str) -> str:
    """The answer, marked, or its lead-in with it."""
    return f"[{lead}{answer}]" if rng.random() < 0.5 else f"{lead}[{answer}]"


def _named(rng: random.Random, answers: tuple[str, ...]) -> str:
    """The words that may answer, mostly."""
    if not answers or rng.random() < 0.3:
        return ""
    *others, last = rng.sample(answers, len(answers))
    return f"{', '.join(others)} or {last}?"


_LISTS: Mapping[Maker, float] = {_recited: 1, _members: 1, _checked_list: 1}
_ALL: Mapping[Maker, float] = {
    _recited: 0.3,
    _members: 0.3,
    _checked_list: 0.4,
    _told: 1,
    _checked_passage: 1,
    _open: 2,
    _yes_no: 2,
    _claims: 3,
    _about(exercises.tones): 2,
    _reacted: 0.3,
    _because: 0.7,
    _about(exercises.links): 2,
    _about(exercises.choice): 2.5,
    _about(exercises.chosen): 0.5,
    _about(exercises.referent): 1,
    _meant: 0.5,
}
