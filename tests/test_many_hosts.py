"""Several real processes on this machine, gloo between them: the numbers of one process."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny_run

from prompt_tuning_jax import hosts, preemption
from prompt_tuning_jax.errors import UserError

SCRIPT = pathlib.Path(__file__).with_name("on_many_hosts.py")
SCRIPTS = SCRIPT.parents[1] / "scripts"
SECONDS = 600  # for what takes 20 on a machine that does nothing else
ACROSS = "--gin.MESH={'data': 2, 'model': 2}"


class Together:
    """Processes that run the same jobs, each in its folder; killed where the test leaves first."""

    def __init__(self, folders, *jobs, devices=1, seconds=SECONDS):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.end = time.monotonic() + seconds
        self.processes, self.outputs = [], []
        env = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "JAX_PLATFORMS": "cpu",
            "PYTHONUNBUFFERED": "1",
            tiny_run.QUICK.upper(): "1",
        }
        for index, folder in enumerate(folders):
            output = folder / f"output.{index}"
            command = [json.dumps(jobs), address, str(len(folders)), str(index)]
            with output.open("w") as file:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, SCRIPT, *command],
                        cwd=folder,
                        env=env,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                    )
                )
            self.outputs.append(output)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def statuses(self):
        """How they ended; none is waited for longer than `seconds` in all."""
        return [p.wait(max(self.end - time.monotonic(), 1)) for p in self.processes]

    def lines(self, index):
        """What one printed, but for what gloo says of itself."""
        lines = self.outputs[index].read_text().splitlines()
        return [line for line in lines if not line.startswith("[Gloo]")]

    def until(self, found):
        """Waits until `found()`."""
        while not found():
            assert time.monotonic() < self.end and all(p.poll() is None for p in self.processes)
            time.sleep(0.1)


def flags(method, steps, **macros):
    macros = {"MODEL_DIR": f"chain_{method}", "TRAIN_STEPS": steps, **macros}
    more = [f"--gin.{name}={value}" for name, value in macros.items()]
    return [*tiny_run.training(method), *more, "--gin.NUM_MICROBATCHES=2"]


# ---- the numbers of one process ------------------------------------------------------------
@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """12 steps of one process; and in another folder 4 of one, then of the prompt, which lies whole
    on every device, 8 of two; of the whole model 4 of four, then 4 of one."""
    job = tiny_run.Job(tmp_path_factory.mktemp("many_hosts"))
    evaluated = ["evaluate", "--artifact=one_prompt/artifact", "--gin_file=runs/evaluate.gin"]
    evaluated += ["--gin_file=reviews.gin", "--output=predicted", "--gin.BATCH_SIZE=8"]
    for method in ("prompt", "full"):
        job.ok("train", *flags(method, 12, MODEL_DIR=f"one_{method}"))
        job.ok("train", *flags(method, 4))
    found = {"alone": job.ok(*evaluated).result}
    shutil.move(job.folder / "predicted", job.folder / "predicted_alone")
    with Together(
        [job.folder] * 2,
        ["train", *flags("prompt", 12)],
        evaluated,
        devices=2,
    ) as two:
        found["two"] = two.statuses(), [two.lines(i) for i in range(2)]
    with Together(
        [job.folder] * 4,
        ["train", *flags("full", 8), ACROSS],
    ) as four:
        found["four"] = four.statuses(), [four.lines(i) for i in range(4)]
    job.ok("train", *flags("full", 12))
    return job.folder, found


@pytest.mark.parametrize("method", ["prompt", "full"])
def test_one_two_four_and_one_process_end_as_one_does(done, method):
    folder, found = done
    assert found["two"][0] == [0, 0] and found["four"][0] == [0] * 4
    alone, chain = (
        tiny_run.metrics(folder / f"one_{method}"),
        tiny_run.metrics(folder / f"chain_{method}"),
    )
    # a line each, of the first process alone
    assert [(m["kind"], m["step"]) for m in chain] == [(m["kind"], m["step"]) for m in alone]
    for ours, theirs in zip(chain, alone, strict=True):
        assert ours.pop("kind") == theirs.pop("kind")
        assert ours == pytest.approx(theirs, rel=2e-3, abs=1e-5)
    for step in (4, 8, 12):
        file = f"predictions/{step}/reviews.jsonl"
        texts = [(folder / f"{kind}_{method}" / file).read_text() for kind in ("one", "chain")]
        assert texts[0] == texts[1] and texts[0].count("\n") == len(tiny_run.VALIDATION)
    for name, value in tiny_run.tensors(folder / f"one_{method}" / "artifact").items():
        other = tiny_run.tensors(folder / f"chain_{method}" / "artifact")[name]
        np.testing.assert_allclose(other, value, rtol=0, atol=1e-4 * np.abs(value).max())


def test_evaluating_together_gives_the_metrics_and_predictions_of_one(done):
    folder, found = done
    ours, alone = json.loads(found["two"][1][0][-1]), found["alone"]
    assert ours["metrics"] == pytest.approx(alone["metrics"], rel=1e-4)
    assert ours["metrics"]["accuracy"] == alone["metrics"]["accuracy"]
    texts = [(folder / f / "reviews.jsonl").read_text() for f in ("predicted", "predicted_alone")]
    assert texts[0] == texts[1]


def test_the_first_process_alone_speaks_and_writes(done):
    folder, found = done
    for _, (first, *others) in (found["two"], found["four"]):
        assert any("step" in line for line in first) and not any(others)
    # an event file each start
    assert len([*(folder / "chain_full" / "tensorboard").iterdir()]) == 3


# ---- what each of four is told -------------------------------------------------------------------
@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folders = [tmp_path_factory.mktemp("hosts") for _ in range(4)]
    with Together(folders, ["facts"]) as four:
        assert four.statuses() == [0] * 4, [four.lines(i) for i in range(4)]
    return [json.loads((f / f"facts.{i}.json").read_text()) for i, f in enumerate(folders)]


def test_each_process_makes_the_rows_that_its_devices_hold(told):
    for index, facts in enumerate(told):
        pieces = facts["pieces"]
        assert pieces["4x1"]["share"] == [index, 4]
        # the model axis goes through two processes, which hold the same rows
        assert pieces["2x2"]["share"] == [index // 2, 2]
        assert pieces["1x4"]["share"] == [0, 1]
        (rows,) = pieces["2x2"]["held"].values()
        assert rows == list(range(4 * (index // 2), 4 * (index // 2) + 4))
    held = [
        row for facts in told for rows in facts["pieces"]["4x1"]["held"].values() for row in rows
    ]
    assert held == list(range(8))


def test_what_one_process_knows_the_others_are_told(told):
    assert [facts["first"] for facts in told] == [True, False, False, False]
    assert all(facts["gathered"] == [[i, 7] for i in range(4)] for facts in told)


def test_a_sigterm_before_the_first_step_is_told_at_one_of_all(told):
    (stopped,) = {facts["stopped"] for facts in told}
    assert 501 <= stopped < 600


def test_a_mesh_that_leaves_a_process_out_and_folders_that_are_not_shared_are_refused(told):
    for index, facts in enumerate(told):
        assert "leaves some of the 4 processes without a device" in facts["one_device"]
        assert ("must be on a file system that all hosts share" in facts["unshared"]) == (index > 0)


# ---- the end of one is the end of all ------------------------------------------------------------
@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders with the same job."""
    jobs = [tiny_run.Job(tmp_path_factory.mktemp("host")) for _ in range(2)]
    return [job.folder for job in jobs]


