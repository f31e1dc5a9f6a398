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
import socket
import subprocess
import sys
import time

import numpy as np

from prompt_tuning_jax import hosts

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
    died: list[str] = []
    while True:
        with _Start(job, model_dir, flags) as started:
            if len(died) < len(aims):
                _kill(started, aims[len(died)], rng, kill)
            status = started.process.wait()
            if status == 0:
                return died
            # SIGTERM is 143 where training has begun
            assert status in (-kill, 128 + kill), started.said()
            died.append(started.phase())


def finish_together(
    job, model_dir: str, flags: list[str], aims: list[str], rng: random.Random, seconds: float
) -> list[tuple[str, str]]:
    """As `finish`, by two processes, one of which is killed -> what it was at, and how the other
    ended: its status and its last line.

    The other must end within `seconds`, and with what JAX or we say of a process that was lost.
    """
    ended: list[tuple[str, str]] = []
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        where = [f"--coordinator_address={address}", "--process_count=2"]
        with contextlib.ExitStack() as both:
            started = [
                both.enter_context(
                    _Start(job, model_dir, [*flags, *where, f"--process_index={index}"], index)
                )
                for index in range(2)
            ]
            victim = rng.choice(started)
            (other,) = (one for one in started if one is not victim)
            if len(ended) < len(aims):
                _kill(victim, aims[len(ended)], rng, signal.SIGKILL)
            statuses = [victim.process.wait(20 * seconds), other.process.wait(seconds)]
            if statuses == [0, 0]:
                return ended
            assert statuses[0] == -signal.SIGKILL, victim.said()
            lines = [line for line in other.said().splitlines() if line[:1] != "["]
            alone = victim.phase() == "start"  # they may not have come together
            assert statuses[1] in (0, hosts.LOST, *([2] if alone else [])), other.said()
            line = lines[-1] if lines and statuses[1] else ""
            ended.append((victim.phase(), f"{statuses[1]}: {line:.90}"))


class _Start:
    """A process of the training command, killed when it is left, and the file of what it is at."""

    def __init__(self, job, model_dir: str, flags: list[str], index: int = 0):
        self._file = job.folder / f"{model_dir}.{index}.phase"
        self._file.write_bytes(bytes(_SIZE))
        self._errors = job.folder / f"{model_dir}.{index}.errors"
        command = [sys.executable, __file__, str(self._file), *flags]
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, f"--gin.MODEL_DIR={model_dir}"],
                cwd=job.folder,
                env=job.environment(),
                stderr=errors,
                stdout=subprocess.DEVNULL,
            )
        with self._file.open("r+b") as file:
            self.seen = mmap.mmap(file.fileno(), _SIZE)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        self.seen.close()

    def phase(self) -> str:
        """What it is at, or was when it died."""
        return PHASES[self.seen[0]] + (f" + {WRITING}" if self.seen[_SIZE - 1] else "")

    def said(self) -> str:
        """The end of what it wrote to standard error."""
        return self._errors.read_text()[-3000:]


def _kill(started: _Start, aim: str, rng: random.Random, kill: int) -> None:
    """Kills it a random time after it entered `aim` for the first to fourth time, if it does."""
    place = _COUNTS + [*PHASES, WRITING].index(aim)
    times = 0 if aim == "start" else 1 if aim == "opening the folder" else rng.randint(1, 4)
    while started.process.poll() is None and started.seen[place] < times:
        time.sleep(0.0005)
    time.sleep(rng.uniform(0, LASTS[aim]))
    started.process.send_signal(kill)


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
    """The arrays of every run's newest checkpoint, read by Orbax alone, whoever wrote them."""
    import jax
    import orbax.checkpoint as ocp

    arrays, reader = {}, ocp.PyTreeCheckpointer()
    for folder in sorted(model_dir.rglob("checkpoints")):
        step = max(int(f.name) for f in folder.iterdir() if f.name.isdecimal())
        place = (folder / str(step) / "default").absolute()
        asked = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
            reader.metadata(place).item_metadata.tree,
            is_leaf=lambda leaf: hasattr(leaf, "shape"),
        )
        tree = reader.restore(place, args=ocp.args.PyTreeRestore(restore_args=asked))
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
