"""Several runs in one job: each is the run that it would be alone."""

import json
import shutil

import numpy as np
import pytest
import tiny_run

# what each differs in, as RUNS has it and as a run alone is told
RUNS = {
    "plain": "{}",
    "seed": '{"RANDOM_SEED": 3}',
    "slow": '{"LEARNING_RATE": 0.003, "K_SHOT": 2}',
    "text": '{"PROMPT_START": @prompt_init.Text()}',
}
TEXT = '--gin.prompt_init.Text.text="a fine song"'
# at a higher rate the last bits grow into other runs
SETTINGS = {"EVAL_PERIOD": 4, "TRAIN_STEPS": 12, "CHECKPOINT_PERIOD": 6, "LEARNING_RATE": 0.02}


def _runs(*names):
    return "{" + ", ".join(f'"{name}": {RUNS[name]}' for name in names) + "}"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return tiny_run.Job(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module", params=[1, 3], ids=["one after the other", "three at once"])
def together(request, job):
    """The MODEL_DIR of all of RUNS in one job, and the command's end."""
    done = job.ok(
        "train",
        *tiny_run.training(),
        TEXT,
        f"--gin.RUNS={_runs(*RUNS)}",
        MODEL_DIR=f"together{request.param}",
        RUNS_AT_ONCE=request.param,
        **SETTINGS,
    )
    return job.folder / f"together{request.param}", done


def _close(one, other):
    """The same reports, best step and artifact, to float tolerance."""
    pairs = list(zip(tiny_run.metrics(one), tiny_run.metrics(other), strict=True))
    assert len(pairs) > 4
    for left, right in pairs:
        assert left.keys() == right.keys() and left["kind"] == right["kind"]
        for name in left.keys() - {"kind"}:
            assert left[name] == pytest.approx(right[name], rel=1e-5, abs=1e-6), (name, left)
    _close_artifacts(one, other)


def _close_artifacts(one, other):
    """The same best step and artifact, to float tolerance."""
    facts = [json.loads((d / "artifact" / "artifact.json").read_text()) for d in (one, other)]
    assert facts[0]["step"] == facts[1]["step"]
    assert facts[0]["method"] == facts[1]["method"] and facts[0]["backbone"] == facts[1]["backbone"]
    left, right = (tiny_run.tensors(d / "artifact") for d in (one, other))
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_allclose(left[name], right[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_each_run_is_what_it_is_alone(job, together, name):
    own = json.loads(RUNS[name]) if name != "text" else {"PROMPT_START": "@prompt_init.Text()"}
    flags = [f"--gin.{key}={value}" for key, value in own.items()]
    text = [TEXT] if name == "text" else []
    settings = {k: v for k, v in SETTINGS.items() if k not in own}
    alone = job.train(f"alone_{name}", *flags, *text, **settings)
    _close(together[0] / name, alone)


def test_the_runs_differ(together):
    prompts = [tiny_run.tensors(together[0] / n / "artifact")["shared/prompt"] for n in RUNS]
    for i, one in enumerate(prompts):
        assert all(np.abs(one - other).max() > 1e-3 for other in prompts[:i])


def test_every_run_goes_on_from_its_own_checkpoint(job, together):
    """One lost its checkpoint: it takes the steps again that the others have behind them."""
    halfway = job.folder / f"halfway_{together[0].name}"
    flags = [*tiny_run.training(), TEXT, f"--gin.RUNS={_runs(*RUNS)}"]
    job.ok("train", *flags, MODEL_DIR=halfway, **SETTINGS | {"TRAIN_STEPS": 6})
    shutil.rmtree(halfway / "seed" / "checkpoints")
    job.ok("train", *flags, MODEL_DIR=halfway, **SETTINGS)
    for name in RUNS:
        left, right = (
            {
                line["step"]: line["loss"]
                for line in tiny_run.metrics(folder / name)
                if line["kind"] == "train"
            }
            for folder in (halfway, together[0])
        )
        assert sorted(left) == list(range(1, 13))
        assert left == pytest.approx(right, rel=1e-5)


def _last_steps(folder):
    return {
        run.name: max(line["step"] for line in tiny_run.metrics(run)) for run in folder.iterdir()
    }


def test_a_run_that_stops_early_leaves_the_others_going(job):
    """The one at a rate of almost 0 has no better evaluation than its first."""
    model_dir = job.folder / "early"
    runs = '{"still": {"LEARNING_RATE": 1e-9}, "moving": {"LEARNING_RATE": 3.0}}'
    settings = {"EVAL_PERIOD": 2, "EARLY_STOPPING": 2, "TRAIN_STEPS": 16}
    flags = [f"--gin.RUNS={runs}", "--gin.DECODER=@decoding.Rank()"]
    job.ok("train", *tiny_run.training(), *flags, MODEL_DIR=model_dir, **settings)
    steps = _last_steps(model_dir)
    assert steps["still"] == 6  # the first, and two that are no better
    assert steps["moving"] > 6


def test_what_is_said_names_its_run(together):
    folder, done = together
    assert sorted(f.name for f in folder.iterdir()) == sorted(RUNS)
    for name in RUNS:
        assert f"{name}, step 4: reviews accuracy" in done.err


def test_a_folder_of_one_run_is_not_for_several(job, together):
    folder = together[0] / "plain"
    done = job.run("train", *tiny_run.training(), '--gin.RUNS={"a": {}}', MODEL_DIR=folder)
    assert done.status == 2 and "RUNS need another MODEL_DIR" in done.err
    assert not (folder / "a").exists()


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ("[1]", "RUNS = [1]: write"),
        ("{}", "RUNS = {}: write"),
        ('{"a/b": {}}', "RUNS: 'a/b' is no folder's name"),
        ('{"..": {}}', "RUNS: '..' is no folder's name"),
        ('{"a": {"RANDOM_SEED": "x"}}', "RUNS: 'a' sets RANDOM_SEED = 'x': it must be int"),
        ('{"a": {"K_SHOT": 1.5}}', "RUNS: 'a' sets K_SHOT = 1.5: it must be int | None"),
        ('{"a": {"LEARNING_RATE": "x"}}', "LEARNING_RATE = 'x': it must be float"),
        ('{"a": {"PROMPT_START": 1}}', "PROMPT_START = 1: one such as @"),
        ('{"a": {"BATCH_SIZE": 3}}', "RUNS: 'a' sets BATCH_SIZE; runs may differ in MIXTURE"),
        ('{"a": {"INITIAL_ARTIFACT": "x"}, "b": {}}', "INITIAL_ARTIFACT is for all runs or none"),
    ],
)
def test_what_runs_cannot_be(job, runs, said):
    done = job.run("train", *tiny_run.training(), f"--gin.RUNS={runs}", MODEL_DIR="wrong")
    assert done.status == 2
    assert said in done.err and done.err.count("\n") == 1
    assert not (job.folder / "wrong").exists()


def test_a_start_is_a_prompt_s(job):
    runs = '--gin.RUNS={"a": {"PROMPT_START": 1}}'
    done = job.run("train", *tiny_run.training("lora"), runs, MODEL_DIR="wrong")
    assert "RUNS: 'a' sets PROMPT_START, and LoRA has no start" in done.err


def test_runs_that_were_stopped_leave_a_resumed_job_to_the_others(job):
    """The one that stopped at step 6 is due before the one that goes on at 8."""
    runs = '{"still": {"LEARNING_RATE": 1e-9}, "moving": {"LEARNING_RATE": 3.0}}'
    flags = [*tiny_run.training(), f"--gin.RUNS={runs}", "--gin.DECODER=@decoding.Rank()"]
    settings = {"EVAL_PERIOD": 2, "CHECKPOINT_PERIOD": 2, "EARLY_STOPPING": 2}
    ends = []
    for steps in (8, 10, 10):  # the last has nothing left to do
        job.ok("train", *flags, MODEL_DIR="resumed", **settings, TRAIN_STEPS=steps)
        ends.append(_last_steps(job.folder / "resumed"))
    assert ends == [{"still": 6, "moving": steps} for steps in (8, 10, 10)]


def test_runs_of_model_tuning_have_a_model_each(job):
    settings = {"TRAIN_STEPS": 2, "EVAL_PERIOD": 2}
    runs = '--gin.RUNS={"a": {}, "b": {"RANDOM_SEED": 3}, "c": {}}'
    flags = [*tiny_run.training("full"), "--gin.LEARNING_RATE=0.03"]
    for at_once in (1, 3):
        together = f"full{at_once}"
        job.ok("train", *flags, runs, MODEL_DIR=together, RUNS_AT_ONCE=at_once, **settings)
        job.ok("train", *flags, MODEL_DIR=f"{together}_alone", RANDOM_SEED=3, **settings)
        _close_artifacts(job.folder / together / "b", job.folder / f"{together}_alone")


def test_nothing_is_written_before_every_run_can_go_on(job):
    """The second run's kept artifact is gone."""
    flags = [*tiny_run.training(), '--gin.RUNS={"a": {}, "b": {"RANDOM_SEED": 3}}']
    settings = {"TRAIN_STEPS": 2, "EVAL_PERIOD": 2, "ARTIFACT_STEPS": "[1]"}
    job.ok("train", *flags, MODEL_DIR="gone", **settings)
    shutil.rmtree(job.folder / "gone" / "b" / "artifacts" / "1")
    before = {
        f: f.stat().st_mtime_ns for f in (job.folder / "gone" / "a").rglob("*") if f.is_file()
    }
    done = job.run("train", *flags, MODEL_DIR="gone", **settings | {"TRAIN_STEPS": 4})
    assert done.status == 2 and "did not keep its artifact" in done.err
    after = {f: f.stat().st_mtime_ns for f in (job.folder / "gone" / "a").rglob("*") if f.is_file()}
    assert after == before
