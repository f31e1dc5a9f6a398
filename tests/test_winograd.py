"""WSC as T5 puts it: what is marked and learnt, spans as TFDS repairs them, what names a span."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_tuning_jax import scoring, tasks
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import winograd


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


WSC = {
    "text": "Ann asked Bea whether she could go .",
    "idx": 2,
    "label": True,
    "target": {"span1_text": "Bea", "span1_index": 2, "span2_text": "she", "span2_index": 4},
}


def test_wsc_marks_the_pronoun(tmp_path):
    wrong = WSC | {"idx": 3, "label": False}
    wrong["target"] = wrong["target"] | {"span1_text": "Ann"}
    for file in ("train", "val"):
        write(tmp_path / f"WSC/{file}.jsonl", WSC, wrong)
    task = tasks.get("super_glue_wsc")
    right = {
        "idx": 2,
        "inputs": "wsc: Ann asked Bea whether *she* could go .",
        "targets": "Bea",
        "referent": "Bea",
        "label": 1,
    }
    # It is learnt from what the pronoun means, and scored on what it does not mean too.
    assert task.examples("train", str(tmp_path)) == [right]
    validation = task.examples("validation", str(tmp_path))
    assert validation == [
        right,
        right | {"idx": 3, "targets": "Ann", "referent": "Ann", "label": 0},
    ]
    assert scoring.score(task, validation, ["bea", "Bea"]) == {"accuracy": 100.0}
    assert scoring.score(task, validation, ["Ann", "the"]) == {"accuracy": 0.0}
    (bare, *_) = tasks.get("taskless_super_glue_wsc").examples("train", str(tmp_path))
    assert bare["inputs"] == "Ann asked Bea whether *she* could go ."


def test_wsc_without_labels(tmp_path):
    unlabelled = {name: value for name, value in WSC.items() if name != "label"}
    for file in ("train", "test"):
        write(tmp_path / f"WSC/{file}.jsonl", unlabelled)
    task = tasks.get("super_glue_wsc")
    (example,) = task.examples("test", str(tmp_path))
    assert (example["targets"], example["referent"], example["label"]) == ("", "Bea", None)
    with pytest.raises(UserError, match="super_glue_wsc: this split has no labels"):
        scoring.score(task, [example], ["Bea"])
    with pytest.raises(UserError, match=r"train.jsonl:1: no label, which split 'train' needs"):
        task.examples("train", str(tmp_path))


def wsc(text, span1="Ann", span2="she", index=1, **changes):
    target = {"span1_text": span1, "span1_index": 0, "span2_text": span2, "span2_index": index}
    return {"text": text, "label": True, "idx": 0, "target": target | changes, "_at": "here"}


def marked(record):
    (repaired,) = winograd.repaired_records(record)
    (example,) = winograd.examples(repaired)
    return example["inputs"].removeprefix("wsc: "), example["targets"]


@pytest.mark.parametrize(
    ("record", "inputs", "target"),
    [
        (wsc("Ann says she ran .", index=2), "Ann says *she* ran .", "Ann"),
        # the last word: T5 leaves a space behind it
        (wsc("Ann ran as she", index=3), "Ann ran as *she* ", "Ann"),
        # two spaces have an empty word between them
        (wsc("Ann  says she ran", index=3), "Ann  says *she* ran", "Ann"),
        # the number of the word before, and punctuation attached, as in two of the corpus
        (wsc("Ann says that she ran", index=2), "Ann says that *she* ran", "Ann"),
        (wsc('Ann met "her," he said. ', "Ann", "her", 2), None, None),
        (wsc('Ann saw her," he said. ', "Ann", "her", 2), 'Ann saw *her* ," he said.', "Ann"),
        # spans as the text spells them: case, a stop, a line break
        (wsc("The dog and she ran", "the dog.", index=3), "The dog and *she* ran", "The dog"),
        (
            wsc("Now the big dog and she ran", "The\nbig dog", index=5, span1_index=1),
            "Now the big dog and *she* ran",
            "the big dog",
        ),
        (
            wsc("Kamenev and later Zinoviev said he ran", "Kamenev and Zinoviev", "he", 5),
            "Kamenev and later Zinoviev said *he* ran",
            "Kamenev and Zinoviev",
        ),
    ],
)
def test_wsc_spans(record, inputs, target):
    if inputs is None:
        with pytest.raises(UserError, match="here: word 2 of the text is not 'her'"):
            marked(record)
    else:
        assert marked(record) == (inputs, target)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (wsc("Bea says she ran", index=2), "here: span1_text 'Ann' is not in the text"),
        (wsc("Ann says he ran", index=2), "here: span2_text 'she' is not in the text"),
        (wsc("she says Ann ran", index=0), "span2_index 0 is no word of the text after its first"),
        (wsc("Ann says she ran", index=9), "span2_index 9 is no word of the text after its first"),
        (wsc("Ann says she ran", index="x"), 'field .span2_index. is no whole number but "x"'),
        (wsc("Ann says she ran", index=3), "here: word 3 of the text is not 'she'"),
        (wsc("Ann says she ran", index=2) | {"label": 7}, "here: label 7 is not true or false"),
        (wsc("Ann says she ran", index=2) | {"target": None}, "here: no object 'target'; it has"),
    ],
)
def test_wrong_records_of_wsc(record, message):
    with pytest.raises(UserError, match=message):
        marked(record)


@pytest.mark.parametrize(
    ("text", "referent", "value"),
    [
        ("Bea", "Bea", 1),
        (" the BEA ", "Bea", 1),
        ("fuzzy bunny", "the bunny", 1),
        ("bunny", "The fuzzy bunny", 1),
        ("fuzzy dog", "fuzzy bunny", 0),
        ("Bob", "Bob's hat", 0),
        ("Bob's", "Bob's hat", 1),
        ("", "Bea", -1),
        ("the", "the", -1),
    ],
)
def test_what_names_the_referent(text, referent, value):
    assert winograd.names_referent(text, {"referent": referent}) == value


words = st.lists(st.sampled_from("cat dog hat Bob red".split()), min_size=1, max_size=4)
determiner = st.sampled_from(["", "the ", "My ", "some "])


@given(words, words, determiner, determiner)
def test_naming_is_mutual_and_blind_to_case_and_determiners(one, other, first, second):
    text, referent = " ".join(one), " ".join(other)
    value = winograd.names_referent(text, {"referent": referent})
    assert value == int(set(one) <= set(other) or set(other) <= set(one))
    assert winograd.names_referent(referent, {"referent": text}) == value
    changed = {"referent": second + referent.upper()}
    assert winograd.names_referent(first + text.lower(), changed) == value
