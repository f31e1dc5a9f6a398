"""Artifacts of several prompts in one batch: each text is answered as by its own prompt alone."""

import json
import pathlib

import pytest
import tiny_run

from prompt_tuning_jax import load

TEXTS = ["a fine film", "dull and long", "the cat sat on a mat", "a good song", "a bad play"]
NAMES = ["b", "a", "a", "b", "c"]


@pytest.fixture(scope="module", params=["True", "False"], ids=["joined", "apart"])
def trained(request, tmp_path_factory):
    """A job, and the artifacts of three prompts by name."""
    job = tiny_run.Job(tmp_path_factory.mktemp("mixed"))
    runs = {name: {"RANDOM_SEED": i} for i, name in enumerate("abc")}
    flags = [f"--gin.RUNS={json.dumps(runs)}", "--gin.prompt.Prompt.sees_input=" + request.param]
    job.ok("train", *tiny_run.training(), *flags, MODEL_DIR="runs", EVAL_TASKS=[])
    return job, {name: str(job.folder / "runs" / name / "artifact") for name in runs}


def infer(job, artifacts, lines, *flags):
    (job.folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = f"--gin.ARTIFACT={json.dumps(artifacts)}"
    return job.run("infer", given, "--input=lines.jsonl", *flags)


def test_a_batch_mixes_prompts(trained, monkeypatch):
    job, artifacts = trained
    lines = [{"inputs": t, "prompt": n} for t, n in zip(TEXTS, NAMES, strict=True)]
    done = infer(job, artifacts, lines, "--gin.BATCH_SIZE=4")
    assert done.status == 0, done.err
    said = [json.loads(line) for line in done.out.splitlines()]
    assert [{k: line[k] for k in ("inputs", "prompt")} for line in said] == lines
    monkeypatch.chdir(job.folder)
    with tiny_run.quickly():
        each = {n: load(pathlib.Path(path)) for n, path in artifacts.items()}
        alone = {n: one.predict(TEXTS, batch_size=4) for n, one in each.items()}
    assert len({tuple(texts) for texts in alone.values()}) == 3
    assert [line["prediction"] for line in said] == [alone[n][i] for i, n in enumerate(NAMES)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            {"inputs": "a", "prompt": "d"},
            "lines.jsonl:2: \"prompt\" is 'd', none of ['a', 'b'",
        ),
        ({"inputs": "a"}, "lines.jsonl:2: \"prompt\" is None, none of ['a', 'b', 'c']"),
    ],
)
def test_each_line_names_one_of_the_prompts(trained, line, said):
    job, artifacts = trained
    done = infer(job, artifacts, [{"inputs": "a", "prompt": "a"}, line])
    assert (done.status, done.out) == (2, "") and said in done.err


def test_no_artifact_is_not_the_plain_model(trained):
    job, _ = trained
    done = infer(job, {}, [{"inputs": "a"}], "--backbone=backbone")
    assert (done.status, done.out) == (2, "") and "ARTIFACT = {}: write" in done.err


def test_prompts_of_another_length_do_not_mix(trained):
    job, artifacts = trained
    job.train("longer", "--gin.PROMPT_LENGTH=7", EVAL_TASKS=[])
    both = {"a": artifacts["a"], "longer": str(job.folder / "longer" / "artifact")}
    done = infer(job, both, [{"inputs": "a", "prompt": "a"}])
    assert done.status == 2 and "artifacts of one batch have the same" in done.err


def test_only_prompts_mix(trained):
    job, _ = trained
    job.train("lora", method="lora", EVAL_TASKS=[])
    path = str(job.folder / "lora" / "artifact")
    done = infer(job, {"a": path, "b": path}, [{"inputs": "a", "prompt": "a"}])
    assert done.status == 2 and "artifacts of LoRA cannot share a batch: load one" in done.err
