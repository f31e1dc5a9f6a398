"""show_task on made-up files, on real ones with T5's vocabulary, and where something is missing."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tiny_vocabulary

from prompt_tuning_jax import launch
from prompt_tuning_jax.vocabulary import Vocabulary

REVIEWS = """
from __gin__ import dynamic_registration
from prompt_tuning_jax.tasks import text_files
include "runs/show_task.gin"

MIXTURE_OR_TASK_NAME = @text_files.Text()
TASK_FEATURE_LENGTHS = {"inputs": 9, "targets": 12}
text_files.Text:
  name = "reviews"
  train = "train.jsonl"
  validation = "absent.jsonl"
  inputs = "{text}"
  label_words = {"0": "good", "1": "bad"}
"""
MIXTURE = """
include "runs/show_task.gin"
MIXTURE_OR_TASK_NAME = {"super_glue_rte": 2.5, "super_glue_cb": "proportional"}
"""
PAIR = {"premise": "a cat\\nsat", "hypothesis": "it sat", "idx": 0, "label": "entailment"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMPT_TUNING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("PROMPT_TUNING_VOCABULARY", raising=False)
    tiny_vocabulary.train(tmp_path)
    write(tmp_path / "RTE" / "val.jsonl", PAIR)
    return tmp_path


@pytest.fixture
def show(folder, capsys):
    """Runs the command -> its lines; with `status` 2 the lines of its error."""

    def run(*argv, status=0):
        assert launch.main("show_task", argv) == status
        out, err = capsys.readouterr()
        assert (err if status == 0 else out) == ""
        return (err if status else out).splitlines()

    return run


def write(path, *records):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def row(lines, split):
    """The numbers of a split: its size, then median, 95 %, longest and cut of both features."""
    (start,) = (n for n, line in enumerate(lines) if re.match(rf"  {split} +\d", line))
    return [[float(n) for n in re.findall(r"[\d.]+", line)] for line in lines[start : start + 2]]


def after(lines, title):
    """The lines that stand indented below the first `title`."""
    start = next(n for n, line in enumerate(lines) if re.fullmatch(rf"    {title}", line)) + 1
    end = next((n for n, line in enumerate(lines[start:], start) if line[:6].strip()), len(lines))
    return [line.strip() for line in lines[start:end]]


def test_a_task_of_made_up_files(show, folder):
    texts = ["a " * n for n in range(1, 12)] + ["a good film with a fine song " * 30]
    write(folder / "train.jsonl", *({"text": t, "label": n % 2} for n, t in enumerate(texts)))
    (folder / "reviews.gin").write_text(REVIEWS)
    flags = ["--gin_file=reviews.gin", "--vocabulary=tiny.model", "--gin.EXTRA_IDS=10"]
    lines = show(*flags, "--gin.EXAMPLES=12")
    vocabulary = Vocabulary("tiny.model", 10)
    assert lines[:2] == [
        "vocabulary tiny.model (as given),",
        f"  {vocabulary.pieces} pieces and 10 sentinels",
    ]
    assert "reviews" in lines
    assert "  label words  good, bad" in lines
    assert "  metrics      accuracy" in lines and "  selection    accuracy" in lines
    sizes = np.array([len(vocabulary.encode(text.strip())) + 1 for text in texts])
    inputs, targets = row(lines, "train")
    share = round(100 * np.mean(sizes > 9), 1)
    middle = np.percentile(sizes, (50, 95)).round()
    assert inputs == [12, *middle, max(sizes), np.sum(sizes > 9), share, 9]
    assert targets[-3:] == [0, 0, 12]
    (absent,) = (line for line in lines if line.startswith("  validation"))
    assert "data file absent.jsonl: No such file" in absent
    # the first example, then the last, which is cut and whose text is shown in part
    ids = [*vocabulary.encode(texts[0]), 1]
    assert after(lines, "inputs") == ["a"]
    assert after(lines, f"{len(ids)} ids") == [" ".join(map(str, ids))]
    assert after(lines, "pieces") == [" ".join(map(vocabulary.piece, ids))]
    last = lines[lines.index("  reviews/train, example 11") :]
    assert [line == "…" for line in after(last, "inputs")] == [False] * 3 + [True, False]
    ids = [*vocabulary.encode(texts[-1])[:8], 1]
    assert after(last, f"9 ids, cut from {sizes[-1]}") == [" ".join(map(str, ids))]
    assert max(len(line) for line in last) <= 80


def test_each_task_of_a_mixture_with_its_rate(show, folder):
    write(folder / "CB" / "train.jsonl", *(PAIR | {"idx": idx} for idx in range(3)))
    (folder / "mixture.gin").write_text(MIXTURE)
    flags = ["--gin_file=mixture.gin", "--data_dir=.", "--vocabulary=tiny.model"]
    lines = show(*flags)
    second = lines.index("super_glue_cb, rate proportional")
    assert lines.index("super_glue_rte, rate 2.5") < second
    assert row(lines[:second], "validation")[0][0] == 1
    assert row(lines[second:], "train")[0][0] == 3
    assert "  train        from ./CB/train.jsonl" in lines[second:]
    assert "  metrics      mean_3class_f1, accuracy" in lines[second:]
    assert "  selection    mean_3class_f1 and accuracy" in lines[second:]
    # a line's end inside a text stays within its line
    assert "rte hypothesis: it sat premise: a cat\\nsat" in after(lines, "inputs")


def test_which_vocabulary_it_is(show, folder, monkeypatch):
    task = ["super_glue_rte", "--data_dir=."]
    assert "builtin/demo/sentencepiece.model (the built-in backbone's;" in show(*task)[0]
    monkeypatch.setenv("PROMPT_TUNING_VOCABULARY", "tiny.model")
    assert show(*task)[0] == "vocabulary tiny.model ($PROMPT_TUNING_VOCABULARY),"
    shown = show(*task, "--backbone=builtin://demo")[0]
    assert "builtin/demo/sentencepiece.model (that of builtin://demo)," in shown
    both = show(*task, "--backbone=builtin://demo", "--vocabulary=tiny.model")
    assert both[0] == "vocabulary tiny.model (as given),"


def test_a_split_without_labels_and_a_pretraining_task(show, folder):
    lines = show("super_glue_rte", "--data_dir=.", "--split=validation", "--gin.EXAMPLES=0")
    assert row(lines, "validation")[0][0] == 1
    assert not any(line.startswith("  train") or "example 0" in line for line in lines)
    (folder / "RTE" / "val.jsonl").unlink()
    write(folder / "RTE" / "test.jsonl", {"premise": "a", "hypothesis": "b", "idx": 0})
    lines = show("taskless_super_glue_rte", "--data_dir=.")
    assert "  metrics      only a split with labels tells" in lines
    assert after(lines, "targets") == ["(empty)"]
    lines = show("demo_span_corruption", "--split=validation", "--gin.EXAMPLES=1")
    assert "  metrics      none: it is not decoded" in lines
    assert "<extra_id_0>" in "".join(after(lines, "inputs"))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["super_glue_rtee"], "no task 'super_glue_rtee'; did you mean super_glue_rte?"),
        (["super_glue_cb", "--data_dir=."], "no file of split 'train': looked for train.jsonl"),
        (["super_glue_rte", "--split=dev", "--data_dir=."], "has no split 'dev'; it has train"),
        (["super_glue_rte", "--vocabulary=absent"], "vocabulary absent: No such file"),
        (["super_glue_rte", "--backbone=absent"], "absent: no such backbone folder"),
        (["super_glue_rte", "super_glue_cb"], "unexpected argument 'super_glue_cb'"),
        (["super_glue_rte", "--gin.EXAMPLES=-1"], "EXAMPLES = -1: 0 or more"),
        (["super_glue_rte", "--task=super_glue_cb"], "super_glue_rte and --task="),
        (["--task=super_glue_cb", "super_glue_rte"], "super_glue_rte and --task="),
        ([], "a value is missing: give --task=…"),
        (
            ["super_glue_rte", "--data_dir=.", "--gin.TASK_FEATURE_LENGTHS={'inputs': 1}"],
            "TASK_FEATURE_LENGTHS {'inputs': 1}",
        ),
    ],
)
def test_bad_input(show, argv, said):
    (error,) = show(*argv, status=2)
    assert error.startswith("error: ") and said in error


def test_a_broken_split_says_where(show, folder):
    write(folder / "RTE" / "train.jsonl", PAIR | {"label": "maybe"})
    lines = show("super_glue_rte", "--data_dir=.")
    (broken,) = (line for line in lines if line.startswith("  train "))
    assert "RTE/train.jsonl:1: label 'maybe' is not one of entailment" in broken
    write(folder / "RTE" / "test.jsonl", PAIR, {"premise": "a", "hypothesis": "b", "idx": 1})
    lines = show("super_glue_rte", "--data_dir=.")
    (broken,) = (line for line in lines if line.startswith("  test "))
    assert "RTE/test.jsonl:2: no label, unlike the examples before it" in broken


def test_help_names_the_task(show):
    lines = show("--help")
    assert lines[0] == "python -m prompt_tuning_jax.show_task TASK [--gin.NAME=VALUE …]"
    assert any(line.startswith("  --vocabulary=…") for line in lines)


# ---- real data -------------------------------------------------------------------------------


def test_rte_with_the_vocabulary_of_t5(show, shared):
    vocabulary = shared / "data" / "vocab" / "cc_all.32000.sentencepiece.model"
    folder = shared / "data" / "superglue"
    lines = show("super_glue_rte", f"--data_dir={folder}", f"--vocabulary={vocabulary}")
    assert lines[1] == "  32000 pieces and 100 sentinels"
    sizes = [row(lines, split)[0][0] for split in ("train", "validation", "test")]
    assert sizes == [2490, 277, 3000]
    # "rte hypothesis: Weapons of Mass Destruction Found in Iraq. premise: No Weapons of …"
    ids = " ".join(after(lines, "32 ids")).split()
    assert ids[:7] == ["3", "52", "17", "15", "22455", "10", "30785"] and ids[-1] == "1"
    assert after(lines, "targets") == ["not_entailment"]
    assert sum("/train, example" in line for line in lines) == 3


def test_official_files_need_neither_jax_nor_tensorflow(folder):
    argv = ["super_glue_rte", "--data_dir=.", "--vocabulary=tiny.model"]
    code = f"""
import sys
from prompt_tuning_jax.launch import main
assert main("show_task", {argv!r}) == 0
print(sorted({{"jax", "flax", "tensorflow", "seqio"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
