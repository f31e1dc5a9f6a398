"""`kill -9` at random moments of training runs that are started again until they are finished.

    python benchmarks/kills.py [--kills=60] [--seed=0] [--together=12]

Runs of 40 steps of a tiny model, each first without being interrupted; then killed at least so
many times in all, and compared with the uninterrupted run: the artifact's files, those of
ARTIFACT_STEPS, the predictions, metrics.jsonl and settings.json byte by byte, the newest checkpoint
(best step included) array by array. Kills aim at each phase; what is counted is the phase that the
process was in when it died, and whether its thread was writing a checkpoint. The same of runs of
two processes, of which one is killed and the other must end by itself, in bounded time. Prints
Markdown tables.
"""

import argparse
import collections
import os
import pathlib
import random
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

import killed  # noqa: E402
import tiny_run  # noqa: E402

COMMON = {
    "TRAIN_STEPS": 40,
    "CHECKPOINT_PERIOD": 3,
    "EVAL_PERIOD": 2,
    "ARTIFACT_STEPS": [*range(4, 30, 2)],
}
RUNS = '{"a": {"RANDOM_SEED": 1}, "b": {"LEARNING_RATE": 0.05}, "c": {"K_SHOT": 2}}'
KINDS = {
    "prompt": ("prompt", {}),
    "full": ("full", {}),
    "three runs in one job": ("prompt", {"RUNS": RUNS, "TRAIN_STEPS": 30}),
    "no evaluation": ("lora", {"EVAL_TASKS": "[]"}),
}
# of two processes: one that does not come is waited for for 20 seconds, one that is lost is missed
# after 10, and the other has ended after 60
TOGETHER = ["--gin.hosts.join.start_timeout=20", "--gin.hosts.join.heartbeat_timeout=10"]
SECONDS = 60


def together(job: tiny_run.Job, kills: int, rng: random.Random) -> None:
    """Runs of two processes, killed so many times in all: what the other process made of it."""
    began = time.time()
    flags = [*tiny_run.training("full"), *(f"--gin.{k}={v}" for k, v in COMMON.items()), *TOGETHER]
    assert killed.finish_together(job, "whole_together", flags, [], rng, SECONDS) == []
    ended: list[tuple[str, str]] = []
    differing, number = 0, 0
    while len(ended) < kills:
        aims = [*killed.PHASES, killed.WRITING]
        rng.shuffle(aims)
        name = f"together{number}"
        at = killed.finish_together(job, name, flags, aims, rng, SECONDS)
        found = killed.difference(job.folder / name, job.folder / "whole_together")
        print(f"two processes: {at} {found or 'the same'}", file=sys.stderr, flush=True)
        ended, differing, number = ended + at, differing + len(found), number + 1
    print(
        f"\nRuns of two processes, one of which was killed {len(ended)} times: {number} finished "
        f"runs, {differing} files that differ, {time.time() - began:.0f} s. With "
        f"`{' '.join(TOGETHER)}` the other had ended within {SECONDS} seconds every time:\n"
    )
    print("| killed in | its status and last line | times |\n|---|---|---:|")
    for (phase, end), count in sorted(collections.Counter(ended).items()):
        print(f"| {phase} | {end} | {count} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--together", type=int, default=12, help="kills of one of two processes")
    flags = parser.parse_args()
    rng = random.Random(flags.seed)
    died: collections.Counter[tuple[str, str]] = collections.Counter()
    runs: collections.Counter[str] = collections.Counter()
    differing: list[str] = []
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        job = tiny_run.Job(pathlib.Path(folder))
        wanted, number = {}, 0
        while sum(died.values()) < flags.kills or len(runs) < len(KINDS):
            kind = [*KINDS][number % len(KINDS)]
            method, own = KINDS[kind]
            macros = COMMON | own
            argv = [*tiny_run.training(method), *(f"--gin.{k}={v}" for k, v in macros.items())]
            if kind not in wanted:
                wanted[kind] = job.folder / f"whole{number}"
                job.ok("train", *argv, MODEL_DIR=wanted[kind].name)
            aims = [*killed.PHASES, killed.WRITING] * 2
            rng.shuffle(aims)
            if kind == "no evaluation":
                aims = [aim for aim in aims if aim != "evaluation"]
            at = killed.finish(job, f"killed{number}", argv, aims, rng)
            died.update((phase, kind) for phase in at)
            runs[kind] += 1
            found = killed.difference(job.folder / f"killed{number}", wanted[kind])
            differing += [f"{kind}: {name}" for name in found]
            print(f"{kind}: {at} {found or 'the same'}", file=sys.stderr, flush=True)
            number += 1
        _table(flags, died, runs, differing, time.time() - began)
        together(job, flags.together, rng)


def _table(flags, died, runs, differing, seconds: float) -> None:
    kinds = [*KINDS]
    print(
        f"`python benchmarks/kills.py --kills={flags.kills} --seed={flags.seed}`, "
        f"{os.cpu_count()} cores, {seconds:.0f} s\n"
    )
    print(f"| killed in | {' | '.join(kinds)} | all |")
    print("|---|" + "---:|" * (len(kinds) + 1))
    both = [f"{phase} + {killed.WRITING}" for phase in killed.PHASES[2:]]
    for phase in (*killed.PHASES, *both):
        counts = [died[phase, kind] for kind in kinds]
        print(f"| {phase} | {' | '.join(map(str, counts))} | {sum(counts)} |")
    counts = [sum(died[phase, kind] for phase, k in died if k == kind) for kind in kinds]
    print(f"| all | {' | '.join(map(str, counts))} | {sum(counts)} |")
    print(f"| finished runs | {' | '.join(str(runs[k]) for k in kinds)} | {sum(runs.values())} |")
    counts = [sum(name.startswith(f"{kind}:") for name in differing) for kind in kinds]
    print(f"| files that differ | {' | '.join(map(str, counts))} | {sum(counts)} |")
    for name in differing:
        print(f"\ndiffers: {name}")


if __name__ == "__main__":
    main()