def test_an_error_of_all_is_one_line_and_the_same_status(folders):
    env = os.environ | {"PYTHON": sys.executable, "JAX_PLATFORMS": "cpu"}
    command = [SCRIPTS / "processes.sh", "2", "train", *flags("prompt", 4, BATCH_SIZE=3)]
    options = {"cwd": folders[0], "env": env, "timeout": SECONDS}
    done = subprocess.run(command, capture_output=True, text=True, **options)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "[Gloo]" not in line]
    assert done.returncode == 2 and len(said) == 1
    assert said[0].startswith("error: BATCH_SIZE = 3 is no multiple of MESH data 2")


def test_an_error_of_one_is_told_by_the_first_and_all_leave(folders):
    (folders[1] / "validation.jsonl").rename(folders[1] / "elsewhere.jsonl")
    with Together(folders, ["train", *flags("prompt", 4)]) as two:
        assert two.statuses() == [2, 2]
        (line,) = two.lines(0)
        assert line.startswith("error: process 1: ") and "validation.jsonl" in line
        assert two.lines(1) == []
    (folders[1] / "elsewhere.jsonl").rename(folders[1] / "validation.jsonl")


def test_a_process_that_is_killed_ends_the_others_with_one_line(folders):
    training = flags("prompt", 10**6, EVAL_PERIOD=10**6, CHECKPOINT_PERIOD=10**6)
    with Together([folders[0]] * 2, ["train", *training]) as two:
        there = folders[0] / "chain_prompt" / "metrics.jsonl"
        two.until(lambda: there.is_file() and there.read_text())
        two.processes[1].send_signal(signal.SIGKILL)
        assert two.statuses() == [hosts.LOST, -signal.SIGKILL]
        assert two.lines(0)[-1].startswith("error: a process of this job was lost (")


def test_sigterm_at_one_process_saves_at_one_step_of_all(folders):
    folder = folders[1]
    training = flags("prompt", 10**6, EVAL_PERIOD=10**6, CHECKPOINT_PERIOD=10**6)
    with Together([folder] * 2, ["train", *training]) as two:
        there = folder / "chain_prompt" / "metrics.jsonl"
        two.until(lambda: there.is_file() and there.read_text())
        two.processes[1].send_signal(signal.SIGTERM)
        assert two.statuses() == [preemption.STATUS] * 2
        (line,) = [line for line in two.lines(0) if "SIGTERM" in line]
    (saved,) = (folder / "chain_prompt" / "checkpoints").iterdir()
    assert line == f"stopped by SIGTERM at step {saved.name}: the same command goes on from there"
    assert f'"step": {saved.name},' in there.read_text().splitlines()[-1]


