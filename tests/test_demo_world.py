"""The built-in micro-world: the same at every call, disjoint, balanced, answerable, readable."""

import itertools
import json
import pathlib
import random
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_tuning_jax import backbones, tasks
from prompt_tuning_jax.tasks.demo import DOWNSTREAM as DOWNSTREAM_TASKS
from prompt_tuning_jax.tasks.demo import causes, exercises, facts, questions, vocabulary, words
from prompt_tuning_jax.tasks.demo.documents import LONGEST, documents, lists
from prompt_tuning_jax.tasks.demo.opinions import opinion
from prompt_tuning_jax.tasks.demo.pronouns import mention
from prompt_tuning_jax.tasks.salient import CLOSE, OPEN, unmarked
from prompt_tuning_jax.vocabulary import Vocabulary

DOWNSTREAM = tuple(task.name for task in DOWNSTREAM_TASKS)
LABELLED = tuple(task.name for task in DOWNSTREAM_TASKS if task.label_words)
worlds = st.sampled_from(tuple(words.WORLDS.values()))
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def corpus():
    return list(itertools.islice(documents(random.Random("test")), 5000))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "demo.model"
    path.write_bytes(vocabulary.train())
    return Vocabulary(str(path), extra_ids=vocabulary.EXTRA_IDS)


def test_another_process_makes_the_same_examples_and_documents():
    script = (
        "import itertools, json, random\n"
        "from prompt_tuning_jax import tasks\n"
        "from prompt_tuning_jax.tasks.demo.documents import documents\n"
        f"made = [tasks.get(name).examples('validation') for name in {DOWNSTREAM}]\n"
        "made.append(list(itertools.islice(documents(random.Random('test')), 50)))\n"
        "print(json.dumps(made))"
    )
    # hashes of strings differ from process to process: no set's order may reach the text
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(json.loads(runs[0].stdout)[-1]) == 50


@pytest.mark.parametrize("name", DOWNSTREAM)
def test_splits_are_disjoint_by_content(name):
    seen: set = set()
    for split in SPLITS:
        examples = tasks.get(name).examples(split)
        assert len(examples) == questions.SIZES[split]
        # for questions, the passage's sentences: other wordings of a question make no new example
        contents = {_content(example["inputs"]) for example in examples}
        assert len(contents) == len(examples)
        assert not seen & contents
        seen |= contents


def _content(inputs):
    """The passage's sentences of a question; the text itself where there is no passage."""
    found = re.search(r"(?:context|premise|passage): (.*?)(?: question: .*)?$", inputs)
    return frozenset(found[1].split(". ")) if found and "choice1" not in inputs else inputs


def test_seven_kinds_of_task_in_two_worlds():
    assert len(DOWNSTREAM) == 14
    for name in DOWNSTREAM[::2]:
        town, sea = (_words_of(tasks.get(n).examples("test")) for n in (name, f"{name}_sea"))
        # each world's people and topics are its own
        for field in ("people", "subjects", "good", "bad", "places", "foods"):
            town_words, sea_words = (set(getattr(w, field)) for w in words.WORLDS.values())
            assert not town & sea_words
            assert not sea & town_words


def _words_of(examples):
    return {word for e in examples for word in re.findall(r"\w+", e["inputs"])}


@pytest.mark.parametrize(("name", "split"), list(itertools.product(LABELLED, SPLITS)))
def test_labels_are_balanced(name, split):
    task = tasks.get(name)
    counts = [
        sum(example["targets"] == word for example in task.examples(split))
        for word in task.label_words
    ]
    assert sum(counts) == questions.SIZES[split]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("name", ["demo_qa", "demo_qa_sea", "demo_wsc", "demo_wsc_sea"])
def test_an_answer_is_a_word_of_the_text(name):
    for example in tasks.get(name).examples("train"):
        text = re.split("context: |text: ", example["inputs"])[-1]
        assert example["targets"] in re.findall(r"\w+", text)
        assert example["answers"] == [example["targets"]]


