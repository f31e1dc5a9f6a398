"""SuperGLUE's tasks from official files: T5's texts by hand, wrong records, what is scored."""

import json

import pytest

from prompt_tuning_jax import scoring, tasks
from prompt_tuning_jax.errors import UserError


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


PAIR = {"premise": "A cat sat.", "hypothesis": "It sat.", "idx": 7}
TEXT = {"question": "is it so", "passage": "It is so.", "idx": 3}
COPA = {"premise": "It fell.", "choice1": "It broke.", "choice2": "It sang.", "question": "effect"}
WIC = {"word": "run", "sentence1": "They run.", "sentence2": "A run.", "start1": 5, "end1": 8}
MULTIRC = {
    "idx": 5,
    "passage": {
        "text": "<b>Sent 1: </b>Ann sat.<br>Bob <b>ran</b>.",
        "questions": [
            {
                "idx": 8,
                "question": "Who sat?",
                "answers": [
                    {"text": "Ann", "idx": 30, "label": 1},
                    {"text": "Bob", "idx": 31, "label": 0},
                ],
            }
        ],
    },
}
RECORD = {
    "idx": 3,
    "passage": {
        "text": "Ann met Bob.\n@highlight\nBob won\n@highlight\nAnn lost",
        "entities": [{"start": 8, "end": 10}, {"start": 0, "end": 2}, {"start": 24, "end": 26}],
    },
    "qas": [
        {
            "idx": 9,
            "query": "@placeholder won",
            "answers": [{"text": "Bob"}, {"text": "Ann"}, {"text": "Bob"}],
        }
    ],
}


# Fields in T5's order: sorted by name, but for MultiRC and WiC.
@pytest.mark.parametrize(
    ("name", "file", "record", "inputs", "targets"),
    [
        (
            "super_glue_rte",
            "RTE/train.jsonl",
            PAIR | {"label": "not_entailment"},
            "rte hypothesis: It sat. premise: A cat sat.",
            "not_entailment",
        ),
        (
            "super_glue_cb",
            "CB/train.jsonl",
            PAIR | {"label": "contradiction"},
            "cb hypothesis: It sat. premise: A cat sat.",
            "contradiction",
        ),
        (
            "super_glue_boolq",
            "BoolQ/train.jsonl",
            TEXT | {"label": True},
            "boolq passage: It is so. question: is it so",
            "True",
        ),
        (
            "super_glue_copa",
            "COPA/train.jsonl",
            COPA | {"label": 1, "idx": 4},
            "copa choice1: It broke. choice2: It sang. premise: It fell. question: effect",
            "choice2",
        ),
        (
            "super_glue_wic",
            "WiC/train.jsonl",
            WIC | {"label": False, "idx": 4},
            "wic sentence1: They run. sentence2: A run. word: run",
            "False",
        ),
    ],
)
def test_text_of_t5(tmp_path, name, file, record, inputs, targets):
    write(tmp_path / file, record)
    expected = {"idx": record["idx"], "inputs": inputs, "targets": targets}
    assert tasks.get(name).examples("train", str(tmp_path)) == [expected]
    taskless = expected | {"inputs": inputs.split(" ", 1)[1]}
    assert tasks.get(f"taskless_{name}").examples("train", str(tmp_path)) == [taskless]
    # The task's own folder does as well as the benchmark's.
    own = str((tmp_path / file).parent)
    assert tasks.get(name).examples("train", own) == [expected]


def test_diagnostics_are_put_as_rte(tmp_path):
    lines = {"sentence1": "A.", "sentence2": "B.", "logic": "Negation"}
    # AX-b's file has its numbers as texts
    write(tmp_path / "AX-b/AX-b.jsonl", lines | {"idx": "11", "label": "entailment"})
    (example,) = tasks.get("super_glue_axb").examples("test", str(tmp_path))
    assert example["idx"] == 11
    assert example["inputs"] == "rte hypothesis: B. premise: A."
    assert example["targets"] == "entailment"
    write(tmp_path / "AX-g/AX-g.jsonl", PAIR | {"pair_id": "551"})
    (example,) = tasks.get("taskless_super_glue_axg").examples("test", str(tmp_path))
    assert example == {
        "idx": 7,
        "inputs": "hypothesis: It sat. premise: A cat sat.",
        "targets": "",
    }
    with pytest.raises(UserError, match="super_glue_axg has no split 'train'; it has test"):
        tasks.get("super_glue_axg").examples("train", str(tmp_path))


