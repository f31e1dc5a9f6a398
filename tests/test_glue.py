"""GLUE's tasks from official files: T5's texts by hand, what the files are like, transfer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_tuning_jax import scoring, tasks
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import similarity


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    ("name", "file", "columns", "row", "inputs", "targets"),
    [
        ("sst2", "SST-2/train.tsv", "sentence\tlabel", "so \t1", "sst2 sentence: so ", "positive"),
        (
            "qqp",
            "QQP/train.tsv",
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
            "0\t1\t2\tWhy?\tHow?\t0",
            "qqp question1: Why? question2: How?",
            "not_duplicate",
        ),
        (
            "mnli",
            "MNLI/train.tsv",
            "index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label",
            "0\tfiction\tA.\tB.\tneutral\tcontradiction",
            "mnli hypothesis: B. premise: A.",
            "contradiction",
        ),
        (
            "mrpc",
            "MRPC/train.tsv",
            "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
            "1\t5\t6\tA.\tB.",
            "mrpc sentence1: A. sentence2: B.",
            "equivalent",
        ),
        (
            "qnli",
            "QNLI/train.tsv",
            "index\tquestion\tsentence\tlabel",
            "0\tWho?\tAnn.\tnot_entailment",
            "qnli question: Who? sentence: Ann.",
            "not_entailment",
        ),
        (
            "rte",
            "RTE/train.tsv",
            "index\tsentence1\tsentence2\tlabel",
            "0\tA.\tB.\tentailment",
            "rte sentence1: A. sentence2: B.",
            "entailment",
        ),
        (
            "wnli",
            "WNLI/train.tsv",
            "index\tsentence1\tsentence2\tlabel",
            "0\tA.\tB.\t1",
            "wnli sentence1: A. sentence2: B.",
            "entailment",
        ),
        (
            "stsb",
            "STS-B/train.tsv",
            "index\tgenre\tsentence1\tsentence2\tscore",
            "0\tnews\tA.\tB.\t3.750",
            "stsb sentence1: A. sentence2: B.",
            "3.8",
        ),
    ],
)
def test_text_of_t5(tmp_path, name, file, columns, row, inputs, targets):
    write(tmp_path / file, columns, row)
    expected = {"idx": 0, "inputs": inputs, "targets": targets}
    assert tasks.get(f"glue_{name}").examples("train", str(tmp_path)) == [expected]
    taskless = expected | {"inputs": inputs.split(" ", 1)[1]}
    assert tasks.get(f"taskless_glue_{name}").examples("train", str(tmp_path)) == [taskless]


def test_cola_has_no_header_but_for_its_test_file(tmp_path):
    write(tmp_path / "CoLA/train.tsv", 'gj04\t0\t*\tHim "ate.', "gj04\t1\t\tHe ate.")
    write(tmp_path / "CoLA/test.tsv", "index\tsentence", "0\tHe sat.")
    task = tasks.get("glue_cola")
    assert task.examples("train", str(tmp_path)) == [
        {"idx": 0, "inputs": 'cola sentence: Him "ate.', "targets": "unacceptable"},
        {"idx": 1, "inputs": "cola sentence: He ate.", "targets": "acceptable"},
    ]
    assert task.examples("test", str(tmp_path)) == [
        {"idx": 0, "inputs": "cola sentence: He sat.", "targets": ""}
    ]


def test_mnli_has_two_kinds_of_validation(tmp_path):
    columns = "index\tsentence1\tsentence2\tgold_label"
    write(tmp_path / "MNLI/dev_matched.tsv", columns, "0\tA.\tB.\tneutral")
    write(tmp_path / "MNLI/dev_mismatched.tsv", columns, "0\tC.\tD.\tentailment")
    (matched,) = tasks.get("glue_mnli").examples("validation", str(tmp_path))
    (mismatched,) = tasks.get("glue_mnli_mismatched").examples("validation", str(tmp_path))
    assert matched["inputs"] == "mnli hypothesis: B. premise: A."
    assert mismatched["inputs"] == "mnli hypothesis: D. premise: C."
    assert tasks.get("glue_mnli").source.splits == ("train", "validation", "test")
    assert tasks.get("glue_mnli_mismatched").source.splits == ("validation", "test")


def test_rows_of_qqp_that_lack_columns_are_left_out(tmp_path):
    columns = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"
    # a line break within a question makes two rows of it
    rows = ["0\t1\t2\tA?\tB?\t1", "1\t3\t4\tC", "D?\tE?\t0", "2\t5\t6\tF?\tG?\t0"]
    write(tmp_path / "QQP/train.tsv", columns, *rows)
    assert tasks.get("glue_qqp").examples("train", str(tmp_path)) == [
        {"idx": 0, "inputs": "qqp question1: A? question2: B?", "targets": "duplicate"},
        {"idx": 3, "inputs": "qqp question1: F? question2: G?", "targets": "not_duplicate"},
    ]


@pytest.mark.parametrize(
    ("score", "word"),
    [
        ("5.000", "5.0"),
        ("0", "0.0"),
        ("3.1", "3.2"),
        ("2.5", "2.4"),
        ("1.867", "1.8"),
        (4.75, "4.8"),
    ],
)
def test_similarities_become_words(score, word):
    record = {"sentence1": "A.", "sentence2": "B.", "score": score, "_at": "here"}
    (example,) = similarity.examples(record)
    assert example["targets"] == word
    assert word in similarity.WORDS


@given(st.integers(0, 5000))
def test_a_similarity_is_its_nearest_fifth(thousandths):
    record = {"sentence1": "A.", "sentence2": "B.", "label": thousandths / 1000, "_at": "here"}
    (example,) = similarity.examples(record)
    assert abs(float(example["targets"]) - thousandths / 1000) <= 0.1 + 1e-6
    assert len(similarity.WORDS) == 26


@pytest.mark.parametrize("score", ["5.2", "-0.5", "high", "nan", None])
def test_wrong_similarities(score):
    record = {"sentence1": "A.", "sentence2": "B.", "score": score, "_at": "a.tsv:3"}
    with pytest.raises(UserError, match=r"a\.tsv:3: score .* is no number from 0 to 5"):
        similarity.examples(record)


def test_similarities_are_scored_as_numbers(tmp_path):
    scores = ["0.0", "1.0", "2.0", "5.0"]
    rows = [f"{idx}\tA.\tB.\t{score}" for idx, score in enumerate(scores)]
    write(tmp_path / "STS-B/dev.tsv", "index\tsentence1\tsentence2\tscore", *rows)
    task = tasks.get("glue_stsb")
    examples = task.examples("validation", str(tmp_path))
    assert [task.postprocess(text, {}) for text in ("3.4", " 2 ", "two", "inf")] == [3.4, 2, -1, -1]
    assert scoring.score(task, examples, ["1.0", "2.0", "3.0", "4.0"])["spearman_corrcoef"] == (
        pytest.approx(100)
    )
    # What is no number counts as -1: here the order is turned round but for the first.
    mixed = scoring.score(task, examples, ["none", "5.0", "3.0", "0.4"])
    assert mixed["spearman_corrcoef"] == pytest.approx(20.0)
    write(tmp_path / "STS-B/test.tsv", "index\tsentence1\tsentence2", "0\tA.\tB.")
    assert task.examples("test", str(tmp_path))[0]["targets"] == ""


def test_sst2_as_label_text_lines(tmp_path):
    write(tmp_path / "sst2/stsa.binary.train", "1 a fine film", "0 dull")
    assert tasks.get("taskless_glue_sst2").examples("train", str(tmp_path)) == [
        {"idx": 0, "inputs": "sentence: a fine film", "targets": "positive"},
        {"idx": 1, "inputs": "sentence: dull", "targets": "negative"},
    ]


def test_rte_of_super_glue_does_as_well(tmp_path):
    line = {"premise": "A.", "hypothesis": "B.", "idx": 7, "label": "entailment"}
    write(tmp_path / "RTE/train.jsonl", json.dumps(line))
    assert tasks.get("glue_rte").examples("train", str(tmp_path)) == [
        {"idx": 7, "inputs": "rte sentence1: A. sentence2: B.", "targets": "entailment"}
    ]


def test_ax_without_labels_and_with(tmp_path):
    write(tmp_path / "AX/AX.tsv", "index\tsentence1\tsentence2", "0\tA.\tB.")
    task = tasks.get("glue_ax")
    (example,) = task.examples("test", str(tmp_path))
    assert example == {"idx": 0, "inputs": "mnli hypothesis: B. premise: A.", "targets": ""}
    full = "Logic\tDomain\tPremise\tHypothesis\tLabel"
    write(tmp_path / "full/diagnostic-full.tsv", full, "Negation\tNews\tA.\tB.\tneutral")
    (example,) = task.examples("test", str(tmp_path / "full"))
    assert example == {"idx": 0, "inputs": "mnli hypothesis: B. premise: A.", "targets": "neutral"}
    assert scoring.score(task, [example], ["neutral"])["accuracy"] == 100


def test_ax_beside_super_glues(shared):
    (glue, super_glue) = (
        tasks.get(name).examples("test", str(shared / "data/superglue"))
        for name in ("glue_ax", "super_glue_axb")
    )
    assert len(glue) == 1104
    entailed = [[e["targets"] == "entailment" for e in examples] for examples in (glue, super_glue)]
    assert entailed[0] == entailed[1]


@pytest.mark.parametrize(
    ("name", "source", "own"),
    [
        ("glue_mrpc_from_qqp", "duplicate", "equivalent"),
        ("glue_qqp_from_mrpc", "equivalent", "duplicate"),
    ],
)
def test_transfer_between_paraphrases(tmp_path, name, source, own):
    write(tmp_path / "MRPC/dev.tsv", "Quality\t#1 String\t#2 String", "1\tA\tB", "0\tC\tD")
    columns = "id\tquestion1\tquestion2\tis_duplicate"
    write(tmp_path / "QQP/dev.tsv", columns, "0\tA\tB\t1", "1\tC\tD\t0")
    task = tasks.get(name)
    assert task.source.splits == ("validation",)
    examples = task.examples("validation", str(tmp_path))
    assert [example["targets"] for example in examples] == [own, f"not_{own}"]
    # What the model says is in the words that it learnt.
    assert task.label_words == (f"not_{source}", source)
    texts = [f"not_{source}", source, "", f"not {source}"]
    assert [task.postprocess(text, {}) for text in texts] == [0, 1, -1, -1]
    assert scoring.score(task, examples, [source, source]) == {
        "f1": pytest.approx(200 / 3),
        "accuracy": 50.0,
    }
    assert tasks.get(f"taskless_{name}").label_words == task.label_words


def test_mrpc_with_its_mark_and_quotes(shared):
    folder = str(shared / "data/mrpc")
    task = tasks.get("glue_mrpc")
    train = task.examples("train", folder)
    assert train[0]["targets"] == "equivalent"
    assert train[0]["inputs"].startswith(
        'mrpc sentence1: Amrozi accused his brother, whom he called "the'
    )
    # There is no development file: the labelled test file stands in.
    validation = task.examples("validation", folder)
    assert validation == task.examples("test", folder)
    assert (len(train), len(validation)) == (4076, 1725)
    assert sum(example["targets"] == "equivalent" for example in validation) == 1147


@pytest.mark.parametrize(
    ("name", "folder", "sizes"),
    [
        ("glue_rte", "superglue", {"train": 2490, "validation": 277, "test": 3000}),
        ("glue_sst2", "sst2", {"train": 6920, "validation": 872, "test": 1821}),
    ],
)
def test_official_files(shared, name, folder, sizes):
    task = tasks.get(name)
    for split, size in sizes.items():
        examples = task.examples(split, str(shared / "data" / folder))
        assert len(examples) == size
        labels = {example["targets"] for example in examples}
        unlabelled = split == "test" and folder == "superglue"
        assert labels == ({""} if unlabelled else set(task.label_words))
