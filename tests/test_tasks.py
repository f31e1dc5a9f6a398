"""The benchmarks' tasks from official files, the metrics by hand, and finding tasks by name."""

import functools
import json
import subprocess
import sys
import textwrap

import pytest

from prompt_tuning_jax import data, tasks
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks import metrics
from prompt_tuning_jax.tasks.sources import Generated
from prompt_tuning_jax.tasks.task import Task


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))


PAIR = {"premise": "A cat sat.", "hypothesis": "It sat.", "idx": 7}
TEXT = {"question": "is it so", "passage": "It is so.", "idx": 3}


# Inputs as T5 has them: `t5.data.preprocessors.glue` writes the fields in the order of their names.
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
            "glue_rte",
            "RTE/train.jsonl",
            PAIR | {"label": "entailment"},
            "rte sentence1: A cat sat. sentence2: It sat.",
            "entailment",
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


def test_glue_tsv(tmp_path):
    write(tmp_path / "SST-2/dev.tsv", "sentence\tlabel", 'a "fine film \t1', "dull\t0")
    assert tasks.get("glue_sst2").examples("validation", str(tmp_path)) == [
        {"idx": 0, "inputs": 'sst2 sentence: a "fine film ', "targets": "positive"},
        {"idx": 1, "inputs": "sst2 sentence: dull", "targets": "negative"},
    ]
    write(tmp_path / "SST-2/test.tsv", "index\tsentence", "0\twho knows")
    assert tasks.get("glue_sst2").examples("test", str(tmp_path)) == [
        {"idx": 0, "inputs": "sst2 sentence: who knows", "targets": ""}
    ]
    columns = "index\tsentence1\tsentence2\tlabel"
    write(tmp_path / "RTE/train.tsv", columns, "0\tA cat sat.\tIt sat.\tnot_entailment")
    (example,) = tasks.get("glue_rte").examples("train", str(tmp_path))
    assert example["inputs"] == "rte sentence1: A cat sat. sentence2: It sat."
    assert example["targets"] == "not_entailment"


def test_sst2_as_label_text_lines(tmp_path):
    write(tmp_path / "sst2/stsa.binary.train", "1 a fine film", "0 dull")
    assert tasks.get("taskless_glue_sst2").examples("train", str(tmp_path)) == [
        {"idx": 0, "inputs": "sentence: a fine film", "targets": "positive"},
        {"idx": 1, "inputs": "sentence: dull", "targets": "negative"},
    ]


@pytest.mark.parametrize(
    ("name", "folder", "sizes"),
    [
        ("super_glue_rte", "superglue", {"train": 2490, "validation": 277, "test": 3000}),
        ("glue_rte", "superglue", {"train": 2490, "validation": 277, "test": 3000}),
        ("super_glue_cb", "superglue", {"train": 250, "validation": 56, "test": 250}),
        ("super_glue_boolq", "superglue", {"validation": 3270, "test": 3245}),
        ("super_glue_boolq", "fewglue", {"train": 32}),
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


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (PAIR | {"label": "neutral"}, r":1: label 'neutral' is not one of entailment, not_ent"),
        (PAIR | {"label": True}, r":1: label 'True' is not one of"),
        (PAIR | {"label": 2}, r":1: label '2' is not one of"),
        (PAIR, r":1: no label, which split 'train' needs"),
        (TEXT | {"label": 0}, r":1: no field 'hypothesis', which rte needs; it has question, pass"),
        (PAIR | {"premise": None, "label": 0}, r":1: no field 'premise'"),
    ],
)
def test_bad_records(tmp_path, record, message):
    write(tmp_path / "RTE/train.jsonl", record)
    with pytest.raises(UserError, match=r"RTE/train\.jsonl" + message):
        tasks.get("super_glue_rte").examples("train", str(tmp_path))


def test_no_file_for_a_split(tmp_path):
    with pytest.raises(UserError, match=r"no file of split 'train': looked for train.tsv or stsa"):
        tasks.get("glue_sst2").examples("train", str(tmp_path))
    with pytest.raises(UserError, match="has no split 'dev'; it has train, validation, test"):
        tasks.get("glue_sst2").examples("dev", str(tmp_path))


def test_names_are_those_of_the_tasks():
    assert {name: tasks.get(name).name for name in tasks.names()} == {n: n for n in tasks.names()}
    plain = {"glue_sst2", "glue_rte", "super_glue_rte", "super_glue_cb", "super_glue_boolq"}
    assert plain | {f"taskless_{name}" for name in plain} <= set(tasks.names())


def test_unknown_task():
    with pytest.raises(UserError, match="no task 'super_glue_ret'; did you mean super_glue_rte?"):
        tasks.get("super_glue_ret")


