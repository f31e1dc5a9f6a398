"""Tasks and mixtures by name, and how any task's predictions are scored."""

import dataclasses
import json
import subprocess
import sys
import textwrap

import pytest

from prompt_tuning_jax import scoring, tasks
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.sources import TASK_FOLDERS, Generated, Official
from prompt_tuning_jax.tasks.task import Task


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))


PAIR = {"premise": "A cat sat.", "hypothesis": "It sat.", "idx": 7}
SUPER_GLUE = "boolq cb copa multirc record rte wic wsc axb axg".split()
GLUE = "cola sst2 mrpc stsb qqp mnli mnli_mismatched qnli rte wnli ax".split()


def test_no_file_for_a_split(tmp_path):
    with pytest.raises(UserError, match=r"no file of split 'train': looked for train.tsv or stsa"):
        tasks.get("glue_sst2").examples("train", str(tmp_path))
    with pytest.raises(UserError, match="has no split 'dev'; it has train, validation, test"):
        tasks.get("glue_sst2").examples("dev", str(tmp_path))


def test_names_are_those_of_the_tasks():
    assert {name: tasks.get(name).name for name in tasks.names()} == {n: n for n in tasks.names()}
    plain = {f"super_glue_{name}" for name in SUPER_GLUE} | {f"glue_{name}" for name in GLUE}
    assert plain | {f"taskless_{name}" for name in plain} <= set(tasks.names())
    assert {"squad", "xquad_en", "mrqa_drop"} <= set(tasks.names())
    assert not set(tasks.names()) & set(tasks.mixtures())


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
    with pytest.raises(UserError, match=r"MIXTURE_OR_TASK_NAME = \['glue_rte'\]: write a name"):
        tasks.mixture(["glue_rte"])
    with pytest.raises(UserError, match="task own is there 2 times"):
        tasks.mixture({own: 1, dataclasses.replace(own): 2})


# T5's numbers of training examples; WSC's are those whose span is the referent.
RATES = {
    "super_glue_boolq": 9427,
    "super_glue_cb": 250,
    "super_glue_copa": 400,
    "super_glue_multirc": 27243,
    "super_glue_record": 138854,
    "super_glue_rte": 2490,
    "super_glue_wic": 5428,
    "super_glue_wsc": 259,
}


def test_mixture_by_name():
    for prefix in ("", "taskless_"):
        mixture = tasks.mixture(f"{prefix}super_glue_proportional")
        expected = [(prefix + name, rate) for name, rate in RATES.items()]
        assert [(task.name, rate) for task, rate in mixture] == expected
    with pytest.raises(UserError, match="'super_glue_proportion'; did you mean super_glue_prop"):
        tasks.mixture("super_glue_proportion")
    with pytest.raises(UserError, match="super_glue_proportional is a mixture and one task is nee"):
        tasks.get("super_glue_proportional")


def test_mixture_of_a_users_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_mixtures.py").write_text('MIXTURES = {"two": {"glue_rte": 1, "glue_sst2": 3}}')
    mixture = tasks.mixture("two", "my_mixtures")
    assert [(task.name, rate) for task, rate in mixture] == [("glue_rte", 1), ("glue_sst2", 3)]
    with pytest.raises(UserError, match="no task 'two'"):
        tasks.mixture("two")


def test_average_over_tasks():
    # The mean of CB's two metrics is what CB counts for.
    cb, rte = tasks.get("super_glue_cb"), tasks.get("super_glue_rte")
    scored = [(cb, {"mean_3class_f1": 60.0, "accuracy": 80.0}), (rte, {"accuracy": 50.0})]
    assert scoring.average(scored) == 60.0


def test_identity_tells_tasks_apart():
    identities = [json.dumps(tasks.get(name).identity()) for name in tasks.names()]
    assert len(set(identities)) == len(identities)