@pytest.mark.parametrize("name", DOWNSTREAM)
def test_the_twin_is_the_task_without_its_first_word(name):
    plain = tasks.get(name).examples("test")
    bare = tasks.get(f"taskless_{name}").examples("test")
    assert [e["inputs"].split(" ", 1)[1] for e in plain] == [e["inputs"] for e in bare]


@pytest.mark.parametrize("name", DOWNSTREAM)
def test_the_corpus_has_no_downstream_format(corpus, name):
    inputs = tasks.get(name).examples("validation")[0]["inputs"]
    fields = re.findall(r"\w+:", inputs)
    assert fields
    assert not [text for text in corpus if all(field in text.split() for field in fields)]


def test_the_corpus_is_varied_and_short(corpus, built):
    assert len(set(corpus)) > 0.98 * len(corpus)
    pieces = [len(built.encode(unmarked(text))) for text in corpus]
    # a word in quotation marks is more pieces than LONGEST counts
    assert max(pieces) <= LONGEST + 4
    assert 25 < sum(pieces) / len(pieces) < 30
    marks = [text.count(OPEN) for text in corpus]
    assert min(marks) == 1 and max(marks) == 4


@pytest.mark.parametrize("name", sorted(path.name for path in backbones.PACKAGED.iterdir()))
def test_the_packaged_backbones_have_the_vocabulary_that_is_made(built, name):
    packaged = Vocabulary(*backbones.find(f"builtin://{name}").vocabulary)
    assert packaged.content == built.content
    assert packaged.extra_ids == built.extra_ids


def test_a_mark_is_one_piece_wherever_it_stands(corpus, built):
    opening, closing = built.encode(f"a{OPEN}")[-1], built.encode(f"a{CLOSE}")[-1]
    for text in corpus:
        ids = built.encode(text)
        assert ids.count(opening) == ids.count(closing) == text.count(OPEN) == text.count(CLOSE)
        # the marks apart, the pieces are those of the text without them
        assert [i for i in ids if i not in (opening, closing)] == built.encode(unmarked(text))


def test_what_is_marked_can_be_told(corpus):
    answers = {
        word
        for group in (
            *exercises.TONES,
            *exercises.YES_NO,
            *exercises.TWO_WAY,
            *exercises.THREE_WAY,
            *exercises.OPTIONS,
        )
        for word in group
    }
    reactions = {"loved it", "hated it", "enjoyed it", "disliked it", "smiled", "frowned"}
    reactions |= {"will come again", "will never come again"}
    happened = {
        side.split()[-1] for w in words.WORLDS.values() for pair in w.causes for side in pair
    }
    kinds = {"answer": 0, "happened": 0, "reaction": 0, "copied": 0}
    for text in corpus:
        rest = re.sub(r"\[.*?\]", "", text).split()
        for span in re.findall(r"\[(.*?)\]", text):
            last = span.split()[-1]
            kind = (
                "reaction"
                if span.strip() in reactions
                else "answer"
                if last in answers
                else "happened"
                if last in happened
                else "copied"
            )
            kinds[kind] += 1
            # a person or a value stands elsewhere in the document
            assert kind != "copied" or last in {re.sub(r"\W", "", w) for w in rest}, text
    assert min(kinds.values()) > 50


def test_a_list_is_said_twice_or_asked_about():
    values = {v for world in words.WORLDS.values() for v in _values(world)}
    people = {p for w in words.WORLDS.values() for p in w.people}
    kinds = {"twice": 0, "members": 0, "checked": 0}
    verdicts = {word: v == 0 for pair in exercises.YES_NO for v, word in enumerate(pair)}
    for text in itertools.islice(lists(random.Random("lists")), 900):
        found = [w for w in re.findall(r"\w+", text) if w in people | values | set(verdicts)]
        # "yes or no?" ahead
        found = found[2:] if found[0] in verdicts and found[1] in verdicts else found
        if not set(found) & people:
            kinds["members"] += 1
            asked = re.findall(r"(\w+)\?\[ (\w+)\]", text)
            first = text.partition("?[")[0].rpartition(" ")[0]
            there = set(re.findall(r"\w+", first)) & values
            assert all(verdicts[verdict] == (value in there) for value, verdict in asked)
        elif not set(found) & set(verdicts):
            kinds["twice"] += 1
            pairs = [tuple(found[i : i + 2]) for i in range(0, len(found), 2)]
            again = text.count(OPEN)
            # in part: what is left over cannot be guessed
            assert set(pairs[-again:]) < set(pairs[:-again])
            assert len(set(pairs[:-again])) == len(pairs) - again
        else:
            kinds["checked"] += 1
            at = next(i for i, w in enumerate(found) if w in verdicts) - 2
            pairs = {tuple(found[i : i + 2]) for i in range(0, at, 2)}
            for i in range(at, len(found), 3):
                assert verdicts[found[i + 2]] == (tuple(found[i : i + 2]) in pairs)
    assert min(kinds.values()) > 200


