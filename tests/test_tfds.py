"""TFDS as a source: the same examples as from official files, read once, each folder by itself.

TFDS's own builders make its data folder of the made-up official files.
"""

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import urllib.request

import made_up
import pytest

tfds = pytest.importorskip("tensorflow_datasets")
import tfds_folder  # noqa: E402

from prompt_tuning_jax import tasks  # noqa: E402
from prompt_tuning_jax.errors import UserError  # noqa: E402
from prompt_tuning_jax.tasks.sources import Tfds  # noqa: E402

# Task -> TFDS's name. MRPC is apart: its official files have no validation split.
SUPER_GLUE = "boolq cb copa multirc record rte wic axb axg".split()
GLUE = "cola sst2 stsb qqp mnli mnli_mismatched qnli rte wnli ax".split()
NAMES = (
    {f"super_glue_{name}": f"super_glue/{name}" for name in SUPER_GLUE}
    | {f"glue_{name}": f"glue/{name}" for name in GLUE}
    | {
        "super_glue_wsc": "super_glue/wsc.fixed",
        "squad": "squad/v1.1",
        "xquad_en": "xquad/en",
        "mrqa_drop": "mrqa/drop",
        "mrqa_news_qa": "mrqa/news_qa",
    }
)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return made_up.write(tmp_path_factory.mktemp("official"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT_TUNING_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_those_of_the_official_files(official, tmp_path, name):
    tfds_folder.prepare(NAMES[name], official, tmp_path)
    task = tasks.get(name)
    for split in task.source.splits:
        examples = task.examples(split, str(tmp_path))
        assert examples == task.examples(split, str(official))


def test_mrpc(official, tmp_path):
    # TFDS takes its validation split out of the training file, by GLUE's list.
    tfds_folder.prepare("glue/mrpc", official, tmp_path)
    task = tasks.get("glue_mrpc")
    both = [e for split in ("train", "validation") for e in task.examples(split, str(tmp_path))]
    assert both == task.examples("train", str(official))
    (transferred,) = tasks.get("glue_mrpc_from_qqp").examples("validation", str(tmp_path))
    assert transferred == both[-1]


def rte(folder, premise):
    """TFDS's folder of three RTE pairs that begin with `premise`."""
    rows = [{"premise": f"{premise} {i}", "hypothesis": "b", "idx": i} for i in range(3)]
    (folder / "official/RTE").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        lines = "".join(json.dumps(row | {"label": "entailment"}) + "\n" for row in rows)
        (folder / f"official/RTE/{split}.jsonl").write_text(lines)
    tfds_folder.prepare("super_glue/rte:1.0.2", folder / "official", folder / "data")
    return str(folder / "data")


def premises(data_dir):
    examples = tasks.get("super_glue_rte").examples("train", data_dir)
    return [e["inputs"].split("premise: ")[1] for e in examples]


def test_folders_are_kept_apart(tmp_path, monkeypatch):
    one, other = rte(tmp_path / "one", "cat"), rte(tmp_path / "other", "dog")
    for _ in range(2):
        assert premises(one) == ["cat 0", "cat 1", "cat 2"]
        assert premises(other) == ["dog 0", "dog 1", "dog 2"]
    # The same folder, written anew.
    made = tmp_path / "one/data/super_glue/rte/1.0.2"
    made.rename(tmp_path / "old")
    rte(tmp_path / "one", "bee")
    assert premises(one) == ["bee 0", "bee 1", "bee 2"]


@pytest.fixture
def mocked(monkeypatch):
    """TFDS's own stand-in for its data, behind a proxy, so that no host need be known here."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return tfds.testing.mock_data


def test_without_a_data_dir_tfds_chooses_the_folder(tmp_path, mocked):
    with mocked(num_examples=2):
        tasks.get("super_glue_rte").examples("train")
    # The copy of those records is not that of another folder.
    program = """
        from prompt_tuning_jax import tasks
        for example in tasks.get("super_glue_rte").examples("train"):
            print(example["inputs"])
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    env = os.environ | {"TFDS_DATA_DIR": rte(tmp_path, "cat")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert done.stdout.splitlines() == [f"rte hypothesis: b premise: cat {i}" for i in range(3)]


def test_official_files_go_before_tfds(tmp_path):
    data_dir = rte(tmp_path, "cat")
    line = {"premise": "owl", "hypothesis": "b", "label": "entailment"}
    (tmp_path / "data/RTE").mkdir()
    (tmp_path / "data/RTE/train.jsonl").write_text(json.dumps(line))
    assert premises(data_dir) == ["owl"]


def test_a_stray_file_beside_tfds(tmp_path):
    data_dir = rte(tmp_path, "cat")
    (tmp_path / "data/train.jsonl").write_text('{"text": "a user\'s own"}')
    assert premises(data_dir)[0] == "cat 0"
    origin = tasks.get("super_glue_rte").source.origin("train", data_dir)
    assert origin == f"TFDS's {tmp_path}/data/super_glue/rte/1.0.2"


def test_the_newest_version_goes_before_others(tmp_path):
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        (tmp_path / "glue/cola" / version).mkdir(parents=True)
        (tmp_path / "glue/cola" / version / "dataset_info.json").touch()
    assert Tfds("glue/cola:1.2.0").folder(str(tmp_path)).name == "1.2.0"
    assert Tfds("glue/cola:2.0.0").folder(str(tmp_path)).name == "1.10.0"


def test_another_version_will_do(official, tmp_path):
    # T5's tasks read GLUE 1.0.0
    tfds_folder.prepare("glue/cola:1.0.0", official, tmp_path)
    task = tasks.get("glue_cola")
    assert task.examples("train", str(tmp_path)) == task.examples("train", str(official))


def test_damaged_data_set(tmp_path):
    data_dir = rte(tmp_path, "cat")
    made = tmp_path / "data/super_glue/rte/1.0.2"
    for file in made.glob("*train*"):
        file.write_bytes(b"nothing")
    error = rf"TFDS cannot read {made} \(Input dataset .* only 0 elements\.\); prepare it again"
    with pytest.raises(UserError, match=error):
        premises(data_dir)


def test_neither_files_nor_tfds(tmp_path):
    with pytest.raises(UserError, match=r"looked for train.jsonl in .*, and for TFDS's super"):
        premises(str(tmp_path))
    with pytest.raises(UserError, match="has no folder super_glue/rte:1.0.2 of TFDS"):
        list(Tfds("super_glue/rte:1.0.2").records("train", str(tmp_path)))


def test_tfds_is_read_once(tmp_path, mocked):
    source = Tfds("super_glue/rte:1.0.2")
    with mocked(num_examples=5):
        records = list(source.records("validation"))
    assert len(records) == 5
    assert {"premise", "hypothesis", "label", "idx", "_at"} == records[0].keys()
    assert {record["label"] for record in records} <= {0, 1}
    # Another process, which has no data set and no TensorFlow, reads the copy.
    program = """
        import json, sys
        from prompt_tuning_jax import tasks
        task = tasks.get("super_glue_rte")
        examples = task.examples("validation")
        assert "tensorflow" not in sys.modules
        print(json.dumps(examples))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    words = ("entailment", "not_entailment")
    assert json.loads(done.stdout) == [
        {
            "idx": record["idx"],
            "inputs": f"rte hypothesis: {record['hypothesis']} premise: {record['premise']}",
            "targets": words[record["label"]],
        }
        for record in records
    ]


def test_tfds_that_cannot_be_read():
    with pytest.raises(UserError, match="TFDS cannot read super_glue/no_such_task:1.0.2"):
        list(Tfds("super_glue/no_such_task:1.0.2").records("train"))


def test_no_network(tmp_path, monkeypatch):
    """TFDS itself would try for more than ten minutes."""

    def unknown(host, port):
        raise OSError("Name or service not known")

    monkeypatch.setenv("PROMPT_TUNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    with pytest.raises(UserError) as caught:
        list(Tfds("super_glue/rte:1.0.2").records("train"))
    assert re.fullmatch(
        r"TFDS cannot read super_glue/rte:1\.0\.2 \(no network: dl\.fbaipublicfiles\.com cannot be "
        r"found\); name the folder of the official files",
        str(caught.value),
    )


def test_what_tfds_imports_and_does_not_declare(tmp_path):
    # its list of downloads is a file of its package, which importlib_resources finds
    assert any("RTE.zip" in address for address in tfds.builder("super_glue/rte").url_infos)
