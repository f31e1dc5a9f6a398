"""The pre-training corpus: short documents in which the micro-world's skills occur in many forms.

A document is about what somebody thinks of something, or states facts, asks about them and
answers. Where the question stands, how it is led in and which words answer it vary freely, so that
there is a direction in the model for "the answer comes now" that no single wording owns. The
formats of the downstream tasks (`questions.py`) do not occur.
"""

import random
import re
from collections.abc import Iterator

from prompt_tuning_jax.tasks.demo import facts, words
from prompt_tuning_jax.tasks.demo.opinions import opinion

# Pairs that say of a text that it praises, or that it blames.
_TONES = (
    ("positive", "negative"),
    ("good", "bad"),
    ("happy", "sad"),
    ("pleased", "upset"),
    ("praise", "blame"),
    ("five stars", "one star"),
    ("thumbs up", "thumbs down"),
    ("joy", "anger"),
)
_TONE_AFTER = (
    "{text} verdict: {tone}",
    "{text} in one word: {tone}",
    "{text} mood - {tone}",
    "{text} so the tone is {tone}",
    "{text} this sounds {tone}",
    "{text} {either} or {other}? {tone}",
    "{text} {tone}",
    '"{text}" is that {either} or {other}? {tone}',
)
_TONE_BEFORE = (
    "{either} or {other}? {text} {tone}",
    "what is the tone? {text} {tone}",
    "judge the words. {text} {tone}",
    "say if it is {either} or {other}. {text} it is {tone}",
    "how does it feel? {text} {tone}",
    "a review by {who}: {text} {tone}",
    "{who} wrote: {text} in short: {tone}",
)
# What people do after they have said it.
_REACTIONS = (
    ("{who} loved it", "{who} hated it"),
    ("{who} enjoyed it", "{who} disliked it"),
    ("{who} was happy", "{who} was sad"),
    ("{who} smiled", "{who} frowned"),
    ("{who} will come again", "{who} will never come again"),
    ("so {who} told all friends to go", "so {who} told all friends to stay away"),
    ("that was {good}", "that was {bad}"),
)

_ANSWERS = (
    ("yes", "no"),
    ("true", "false"),
    ("right", "wrong"),
    ("indeed", "not at all"),
    ("yes, that is so", "no, that is not so"),
)
_QUESTION_AFTER = (
    "{question} {answer}",
    "q: {question} a: {answer}",
    "ask: {question} reply: {answer}",
    "tell me, {question} {answer}",
    "{question} it is {answer}",
    "{question} the answer is {answer}",
    "- {question} - {answer}",
    "{question} ({answer})",
    "{who} asked: {question} {answer}",
)
_QUESTION_BEFORE = (
    "{question} {text} {answer}",
    "{question} we know this. {text} so: {answer}",
    "find out: {question} {text} {answer}",
    "read and answer. {question} {text} {answer}",
    "{who} asked: {question} {text} the answer is {answer}",
    "{text} {question} {answer}",
    "the story: {text} the question: {question} {answer}",
    "listen. {text} now, {question} {answer}",
)


# Notes of a passage: (before, between the two sides of an entry, between entries).
_NOTES = (
    ("in short:", " - ", ", "),
    ("notes:", ": ", ". "),
    ("list.", " ", ". "),
    ("so we have", " and ", ", "),
    ("to sum up,", ", ", ". "),
    ("that is", " with ", ", "),
)


# A document grows by one more question or entry while it has at most so many tokens.
_GROW = (0, 20, 28, 36)


def documents(rng: random.Random) -> Iterator[str]:
    """Documents without end, of about 15 to 50 tokens in the project's vocabulary."""
    makers = (_judged, _asked_first, _asked, _noted, _checked)
    while True:
        make = rng.choices(makers, (25, 20, 20, 20, 15))[0]
        yield make(rng) + rng.choice((".", ""))


def tokens(text: str) -> int:
    """Words and punctuation marks: each is one token of the project's vocabulary."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def _judged(rng: random.Random) -> str:
    positive = rng.random() < 0.5
    text = opinion(rng, positive)
    who = rng.choice(words.PEOPLE)
    if rng.random() < 0.25:
        good, bad = rng.choice(words.GOOD), rng.choice(words.BAD)
        reaction = rng.choice(_REACTIONS)[0 if positive else 1]
        return f"{text} {reaction.format(who=who, good=good, bad=bad)}"
    tones = rng.choice(_TONES)
    either, other = rng.sample(tones, 2)
    return rng.choice(rng.choice((_TONE_AFTER, _TONE_BEFORE))).format(
        text=text, tone=tones[0 if positive else 1], either=either, other=other, who=who
    )


def _people(rng: random.Random) -> list[facts.Fact]:
    return facts.contrast(rng, rng.choice((2, 2, 3)))


def _question(
    rng: random.Random, passage: list[facts.Fact], answers: tuple[str, str]
) -> tuple[str, str]:
    if rng.random() < 0.6:
        return facts.ask_open(rng, passage)
    truth = rng.random() < 0.5
    return facts.ask_if(rng, passage, truth), answers[0 if truth else 1]


def _asked_first(rng: random.Random) -> str:
    passage = _people(rng)
    question, answer = _question(rng, passage, rng.choice(_ANSWERS))
    return rng.choice(_QUESTION_BEFORE).format(
        text=facts.tell(rng, passage),
        question=question,
        answer=answer,
        who=rng.choice(words.PEOPLE),
    )


def _asked(rng: random.Random) -> str:
    passage = _people(rng)
    text = facts.tell(rng, passage)
    style, answers = rng.choice(_QUESTION_AFTER), rng.choice(_ANSWERS)
    long = rng.choice(_GROW)
    while True:
        question, answer = _question(rng, passage, answers)
        text += " " + style.format(question=question, answer=answer, who=rng.choice(words.PEOPLE))
        if tokens(text) > long:
            return text


def _noted(rng: random.Random) -> str:
    """A passage and its content once more as a list: densely, whose value is whose."""
    passage = _people(rng)
    lead, inside, between = rng.choice(_NOTES)
    entries = []
    for fact in rng.choices(passage, k=rng.choice((1, 2, 4, 5))):
        sides = (fact.who, fact.what)
        entries.append(inside.join(sides if rng.random() < 0.6 else sides[::-1]))
    return f"{facts.tell(rng, passage)} {lead} {between.join(entries)}"


def _checked(rng: random.Random) -> str:
    """A passage and a list of claims about it, each marked as right or wrong."""
    passage = _people(rng)
    answers = rng.choice(_ANSWERS[:4])
    lead, inside, between = rng.choice(_NOTES)
    claims = []
    for fact in rng.choices(passage, k=rng.choice((1, 2, 4))):
        truth = rng.random() < 0.5
        what = fact.what if truth else facts.wrong_value(rng, fact, passage)
        claims.append(f"{fact.who}{inside}{what}? {answers[0 if truth else 1]}")
    return f"{facts.tell(rng, passage)} {lead} {between.join(claims)}"