def test_multirc_has_an_example_for_each_answer(tmp_path):
    write(tmp_path / "MultiRC/val.jsonl", MULTIRC)
    task = tasks.get("super_glue_multirc")
    paragraph = "paragraph: Sent 1: Ann sat. Bob ran."
    examples = task.examples("validation", str(tmp_path))
    assert examples == [
        {
            "idx": {"paragraph": 5, "question": 8, "answer": 30},
            "inputs": f"multirc question: Who sat? answer: Ann {paragraph}",
            "targets": "True",
        },
        {
            "idx": {"paragraph": 5, "question": 8, "answer": 31},
            "inputs": f"multirc question: Who sat? answer: Bob {paragraph}",
            "targets": "False",
        },
    ]
    assert scoring.score(task, examples, ["True", "False"]) == {"f1": 100.0, "exact_match": 100.0}
    # One of two answers wrong: F1 of one right of two found, and no question is right.
    scores = scoring.score(task, examples, ["True", "True"])
    assert scores == {"f1": pytest.approx(200 / 3), "exact_match": 0.0}
    assert scoring.selection(task, scores) == pytest.approx(100 / 3)


def test_record_has_an_example_for_each_right_answer(tmp_path):
    write(tmp_path / "ReCoRD/train.jsonl", RECORD)
    task = tasks.get("super_glue_record")
    examples = task.examples("train", str(tmp_path))
    # Entities and answers sorted and once; a stop where a bullet point lacks one.
    common = {
        "idx": {"passage": 3, "query": 9},
        "inputs": "record query: @placeholder won entities: Ann, Bob "
        "passage: Ann met Bob. Bob won. Ann lost",
        "answers": ["Ann", "Bob"],
    }
    assert examples == [common | {"targets": "Ann"}, common | {"targets": "Bob"}]
    # A query counts once, by its first prediction, against all of its answers.
    assert scoring.score(task, examples, ["bob.", "nobody"]) == {"em": 100.0, "f1": 100.0}
    assert scoring.score(task, examples, ["nobody", "bob."]) == {"em": 0.0, "f1": 0.0}


def test_record_without_answers(tmp_path):
    query = {"idx": 9, "query": "@placeholder won"}
    write(tmp_path / "test.jsonl", RECORD | {"qas": [query]})
    task = tasks.get("super_glue_record")
    (example,) = task.examples("test", str(tmp_path))
    assert (example["targets"], example["answers"]) == ("", [])
    write(tmp_path / "train.jsonl", RECORD | {"qas": [query]})
    with pytest.raises(UserError, match=r"train.jsonl:1, qas\[0\]: no label, which split 'train'"):
        task.examples("train", str(tmp_path))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (PAIR | {"label": "neutral"}, r":1: label 'neutral' is not one of entailment, not_ent"),
        (PAIR | {"label": True}, r":1: label 'True' is not one of"),
        (PAIR | {"label": 2}, r":1: label '2' is not one of"),
        (PAIR, r":1: no label, which split 'train' needs"),
        (TEXT | {"label": 0}, r":1: no field 'hypothesis', which rte needs; it has question, pass"),
        (PAIR | {"premise": None, "label": 0}, r":1: no field 'premise'"),
        (PAIR | {"label": 0, "idx": "b"}, r':1: field .idx. is no whole number but "b"'),
        (PAIR | {"label": 0, "idx": " 1_0"}, r':1: field .idx. is no whole number but " 1_0"'),
        (PAIR | {"label": 0, "idx": True}, ":1: field 'idx' is no whole number but true"),
        (PAIR | {"label": 0, "premise": 5}, ":1: field 'premise' is no text but 5"),
        (PAIR | {"label": 0, "premise": float("nan")}, ":1: field 'premise' is no text but NaN"),
        (
            PAIR | {"label": 0, "premise": "a \ud800"},
            r""":1: field 'premise' has half a character, "\\ud800\"""",
        ),
    ],
)
def test_bad_records(tmp_path, record, message):
    write(tmp_path / "RTE/train.jsonl", record)
    with pytest.raises(UserError, match=r"RTE/train\.jsonl" + message):
        tasks.get("super_glue_rte").examples("train", str(tmp_path))


def without(record, *path):
    """The record without what the path of fields and numbers leads to."""
    first, *rest = path
    copied = record.copy()
    if rest:
        copied[first] = without(copied[first], *rest)
    else:
        del copied[first]
    return copied


ANSWER = ("passage", "questions", 0, "answers", 1)