def _values(world):
    return [v for relation in facts.RELATIONS for v in getattr(world, relation.values)]


@pytest.mark.parametrize("task", ["demo_salient_spans", "demo_prefix_lm"])
def test_objectives_get_documents_with_their_marks(task):
    examples = tasks.get(task).examples("validation")
    assert len(examples) == 1000
    assert all(OPEN in e["targets"] and not e["inputs"] for e in examples)
    plain = tasks.get("demo_span_corruption").examples("validation")
    assert [e["targets"] for e in plain] == [unmarked(e["targets"]) for e in examples]


@given(seed=st.integers(0, 10**6), world=worlds, people=st.integers(2, 3))
def test_a_passage_gives_each_person_another_value(seed, world, people):
    passage = facts.contrast(random.Random(seed), world, people)
    assert len({fact.who for fact in passage}) == len({fact.what for fact in passage}) == people
    assert len({(fact.relation, fact.about) for fact in passage}) == 1


@given(seed=st.integers(0, 10**6), world=worlds, truth=st.booleans())
def test_a_yes_no_question_names_a_persons_value_just_if_it_is_true(seed, world, truth):
    rng = random.Random(seed)
    passage = facts.contrast(rng, world, 2)
    claimed = facts.claim(rng, world, passage, facts.FOLLOWS if truth else facts.CLASHES)
    question = set(re.findall(r"\w+", facts.ask_if(rng, claimed)))
    (asked,) = [fact for fact in passage if fact.who in question]
    (named,) = question & set(getattr(world, asked.relation.values))
    assert (named == asked.what) == truth


@given(seed=st.integers(0, 10**6), world=worlds, most=st.integers(1, 3))
def test_claims_share_no_person_and_no_value(seed, world, most):
    rng = random.Random(seed)
    passage = facts.contrast(rng, world, 3)
    made = facts.claims(rng, world, passage, (facts.FOLLOWS, facts.CLASHES), most)
    assert 1 <= len(made) <= most
    named = [word for claim, _ in made for word in (claim.who, claim.what)]
    assert len(set(named)) == len(named)
    assert all((claim in passage) == (verdict == facts.FOLLOWS) for claim, verdict in made)


@given(seed=st.integers(0, 10**6), world=worlds, verdict=st.integers(0, 2))
def test_a_claim_follows_clashes_or_is_not_said(seed, world, verdict):
    rng = random.Random(seed)
    passage = facts.contrast(rng, world, 2)
    made = facts.claim(rng, world, passage, verdict)
    said = {(f.relation, f.who): f.what for f in passage}.get((made.relation, made.who))
    assert verdict == (
        facts.UNSAID if said is None else facts.FOLLOWS if said == made.what else facts.CLASHES
    )


@given(seed=st.integers(0, 10**6), world=worlds, positive=st.booleans())
def test_an_opinion_has_words_of_one_side(seed, world, positive):
    text = opinion(random.Random(seed), world, positive)
    found = set(re.findall(r"\w+", text))
    good, bad = found & set(world.good), found & set(world.bad)
    assert bool(good) != bool(bad)
    denied = re.search(r"\b(not|never|nothing|far from)\b", text) is not None
    assert bool(good) == (positive != denied)


def _linked(world, backward, given, named):
    """Whether `named` is the cause of `given`, where `backward`, or else its effect."""
    before, after = (named, given) if backward else (given, named)
    # whoever it was that did it
    causes = ((re.escape(c).replace(r"\{who\}", r"(\w+)"), e) for c, e in world.causes)
    return any(re.fullmatch(cause, before) and effect == after for cause, effect in causes)