def test_tasks_of_a_users_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_own_tasks.py").write_text(
        textwrap.dedent("""
        from prompt_tuning_jax.tasks.sources import Generated
        from prompt_tuning_jax.tasks.task import Task

        def make(split):
            return [{"a": 2, "b": 3}]

        def add(record):
            return [{"inputs": f"{record['a']} + {record['b']}", "targets": "5", "sum": 5}]

        task = Task("adding", Generated("sums", make), add)
        TASKS = {"by_name": task}
        """)
    )
    for name in ("adding", "by_name"):
        assert tasks.get(name, "my_own_tasks").examples("train") == [
            {"idx": 0, "inputs": "2 + 3", "targets": "5", "sum": 5}
        ]
    with pytest.raises(UserError, match="no task 'addin'; did you mean adding?"):
        tasks.get("addin", "my_own_tasks")
    assert tasks.get("glue_sst2", "my_own_tasks").name == "glue_sst2"
    with pytest.raises(UserError, match="task module no_such_module: cannot be imported"):
        tasks.get("adding", "no_such_module")


def test_mixture_of_names_and_tasks():
    own = Task("own", Generated("nothing", lambda split: []), lambda record: [record])
    assert tasks.mixture(own) == [(own, 1)]
    named = tasks.mixture({"super_glue_rte": 2, own: "proportional"})
    expected = [("super_glue_rte", 2), ("own", "proportional")]
    assert [(task.name, rate) for task, rate in named] == expected
    with pytest.raises(UserError, match="no task 'super_glue_rt'"):
        tasks.mixture("super_glue_rt")
    with pytest.raises(UserError, match="MIXTURE_OR_TASK_NAME = {}"):
        tasks.mixture({})


def test_identity_tells_tasks_apart():
    identities = [json.dumps(tasks.get(name).identity()) for name in tasks.names()]
    assert len(set(identities)) == len(identities)


def test_invalid_predictions_are_no_class():
    task = tasks.get("super_glue_cb")
    texts = ["entailment", "contradiction", "neutral", "", "Neutral", "neutral "]
    assert [task.postprocess(text, {}) for text in texts] == [0, 1, 2, -1, -1, -1]


# true 0 0 0 1 1 2, predicted 0 0 1 1 -1 0: label 0 has F1 2*2/(3+3), 1 has 2*1/(2+2), 2 has 0.
TARGETS, PREDICTIONS = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, -1, 0]


def test_metrics_by_hand():
    mean_f1 = functools.partial(metrics.mean_f1, num_classes=3)
    assert metrics.accuracy(TARGETS, PREDICTIONS) == {"accuracy": 50.0}
    assert mean_f1(TARGETS, PREDICTIONS) == {
        "mean_3class_f1": pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)
    }
    assert mean_f1([0, 0], [-1, -1]) == {"mean_3class_f1": 0.0}
    assert metrics.exact_match(["a b", "c"], ["a b", "c "]) == {"exact_match": 50.0}


def test_f1_counts_an_invalid_prediction_as_wrong():
    # As predicted 1 1 0 0 1: two right of three predicted, two of three true.
    assert metrics.f1([1, 1, 1, 0, 0], [1, 1, -1, 0, 5]) == {"f1": pytest.approx(200 / 3)}
    assert metrics.f1([0, 0], [0, 0]) == {"f1": 0.0}


def test_score_and_selection(tmp_path):
    lines = [PAIR | {"label": label} for label in ("entailment", "contradiction", "neutral")]
    write(tmp_path / "CB/val.jsonl", *lines)
    task = tasks.get("super_glue_cb")
    examples = task.examples("validation", str(tmp_path))
    result = data.score(task, examples, ["entailment", "neutral", "neutral"])
    assert result["accuracy"] == pytest.approx(200 / 3)
    assert result["mean_3class_f1"] == pytest.approx(100 * (1 + 0 + 2 / 3) / 3)
    # Accuracy and F1 count alike for CB.
    assert data.selection(task, {**result, "loss": 9.0}) == pytest.approx((200 / 3 + 500 / 9) / 2)
    with pytest.raises(UserError, match="no metric 'mean_3class_f1' to select by; it has loss"):
        data.selection(task, {"loss": 1.0})


def test_score_needs_labels(tmp_path):
    write(tmp_path / "CB/test.jsonl", PAIR)
    task = tasks.get("super_glue_cb")
    with pytest.raises(UserError, match="super_glue_cb: this split has no labels"):
        data.score(task, task.examples("test", str(tmp_path)), ["neutral"])


def test_many_right_answers():
    def right(targets, predictions):
        hits = [p in t for t, p in zip(targets, predictions, strict=True)]
        return {"right": 100.0 * sum(hits) / len(hits)}

    records = [{"inputs": "2?", "targets": "two", "answers": ["two", "2"]}] * 2
    source = Generated("answers", lambda split: records)
    task = Task(
        "qa",
        source,
        lambda record: [{key: record[key] for key in ("inputs", "targets", "answers")}],
        target=lambda example: example["answers"],
        metrics=(right,),
        selection=("right",),
    )
    result = data.score(task, task.examples("train"), ["2", "three"])
    assert result == {"right": 50.0}
    assert data.selection(task, result) == 50.0


def test_none_of_this_imports_tensorflow(tmp_path):
    write(tmp_path / "RTE/train.jsonl", PAIR | {"label": "entailment"})
    program = """
        import sys
        from prompt_tuning_jax import data, tasks
        from prompt_tuning_jax.tasks import text_files
        [tasks.get(name) for name in tasks.names()]
        tasks.get("super_glue_rte").examples("train", sys.argv[1])
        print(sorted({"tensorflow", "seqio", "tensorflow_datasets", "jax"} & sys.modules.keys()))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
