"""Exercises of the corpus: what may be asked about a text, in many wordings, and what answers it.

Which words answer varies from exercise to exercise ("yes" or "indeed", "positive" or "happy"), so
that no single wording owns the skill.
"""

import random
from collections.abc import Callable

from prompt_tuning_jax.tasks.demo import causes, facts
from prompt_tuning_jax.tasks.demo.facts import Fact
from prompt_tuning_jax.tasks.demo.opinions import opinion
from prompt_tuning_jax.tasks.demo.pronouns import mention
from prompt_tuning_jax.tasks.demo.words import World

# A question and its answer.
Pair = tuple[str, str]
# A text, "" where the question needs none, and a question about it.
Exercise = tuple[str, Pair]

# Of a text that praises, and of one that blames.
TONES = (
    ("positive", "negative"),
    ("good", "bad"),
    ("happy", "sad"),
    ("pleased", "upset"),
    ("praise", "blame"),
    ("joy", "anger"),
    ("up", "down"),
)
YES_NO = (("yes", "no"), ("true", "false"), ("right", "wrong"), ("indeed", "never"))
# Of a claim that follows, and of one that does not.
TWO_WAY = (
    ("entailment", "not_entailment"),
    ("follows", "fails"),
    ("proven", "unproven"),
    ("sure", "unsure"),
)
# Of a claim that follows, of one that clashes, and of one of which nothing is said.
THREE_WAY = (
    ("entailment", "contradiction", "neutral"),
    ("true", "false", "unknown"),
    ("yes", "no", "maybe"),
    ("agrees", "clashes", "unsaid"),
)
# What the options of a choice are called.
MARKS = (
    ("choice1", "choice2"),
    ("first", "second"),
    ("one", "two"),
    ("left", "right"),
    ("here", "there"),
)
# Ask for a cause, ask for an effect.
WHY = (
    ("why?", "what then?"),
    ("reason?", "result?"),
    ("cause?", "effect?"),
    ("what came before?", "what came after?"),
)
_OPTIONS = (
    "{given}. {why} {mark}: {option}. {other_mark}: {other}.",
    "{given}. {why} {mark} {option}, {other_mark} {other}.",
    "{mark}: {option}. {other_mark}: {other}. {given}. {why}",
    "{mark} {option}, {other_mark} {other}. {why} {given}.",
)
_MARKED = ("{}", "{}", "({})", '"{}"', "/{}/")


def open_questions(rng: random.Random, world: World, passage: list[Fact]) -> list[Pair]:
    """Questions that a word of the passage answers."""
    return _different(lambda: facts.ask_open(rng, passage))


def yes_no_questions(rng: random.Random, world: World, passage: list[Fact]) -> list[Pair]:
    """Questions that one of two words answers, the same two for all."""
    answers = rng.choice(YES_NO)

    def pair() -> Pair:
        truth = rng.random() < 0.5
        return facts.ask_if(rng, world, passage, truth), answers[0 if truth else 1]

    return _different(pair)


def claims(rng: random.Random, world: World, passage: list[Fact]) -> list[Pair]:
    """Sentences, and whether they follow from the passage: in two or three classes."""
    answers = rng.choice(rng.choice((TWO_WAY, THREE_WAY, THREE_WAY)))
    # as many of each class
    verdicts = [(0, 0, 1, 2), (0, 1, 2)][len(answers) - 2]

    def pair() -> Pair:
        verdict = rng.choice(verdicts)
        claimed = facts.claim(rng, world, passage, verdict)
        return facts.state(rng, claimed), answers[min(verdict, len(answers) - 1)]

    return _different(pair)


def tone(rng: random.Random, world: World) -> Exercise:
    """Whether a text praises or blames."""
    positive = rng.random() < 0.5
    names = rng.choice(TONES)
    options = " or ".join(rng.sample(names, 2))
    question = rng.choice(
        (f"{options}?", f"{options}?", "what is the tone?", "how does it feel?", "the mood?")
    )
    return opinion(rng, world, positive), (question, names[0 if positive else 1])


def choice(rng: random.Random, world: World) -> Exercise:
    """Which of two options is the cause, or the effect, of what happened."""
    made = causes.choice(rng, world)
    marks = rng.choice(MARKS)
    first = rng.random() < 0.5
    options = (made.right, made.wrong) if first else (made.wrong, made.right)
    question = rng.choice(_OPTIONS).format(
        given=made.given,
        why=rng.choice(WHY)[0 if made.backward else 1],
        mark=marks[0],
        option=options[0],
        other_mark=marks[1],
        other=options[1],
    )
    return "", (question, marks[0 if first else 1])


def referent(rng: random.Random, world: World) -> Exercise:
    """Whom a pronoun means."""
    made = mention(rng, world)
    marked = rng.choice(_MARKED)
    questions = ["who is {p}?", "whom does {p} mean?", "{p} is"]
    if marked != "{}":
        questions = ["who is {p}?", "{p} =", "who is that?", "who is meant?", "name:"]
    question = rng.choice(questions).format(p=made.pronoun)
    return made.text.format(p=marked.format(made.pronoun)), (question, made.who)


def _different(pair: Callable[[], Pair]) -> list[Pair]:
    """Up to four pairs, no question twice: its answer could be copied."""
    return list(dict(pair() for _ in range(6)).items())[:4]
