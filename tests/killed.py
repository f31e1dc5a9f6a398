"""Training runs that are killed at random moments and started again until they are finished.

As a program (`python killed.py PHASE_FILE FLAG…`) it is `python -m prompt_tuning_jax.train FLAG…`
that keeps in PHASE_FILE what it is at; what the file holds when the process is dead is what it was
killed in.
"""

import contextlib
import hashlib
import mmap
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np

# what the main thread is at; and the thread that writes checkpoints, beside it
PHASES = ("start", "opening the folder", "training", "evaluation", "artifact writing")
WRITING = "checkpoint writing"
# seconds that each about lasts in these tiny runs
LASTS = {
    "start": 4.0,
    "opening the folder": 0.01,
    "training": 0.2,
    "evaluation": 0.1,
    "artifact writing": 0.01,
    WRITING: 0.15,
}
# places in the file: the phase, how often each was entered, how many checkpoints are being written
_COUNTS = 1
_SIZE = _COUNTS + len(PHASES) + 2


def finish(
    job, model_dir: str, flags: list[str], aims: list[str], rng: random.Random, kill=signal.SIGKILL
) -> list[str]:
    """Trains to the end, killed once in each of `aims` before -> what it really was at each time,
    with WRITING behind it where a checkpoint was being written as well.

    Fewer kills where the run is finished before, or does not come to what is aimed at.
    """
    phases = job.folder / f"{model_dir}.phase"
    command = [sys.executable, __file__, str(phases), *flags, f"--gin.MODEL_DIR={model_dir}"]
    died: list[str] = []
    while True:
        phases.write_bytes(bytes(_SIZE))
        with (
            subprocess.Popen(
                command,
                cwd=job.folder,
                env=job.environment(),
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            ) as process,
            phases.open("r+b") as file,
            mmap.mmap(file.fileno(), _SIZE) as seen,
        ):
            if len(died) < len(aims):
                aim = aims[len(died)]
                _wait(process, seen, aim, rng)
                time.sleep(rng.uniform(0, LASTS[aim]))
                process.send_signal(kill)
            _, said = process.communicate()
            if process.returncode == 0:
                return died
            # SIGTERM is 143 where training has begun
            assert process.returncode in (-kill, 128 + kill), said.decode()[-3000:]
            died.append(PHASES[seen[0]] + (f" + {WRITING}" if seen[_SIZE - 1] else ""))


def _wait(process, seen, aim: str, rng: random.Random) -> None:
    """Until it is entered for the first to fourth time, or the process has ended."""
    place = _COUNTS + [*PHASES, WRITING].index(aim)
    times = 0 if aim == "start" else 1 if aim == "opening the folder" else rng.randint(1, 4)
    while process.poll() is None and seen[place] < times:
        time.sleep(0.0005)


def difference(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """What two finished runs' folders differ in: files that count byte by byte, checkpoints by
    their arrays; tensorboard's files and the lock have their times in them."""
    found = []
    kept = [{name: _content(d) for name, d in _files(folder)} for folder in (one, other)]
    for name in sorted(kept[0].keys() | kept[1].keys()):
        if kept[0].get(name) != kept[1].get(name):
            found.append(name)
    states = [_state(folder) for folder in (one, other)]
    if states[0] != states[1]:
        found.append("checkpoint")
    return found


def _files(folder: pathlib.Path):
    for file in folder.rglob("*"):
        name = str(file.relative_to(folder))
        if file.is_file() and not {"tensorboard", "checkpoints", "lock", "config.gin"} & {
            *name.split("/")
        }:
            yield name, file


def _content(file: pathlib.Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _state(model_dir: pathlib.Path) -> dict[str, bytes]:
    """The arrays of every run's newest checkpoint, read by Orbax alone."""
    import jax
    import orbax.checkpoint as ocp

    arrays = {}
    for folder in sorted(model_dir.rglob("checkpoints")):
        step = max(int(f.name) for f in folder.iterdir() if f.name.isdecimal())
        tree = ocp.StandardCheckpointer().restore((folder / str(step) / "default").absolute())
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = f"{folder.relative_to(model_dir)}/{step}{jax.tree_util.keystr(path)}"
            arrays[name] = np.asarray(leaf).tobytes()
    return arrays


def _main() -> None:
    """The training command, with its phases told."""
    with pathlib.Path(sys.argv[1]).open("r+b") as file:
        seen = mmap.mmap(file.fileno(), _SIZE)
    from prompt_tuning_jax import artifacts, run_dir, runs
    from prompt_tuning_jax.checkpoints import Checkpoints
    from prompt_tuning_jax.evaluate import Evaluation
    from prompt_tuning_jax.launch import main

    @contextlib.contextmanager
    def phase(name):
        before, place = seen[0], PHASES.index(name)
        seen[0] = place
        seen[_COUNTS + place] = min(seen[_COUNTS + place] + 1, 255)
        try:
            yield
        finally:
            seen[0] = before

    def told(owner, name, called):
        call = getattr(owner, name)

        def wrapped(*args, **kwargs):
            with phase(called):
                return call(*args, **kwargs)

        setattr(owner, name, wrapped)

    told(run_dir.RunDir, "open", "opening the folder")
    told(run_dir.RunDir, "metrics", "opening the folder")
    told(Evaluation, "run", "evaluation")
    told(artifacts, "save_artifact", "artifact writing")
    write, note = Checkpoints._write, runs.Run.note

    def writing(*args):
        seen[_SIZE - 2] = min(seen[_SIZE - 2] + 1, 255)
        seen[_SIZE - 1] += 1
        try:
            write(*args)
        finally:
            seen[_SIZE - 1] -= 1

    def noted(*args):
        place = PHASES.index("training")
        seen[0] = place
        seen[_COUNTS + place] = min(seen[_COUNTS + place] + 1, 255)
        note(*args)

    Checkpoints._write, runs.Run.note = writing, noted
    raise SystemExit(main("train", sys.argv[2:]))


if __name__ == "__main__":
    _main()