def test_invalid_predictions_are_no_class():
    task = tasks.get("super_glue_cb")
    texts = ["entailment", "contradiction", "neutral", "", "Neutral", "neutral "]
    assert [task.postprocess(text, {}) for text in texts] == [0, 1, 2, -1, -1, -1]


def test_score_and_selection(tmp_path):
    labels = ("entailment", "contradiction", "neutral")
    lines = [PAIR | {"label": label, "idx": idx} for idx, label in enumerate(labels)]
    write(tmp_path / "CB/val.jsonl", *lines)
    task = tasks.get("super_glue_cb")
    examples = task.examples("validation", str(tmp_path))
    result = scoring.score(task, examples, ["entailment", "neutral", "neutral"])
    assert result["accuracy"] == pytest.approx(200 / 3)
    assert result["mean_3class_f1"] == pytest.approx(100 * (1 + 0 + 2 / 3) / 3)
    # Accuracy and F1 count alike for CB.
    assert scoring.selection(task, {**result, "loss": 9.0}) == pytest.approx(
        (200 / 3 + 500 / 9) / 2
    )
    with pytest.raises(UserError, match="no metric 'mean_3class_f1' to select by; it has loss"):
        scoring.selection(task, {"loss": 1.0})


def test_score_needs_labels(tmp_path):
    write(tmp_path / "CB/test.jsonl", PAIR)
    task = tasks.get("super_glue_cb")
    with pytest.raises(UserError, match="super_glue_cb: this split has no labels"):
        scoring.score(task, task.examples("test", str(tmp_path)), ["neutral"])


@pytest.mark.parametrize("odd", [{"label": "neutral"}, {"label": -1}])
def test_a_split_has_labels_or_none(tmp_path, odd):
    others = {} if odd["label"] == "neutral" else {"label": "neutral"}
    lines = [PAIR | others | {"idx": idx} for idx in range(2)]
    write(tmp_path / "CB/test.jsonl", *lines, PAIR | odd | {"idx": 2})
    which = "no" if others else "a"
    with pytest.raises(UserError, match=rf"test\.jsonl:3: {which} label, unlike the examples bef"):
        tasks.get("super_glue_cb").examples("test", str(tmp_path))


def test_folders_of_other_tasks(tmp_path):
    sources = [tasks.get(name).source for name in tasks.names()]
    sources = [getattr(source, "source", source) for source in sources]  # WSC's
    official = [source for source in sources if isinstance(source, Official)]
    folders = {folder.lower() for source in official for folder in source.folders}
    assert folders == TASK_FOLDERS
    # CB's file has RTE's fields, and in the test split no label to tell them apart
    for folder in ("CB", "rte", "RTE", "own"):
        write(tmp_path / folder / "test.jsonl", PAIR)
    task = tasks.get("super_glue_rte")
    for folder in ("rte", "RTE", "own"):
        own = tmp_path / folder
        assert task.examples("test", str(own))
        assert task.source.origin("test", str(own)) == str(own / "test.jsonl")
    with pytest.raises(UserError, match="looked for test.jsonl in .*/CB itself is another task's"):
        task.examples("test", str(tmp_path / "CB"))


@pytest.mark.parametrize("data_dir", ["absent", "gs://bucket/data"])
def test_data_dir_that_is_no_folder(data_dir):
    with pytest.raises(UserError, match=f"data_dir {data_dir}: there is no such folder on this"):
        tasks.get("super_glue_rte").examples("test", data_dir)


def test_answers_may_lack_in_the_test_split_alone():
    source = Generated("a", lambda split: [{"inputs": "2?", "targets": ""}], ("train", "test"))
    task = Task("qa", source, lambda record: [{"inputs": "2?", "targets": ""}], target=len)
    assert task.examples("test") == [{"idx": 0, "inputs": "2?", "targets": ""}]
    with pytest.raises(UserError, match="a/train:0: no label, which split 'train' needs"):
        task.examples("train")


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
    result = scoring.score(task, task.examples("train"), ["2", "three"])
    assert result == {"right": 50.0}
    assert scoring.selection(task, result) == 50.0


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