@given(seed=st.integers(0, 10**6), world=worlds)
def test_of_three_options_one_is_the_cause_or_the_effect(seed, world):
    made = causes.choice(random.Random(seed), world)
    for named, right in ((made.right, True), (made.wrong, False), (made.other, False)):
        assert _linked(world, made.backward, made.given, named) == right
    assert made.wrong != made.other


@given(seed=st.integers(0, 10**6), world=worlds)
def test_links_are_answered_right(seed, world):
    made = exercises.links(random.Random(seed), world)
    happened, why = made.text.split(". ")
    backward = why in [wording for wording, _ in exercises.WHY]
    assert 2 <= len(made.pairs) <= 3
    assert made.answers in exercises.YES_NO
    for question, answer in made.pairs:
        right = _linked(world, backward, happened, question.removesuffix("?"))
        assert answer == made.answers[0 if right else 1]


@given(seed=st.integers(0, 10**6), world=worlds)
def test_a_pronoun_means_a_person_of_its_sex(seed, world):
    made = mention(random.Random(seed), world)
    group = world.women if made.pronoun == "she" else world.men
    assert made.who in group
    text = made.text.format(p="*")
    assert {made.who, made.other} == set(re.findall(r"\w+", text)) & set(world.people)
    # where both could be meant, only the verb tells
    assert (made.other in group) == ("because" in text)


@given(seed=st.integers(0, 10**6), world=worlds)
def test_exercises_are_answered_by_their_own_words(seed, world):
    rng = random.Random(seed)
    passage = facts.contrast(rng, world, 3)
    for made, tables in (
        (exercises.yes_no_questions(rng, world, passage, ""), (exercises.YES_NO,)),
        (
            exercises.claims(rng, world, passage, ""),
            (exercises.TWO_WAY, exercises.THREE_WAY),
        ),
        (exercises.tones(rng, world), (exercises.TONES,)),
    ):
        assert 1 <= len(made.pairs) <= 2
        assert any(made.answers in table for table in tables)
        assert {answer for _, answer in made.pairs} <= set(made.answers)
    for exercise in (exercises.choice, exercises.chosen):
        ((question, answer),) = exercise(rng, world).pairs
        assert answer in question


@given(seed=st.integers(0, 10**6), world=worlds)
def test_exercises_are_answered_right(seed, world):
    rng = random.Random(seed)
    passage = facts.contrast(rng, world, 3)
    for exercise in (exercises.yes_no_questions, exercises.claims):
        made = exercise(rng, world, passage, "")
        for question, answer in made.pairs:
            said = set(re.findall(r"\w+", question))
            # a person with the value that the passage gives
            follows = any({fact.who, fact.what} <= said for fact in passage)
            assert (answer == made.answers[0]) == follows
    answers = [answer for _, answer in exercises.open_questions(rng, passage, "").pairs]
    assert len(set(answers)) == len(answers)
    assert set(answers) <= {word for fact in passage for word in (fact.who, fact.what)}


def test_words_have_one_meaning_each():
    for world in words.WORLDS.values():
        assert not set(world.good) & set(world.bad)
        values = {v for r in facts.RELATIONS for v in getattr(world, r.values)}
        assert not set(world.people) & values
        assert not set(world.women) & set(world.men)


def test_every_word_is_one_piece_and_every_ascii_text_is_known(built, corpus):
    found = {word for text in corpus for word in re.findall(r"\w+", text)}
    assert [word for word in found if len(built.encode(word)) != 1] == []
    assert built.vocab_size == vocabulary.PIECES + vocabulary.EXTRA_IDS
    for text in ("".join(map(chr, range(33, 127))), 'A Stirring, "funny" café – it\'s 7.5% fun!'):
        ids = built.encode(text)
        assert built.unk_id not in ids
        assert built.decode(ids) == text


def test_the_vocabulary_is_small_and_the_same_when_trained_again(built):
    content = pathlib.Path(built.model_file).read_bytes()
    assert vocabulary.train() == content
    assert len(content) < 50_000