@pytest.mark.parametrize("victim", [0, 1])
def test_processes_that_wait_for_one_that_was_killed_end_with_a_line(tmp_path, victim):
    with Together([tmp_path] * 2, ["wait"], seconds=90) as two:
        two.until(lambda: len([*tmp_path.glob("there.*")]) == 2)
        two.processes[victim].send_signal(signal.SIGKILL)
        statuses = two.statuses()
    assert statuses[victim] == -signal.SIGKILL
    # 60 seconds before `wait` would have ended
    assert statuses[1 - victim] == hosts.LOST
    lines = two.lines(1 - victim)
    assert any("another task died" in line for line in lines)
    assert lines[-1].startswith("error: JAX ended this process (above), most likely since another")


# ---- scripts -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("script", "tool", "argv", "started"),
    [
        ("tpu_pod.sh", "gcloud", ["pod"], ["--worker=all"]),
        ("slurm.sh", "srun", [], ["--kill-on-bad-exit=1", ".venv/bin/python"]),
    ],
)
def test_a_script_starts_the_command_with_the_flags_as_they_are(
    tmp_path, script, tool, argv, started
):
    flag = "--gin.MESH={'data': 2, 'model': 2}"
    # stand-ins for what is not on this machine: one prints its arguments, a line each
    (tmp_path / tool).write_text("""#!/bin/sh\nprintf '%s\\n' "$@"\n""")
    (tmp_path / tool).chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ZONE": "zone-a"}
    command = [SCRIPTS / script, *argv, "--gin_file=a.gin", flag]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    lines = said.splitlines()
    assert set(started) <= set(lines)
    if tool == "gcloud":  # what a host's shell makes of it
        (remote,) = [line for line in lines if line.startswith("--command=")]
        folder, _, remote = remote.removeprefix("--command=cd ").partition(" && exec ")
        assert folder == "prompt_tuning_jax" and "--zone=zone-a" in lines
        shell = ["sh", "-c", f"printf '%s\\n' {remote}"]
        lines = subprocess.run(shell, capture_output=True, text=True).stdout.splitlines()
    assert lines[-5:] == [
        ".venv/bin/python",
        "-m",
        "prompt_tuning_jax.train",
        "--gin_file=a.gin",
        flag,
    ]


# ---- how they find each other ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--coordinator_address=here"], "write HOST:PORT"),
        (["--coordinator_address=here:99999"], "write HOST:PORT"),
        (["--coordinator_address=127.0.0.1:1"], "give --process_count and --process_index too"),
        (["--process_count=x"], "PROCESS_COUNT = x: it must be a number"),
        (["--process_count=2", "--process_index=1"], "give --coordinator_address=HOST:PORT"),
        (["--multiprocess_gpu"], "give --coordinator_address=HOST:PORT"),
        (
            ["--coordinator_address=127.0.0.1:1", "--process_count=2", "--process_index=2"],
            "PROCESS_INDEX = 2: of 2 processes it is 0 to 1",
        ),
        (
            [
                *("--coordinator_address=127.0.0.1:1", "--process_count=2", "--process_index=1"),
                "--gin.hosts.join.start_timeout=1",
            ],
            "COORDINATOR_ADDRESS = 127.0.0.1:1: process 0 was not reached in 1 seconds",
        ),
    ],
)
def test_what_cannot_be_joined_is_one_line(folders, argv, said):
    done = tiny_run.Job(folders[0]).run("train", *flags("prompt", 4), *argv)
    assert done.status == 2 and said in done.err and done.err.count("\n") == 1


@pytest.fixture
def environment(monkeypatch):
    """Sets variables of an environment that has nothing of a cluster's."""
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_", "JAX_COORD", "COORDINATOR", "PROCESS_")):
            monkeypatch.delenv(name)

    def put(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def test_the_environment_tells_which_process_this_is(environment):
    assert hosts.index_told([]) == 0
    environment(PROCESS_ID="3")
    assert hosts.index_told([]) == 0  # no coordinator: somebody else's variable
    environment(COORDINATOR_ADDRESS="a:1")
    assert hosts.index_told([]) == 3
    assert hosts.index_told(["--process_index=2"]) == 2


def test_a_step_of_slurm_is_seen_where_it_has_several_tasks(environment):
    environment(SLURM_JOB_ID="1", SLURM_NTASKS="4", SLURM_PROCID="2", SLURM_LOCALID="0")
    assert hosts.index_told([]) == 0  # in sbatch, before srun
    environment(SLURM_STEP_NODELIST="node[1-2]")
    assert hosts.index_told([]) == 2
    hosts.join(process_count=1)  # by itself all the same
    assert hosts.first() and not hosts.several()
    environment(SLURM_NTASKS="1")
    assert hosts.index_told([]) == 0
    hosts.join()
    with pytest.raises(UserError, match="give --coordinator_address"):
        hosts.join(multiprocess_gpu=True)
