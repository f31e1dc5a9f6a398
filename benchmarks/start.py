"""How long a command takes to begin: seconds to --help and to the first training step.

    python benchmarks/start.py [--times=3]

Starts prompt tuning of the built-in backbone (models/demo_prompt.gin on demo_sentiment, its
evaluation checked as always) as a user does, in a new process each time, and waits until the first
step's report is in metrics.jsonl: cold (empty caches), warm (tokens and compiled programs kept by
the start before), and with the tokens alone, in turn. Prints Markdown tables: the median and least
seconds and the median processor seconds until then, and where a warm start's seconds go, from
one more process that notes the times at each phase's end.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

COMMAND = [sys.executable, "-m", "prompt_tuning_jax.train"]
FLAGS = [
    "--gin_file=models/demo_prompt.gin",
    "--gin_file=runs/prompt_finetune.gin",
    "--gin.MIXTURE_OR_TASK_NAME=demo_sentiment",
    '--gin.TASK_FEATURE_LENGTHS={"inputs": 64, "targets": 4}',
    "--gin.TRAIN_STEPS=1",
    "--gin.EVAL_EXAMPLES=32",
]
# phase: (module, its function or class's method); the phase ends when that first returns
PHASES = {
    "Python, flags and gin files read": ("prompt_tuning_jax.host_memory", "keep_freed"),
    "imports, JAX and all": ("prompt_tuning_jax.cache", "keep_compiled"),
    "the configuration checked": ("prompt_tuning_jax.launch", "_parse"),
    "devices, θ's shapes": ("prompt_tuning_jax.sharding", "theta_shardings"),
    "tokens, rows": ("prompt_tuning_jax.data", "TrainingBatches.__init__"),
    "θ read, its fingerprint": ("prompt_tuning_jax.backbones", "read"),
    "the start made, the decoder traced": ("prompt_tuning_jax.evaluate", "Evaluation.check"),
    "MODEL_DIR": ("prompt_tuning_jax.run_dir", "RunDir.metrics"),
    "the step traced, lowered, loaded and run": ("prompt_tuning_jax.run_dir", "Metrics.write"),
}


def help_seconds() -> float:
    began = time.perf_counter()
    subprocess.run([*COMMAND, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def first_step(cache: pathlib.Path) -> tuple[float, float]:
    """Seconds, and processor seconds, from the command to the first step's report."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "run" / "metrics.jsonl"
        command = [*COMMAND, *FLAGS, f"--gin.MODEL_DIR={report.parent}"]
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment(cache), stderr=subprocess.DEVNULL)
        while not (report.exists() and report.stat().st_size):
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}")
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if process.wait():
            raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}")
    return seconds, used


def environment(cache: pathlib.Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    return {**own, "PROMPT_TUNING_CACHE": str(cache)}


def phases(cache: pathlib.Path) -> dict[str, tuple[float, float]]:
    """Seconds and processor seconds of each phase of a start in a process of its own."""
    command = [sys.executable, __file__, f"--began={time.time()}"]
    done = subprocess.run(command, env=environment(cache), check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


def noted(began: float) -> dict[str, tuple[float, float]]:
    """The same of this process, which was begun then."""
    import importlib

    ends: dict[str, tuple[float, float]] = {}

    def note(phase: str, owner: object, name: str) -> None:
        call = getattr(owner, name)

        def calling(*args, **settings):
            result = call(*args, **settings)
            ends.setdefault(phase, (time.time(), time.process_time()))
            return result

        setattr(owner, name, calling)

    def note_all(places: dict[str, tuple[str, str]]) -> None:
        for phase, (module, path) in places.items():
            *classes, name = path.split(".")
            owner: object = importlib.import_module(module)
            for part in classes:
                owner = getattr(owner, part)
            note(phase, owner, name)

    light = {phase: place for phase, place in PHASES.items() if phase in list(PHASES)[:3]}
    note_all(light)
    from prompt_tuning_jax import cache, launch

    keep_compiled = cache.keep_compiled

    def imported() -> None:  # now the rest can be imported at no cost
        keep_compiled()
        note_all({phase: place for phase, place in PHASES.items() if phase not in light})

    cache.keep_compiled = imported
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        if launch.main("train", [*FLAGS, f"--gin.MODEL_DIR={folder}/run"]):
            raise SystemExit("the training failed")
    times = [(began, 0.0), *(ends[phase] for phase in PHASES)]
    return {
        phase: (wall - wall_before, used - used_before)
        for phase, (wall, used), (wall_before, used_before) in zip(
            PHASES, times[1:], times, strict=False
        )
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.began:
        found = noted(flags.began)
        print(json.dumps(found))
        return
    print(f"`python benchmarks/start.py --times={flags.times}`, {os.cpu_count()} cores\n")
    print("| from the command to | median s | least s | processor s |\n|---|---|---|---|")
    help_seconds()  # compiles the modules
    helps = [help_seconds() for _ in range(flags.times)]
    print(f"| --help | {statistics.median(helps):.2f} | {min(helps):.2f} | |", flush=True)
    kinds: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": [], "tokens alone": []}
    with tempfile.TemporaryDirectory() as folder:
        cache = pathlib.Path(folder) / "cache"
        for _ in range(flags.times):
            for kind, times in kinds.items():
                gone = {"cold": cache, "tokens alone": cache / "compiled"}.get(kind)
                if gone is not None:
                    shutil.rmtree(gone, ignore_errors=True)
                times.append(first_step(cache))
        for kind, times in kinds.items():
            seconds, used = zip(*times, strict=True)
            print(
                f"| the first step, {kind} | {statistics.median(seconds):.2f} | "
                f"{min(seconds):.2f} | {statistics.median(used):.2f} |",
                flush=True,
            )
        print("\n| a warm start's phases | s | processor s |\n|---|---|---|")
        for phase, (wall, busy) in phases(cache).items():
            print(f"| {phase} | {wall:.2f} | {busy:.2f} |")


if __name__ == "__main__":
    main()
