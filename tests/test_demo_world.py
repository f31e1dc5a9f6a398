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

from prompt_tuning_jax import tasks
from prompt_tuning_jax.tasks.demo import facts, questions, vocabulary, words
from prompt_tuning_jax.tasks.demo.documents import documents
from prompt_tuning_jax.tasks.demo.opinions import opinion
from prompt_tuning_jax.vocabulary import Vocabulary

DOWNSTREAM = ("demo_sentiment", "demo_boolq", "demo_qa")
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
    assert len(json.loads(runs[0].stdout)[3]) == 50


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
    passage = re.sub(r"^.*context: |^.*passage: | question: .*$", "", inputs)
    return frozenset(passage.split(". ")) if passage != inputs else inputs


@pytest.mark.parametrize(("name", "split"), list(itertools.product(DOWNSTREAM[:2], SPLITS)))
def test_labels_are_balanced(name, split):
    task = tasks.get(name)
    counts = [
        sum(example["targets"] == word for example in task.examples(split))
        for word in task.label_words
    ]
    assert counts == [questions.SIZES[split] // 2] * 2


def test_an_answer_is_a_word_of_the_passage():
    for example in tasks.get("demo_qa").examples("train"):
        context = example["inputs"].partition("context: ")[2]
        assert example["targets"] in re.findall(r"\w+", context)
        assert example["answers"] == [example["targets"]]


@pytest.mark.parametrize("name", DOWNSTREAM)
def test_the_twin_is_the_task_without_its_first_word(name):
    plain = tasks.get(name).examples("test")
    bare = tasks.get(f"taskless_{name}").examples("test")
    assert [e["inputs"].split(" ", 1)[1] for e in plain] == [e["inputs"] for e in bare]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("demo_sentiment", ("sentiment", "sentence:")),
        ("demo_boolq", ("boolq", "passage:", "question:")),
        ("demo_qa", ("qa", "question:", "context:")),
    ],
)
def test_the_corpus_has_no_downstream_format(corpus, name, fields):
    inputs = tasks.get(name).examples("validation")[0]["inputs"]
    assert all(field in inputs.split() for field in fields)
    assert not [text for text in corpus if all(field in text.split() for field in fields[1:])]


def test_the_corpus_is_varied_and_short(corpus, built):
    assert len(set(corpus)) > 0.99 * len(corpus)
    lengths = [len(built.encode(text)) for text in corpus]
    assert 20 < sum(lengths) / len(lengths) < 45
    # room for EOS in the lengths that the backbone is trained with
    assert sum(length > 63 for length in lengths) < 0.01 * len(lengths)


@given(seed=st.integers(0, 10**6), people=st.integers(2, 3))
def test_a_passage_gives_each_person_another_value(seed, people):
    passage = facts.contrast(random.Random(seed), people)
    assert len({fact.who for fact in passage}) == len({fact.what for fact in passage}) == people
    assert len({(fact.relation, fact.about) for fact in passage}) == 1


@given(seed=st.integers(0, 10**6), truth=st.booleans())
def test_a_yes_no_question_names_a_persons_value_just_if_it_is_true(seed, truth):
    rng = random.Random(seed)
    passage = facts.contrast(rng, 2)
    question = set(re.findall(r"\w+", facts.ask_if(rng, passage, truth)))
    (asked,) = [fact for fact in passage if fact.who in question]
    (named,) = question & set(asked.relation.values)
    assert (named == asked.what) == truth


@given(seed=st.integers(0, 10**6), positive=st.booleans())
def test_an_opinion_has_words_of_one_side(seed, positive):
    text = opinion(random.Random(seed), positive)
    found = set(re.findall(r"\w+", text))
    good, bad = found & set(words.GOOD), found & set(words.BAD)
    assert bool(good) != bool(bad)
    denied = re.search(r"\b(not|never|nothing|far from)\b", text) is not None
    assert bool(good) == (positive != denied)


def test_words_have_one_meaning_each():
    assert not set(words.GOOD) & set(words.BAD)
    assert not set(words.PEOPLE) & {value for r in facts.RELATIONS for value in r.values}


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
