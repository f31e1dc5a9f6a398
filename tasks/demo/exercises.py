"""Exercises of the corpus: what may be asked about a text, in many wordings, and what answers it.

Which words answer varies from exercise to exercise ("yes" or "indeed", "positive" or "happy"), so
that no single wording owns the skill.
"""

import dataclasses
import random

from prompt_tuning_jax.tasks.demo import causes, facts
from prompt_tuning_jax.tasks.demo.facts import CLASHES, FOLLOWS, UNSAID, Fact
from prompt_tuning_jax.tasks.demo.opinions import opinion
from prompt_tuning_jax.tasks.demo.pronouns import mention
from prompt_tuning_jax.tasks.demo.words import World

# A question and its answer.
Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Exercise:
    """A text and questions about it.

    Attributes:
      text: "" where the questions need none.
      pairs: questions and answers, at least one.
      answers: the words of which one answers each question; empty where the text gives the answer.
    """

    text: str
    pairs: list[Pair]
    answers: tuple[str, ...] = ()


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
OPTIONS = (
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
_CHOICES = (
    "{given}. {why} {name}: {option}. {other_name}: {other}.",
    "{given}. {why} {name} {option}, {other_name} {other}.",
    "{name}: {option}. {other_name}: {other}. {given}. {why}",
    "{name} {option}, {other_name} {other}. {why} {given}.",
)
_TONE_QUESTIONS = ("", "", "what is the tone?", "how does it feel?", "the mood?")
_MARKED = ("{}", "{}", "({})", '"{}"', "/{}/")


def open_questions(rng: random.Random, passage: list[Fact], text: str) -> Exercise:
    """Up to two questions that words of the passage answer, no answer twice: it could be copied."""
    asked = (facts.ask_open(rng, passage) for _ in range(4))
    pairs = {answer: (question, answer) for question, answer in asked}
    return Exercise(text, list(pairs.values())[:2])


def yes_no_questions(rng: random.Random, world: World, passage: list[Fact], text: str) -> Exercise:
    """Up to two questions that one of two words answers."""
    answers = rng.choice(YES_NO)
    made = facts.claims(rng, world, passage, (FOLLOWS, CLASHES), 2)
    return Exercise(text, [(facts.ask_if(rng, claim), answers[v]) for claim, v in made], answers)


def claims(rng: random.Random, world: World, passage: list[Fact], text: str) -> Exercise:
    """Up to two sentences, and whether they follow from the passage: in two or three classes."""
    answers = rng.choice(rng.choice((TWO_WAY, THREE_WAY, THREE_WAY)))
    # as many of each class
    three = (FOLLOWS, CLASHES, UNSAID)
    made = facts.claims(rng, world, passage, three if len(answers) == 3 else (FOLLOWS, *three), 2)
    last = len(answers) - 1
    return Exercise(
        text, [(facts.state(rng, claim), answers[min(v, last)]) for claim, v in made], answers
    )


def tones(rng: random.Random, world: World) -> Exercise:
    """Whether a text praises or blames, or each of two texts."""
    answers, question = rng.choice(TONES), rng.choice(_TONE_QUESTIONS)
    sides = [rng.randrange(2) for _ in range(rng.choice((1, 1, 2)))]
    return Exercise(
        "", [(f"{opinion(rng, world, s == 0)} {question}", answers[s]) for s in sides], answers
    )


def links(rng: random.Random, world: World) -> Exercise:
    """Whether things are the cause, or the effect, of what happened: of three one is."""
    made, answers = causes.choice(rng, world), rng.choice(YES_NO)
    sides = [(made.right, 0), (made.wrong, 1), (made.other, 1)]
    asked = rng.sample(sides, rng.choice((2, 3)))
    pairs = [(f"{named}?", answers[side]) for named, side in asked]
    return Exercise(f"{made.given}. {_why(rng, made)}", pairs, answers)


def choice(rng: random.Random, world: World) -> Exercise:
    """Which of two options is the cause, or the effect, of what happened."""
    made, names, side = causes.choice(rng, world), rng.choice(OPTIONS), rng.randrange(2)
    options = (made.right, made.wrong) if side == 0 else (made.wrong, made.right)
    question = rng.choice(_CHOICES).format(
        given=made.given,
        why=_why(rng, made),
        name=names[0],
        option=options[0],
        other_name=names[1],
        other=options[1],
    )
    return Exercise("", [(question, names[side])])


def chosen(rng: random.Random, world: World) -> Exercise:
    """The right one of two options, said again."""
    made = causes.choice(rng, world)
    a, b = rng.sample((made.right, made.wrong), 2)
    why = _why(rng, made)
    asked = (f"{made.given}. {why} {a} or {b}?", f"{a} or {b}? {made.given}. {why}")
    return Exercise("", [(rng.choice(asked), made.right)])


def referent(rng: random.Random, world: World) -> Exercise:
    """Whom a pronoun means."""
    made = mention(rng, world)
    marked = rng.choice(_MARKED)
    questions = ["who is {p}?", "whom does {p} mean?", "{p} is"]
    if marked != "{}":
        questions = ["who is {p}?", "{p} =", "who is that?", "who is meant?", "name:"]
    question = rng.choice(questions).format(p=made.pronoun)
    return Exercise(made.text.format(p=marked.format(made.pronoun)), [(question, made.who)])


def _why(rng: random.Random, made: causes.Choice) -> str:
    return rng.choice(WHY)[0 if made.backward else 1]