@pytest.mark.parametrize(
    ("name", "record", "message"),
    [
        ("multirc", without(MULTIRC, "passage"), ":1: no object 'passage'; it has idx"),
        ("multirc", without(MULTIRC, "passage", "questions"), ":1, passage: no list 'questions'"),
        (
            "multirc",
            without(MULTIRC, *ANSWER, "text"),
            r":1, passage, questions\[0\], answers\[1\]: no field 'text', which multirc needs",
        ),
        ("multirc", without(MULTIRC, *ANSWER, "label"), r".*answers\[1\]: no label, which split"),
        ("multirc", without(MULTIRC, *ANSWER, "idx"), r".*answers\[1\]: no field 'idx'"),
        ("record", without(RECORD, "qas"), ":1: no list 'qas'; it has idx, passage"),
        ("record", RECORD | {"qas": [1]}, r":1, qas\[0\]: no object but 1"),
        (
            "record",
            without(RECORD, "passage", "entities", 0, "end"),
            r":1, passage, entities\[0\]: no field 'end', which record needs; it has start",
        ),
        *(
            (
                "record",
                RECORD | {"passage": {"text": "Ann met.", "entities": [{"start": a, "end": b}]}},
                rf":1, passage, entities\[0\]: characters {a} to {b} are no part of the",
            )
            for a, b in ((-1, 2), (2, 1), (0, 8))
        ),
    ],
)
def test_bad_nested_records(tmp_path, name, record, message):
    write(tmp_path / "train.jsonl", record)
    with pytest.raises(UserError, match=r"/train\.jsonl" + message):
        tasks.get(f"super_glue_{name}").examples("train", str(tmp_path))


def test_numbers_are_there_once(tmp_path):
    def refused(name, idx, *lines):
        write(tmp_path / "train.jsonl", *lines)
        with pytest.raises(UserError, match=rf"train\.jsonl:.*: idx {idx} is there already"):
            tasks.get(f"super_glue_{name}").examples("train", str(tmp_path))

    refused("rte", 7, *[PAIR | {"label": 0}] * 2)
    multirc = MULTIRC | {"passage": without(MULTIRC, *ANSWER, "label")["passage"]}
    multirc["passage"]["questions"][0]["answers"][1] |= {"idx": 30, "label": 0}
    refused("multirc", "{'paragraph': 5, 'question': 8, 'answer': 30}", multirc)
    # whatever the passage, as the leaderboard's file has the query's number alone
    refused("record", "{'passage': 4, 'query': 9}", RECORD, RECORD | {"idx": 4})


def test_gender_parity(tmp_path):
    lines = [PAIR | {"idx": idx, "label": "entailment"} for idx in range(6)]
    write(tmp_path / "AX-g/AX-g.jsonl", *lines)
    task = tasks.get("super_glue_axg")
    examples = task.examples("test", str(tmp_path))
    # Of three pairs one agrees on a wrong label, one disagrees, and one says nothing valid twice.
    texts = ["not_entailment"] * 2 + ["entailment", "not_entailment"] + ["", "yes"]
    scores = scoring.score(task, examples, texts)
    assert scores == {
        "accuracy": pytest.approx(100 / 6),
        "gender_parity": pytest.approx(100 / 3),
    }


@pytest.mark.parametrize(
    ("name", "folder", "sizes"),
    [
        ("super_glue_rte", "superglue", {"train": 2490, "validation": 277, "test": 3000}),
        ("super_glue_cb", "superglue", {"train": 250, "validation": 56, "test": 250}),
        ("super_glue_boolq", "superglue", {"validation": 3270, "test": 3245}),
        ("super_glue_boolq", "fewglue", {"train": 32}),
        ("super_glue_wic", "superglue", {"train": 5428, "validation": 638, "test": 1400}),
        ("super_glue_axb", "superglue", {"test": 1104}),
    ],
)
def test_official_files(shared, name, folder, sizes):
    task = tasks.get(name)
    for split, size in sizes.items():
        examples = task.examples(split, str(shared / "data" / folder))
        assert len(examples) == size
        labels = {example["targets"] for example in examples}
        unlabelled = split == "test" and name != "super_glue_axb"
        assert labels == ({""} if unlabelled else set(task.label_words))
        assert all(isinstance(example["idx"], int) for example in examples)


def test_axb_is_scored(shared):
    task = tasks.get("super_glue_axb")
    examples = task.examples("test", str(shared / "data/superglue"))
    right = [example["targets"] for example in examples]
    assert scoring.score(task, examples, right) == {"matthews_corrcoef": 100.0, "accuracy": 100.0}
    # One label for all has no correlation; 460 of the 1104 pairs are entailments.
    constant = scoring.score(task, examples, ["entailment"] * len(examples))
    assert constant == {"matthews_corrcoef": 0.0, "accuracy": pytest.approx(100 * 460 / 1104)}
