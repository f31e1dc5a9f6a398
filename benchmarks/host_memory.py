"""What it saves on a CPU to keep freed memory for the next step (`host_memory.keep_freed`).

    python benchmarks/host_memory.py

Trains with and without it, each in a process of its own, one after the other: a built-in backbone
(LM adaptation, batch 64), and a prompt of 100 rows on a T5 1.1 small of random values (batch 8, 128
tokens of input, 16 of targets). Prints the median seconds a step over blocks of 10, the processes'
seconds in the kernel, their peak memory, and the ratios with / without.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from prompt_tuning_jax import backbones, host_memory, launch, run_dir

JOBS = {
    "built-in backbone, LM adaptation": [
        "--gin_file=models/demo.gin",
        "--gin_file=runs/pretrain_demo_prefix_lm.gin",
        "--gin.ARTIFACT_STEPS=[]",
        "--gin.TRAIN_STEPS=100",
    ],
    "T5 1.1 small, prompt": [
        "--gin_file=models/t5_1_1_small_prompt.gin",
        "--gin_file=runs/prompt_finetune.gin",
        "--gin.INITIAL_CHECKPOINT_PATH=None",
        f"--gin.VOCABULARY_FILE={backbones.PACKAGED / 'demo' / 'sentencepiece.model'}",
        "--gin.MIXTURE_OR_TASK_NAME=demo_sentiment",
        '--gin.TASK_FEATURE_LENGTHS={"inputs": 128, "targets": 16}',
        "--gin.BATCH_SIZE=8",
        "--gin.TRAIN_STEPS=30",
    ],
}


def measured(job: str, kept: bool) -> dict[str, float]:
    """Seconds a step, seconds in the kernel and peak MiB of one training process, this one."""
    if not kept:
        host_memory.keep_freed = lambda: None
    times = []
    write = run_dir.Metrics.write

    def noted(*report) -> None:
        times.append(time.monotonic())
        write(*report)

    run_dir.Metrics.write = noted
    with tempfile.TemporaryDirectory() as folder:
        flags = [*JOBS[job], "--gin.EVAL_TASKS=[]", "--gin.LOG_PERIOD=10"]
        if launch.main("train", [*flags, f"--gin.MODEL_DIR={folder}"]):
            raise SystemExit(f"{job}: the training failed")
    blocks = [(after - before) / 10 for before, after in zip(times, times[1:], strict=False)]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "s a step": statistics.median(blocks),
        "kernel s": used.ru_stime,
        "peak MiB": used.ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--without", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.job:
        print(json.dumps(measured(flags.job, not flags.without)))
        return
    print("| job | | with | without | ratio |\n|---|---|---|---|---|")
    for job in JOBS:
        runs = []
        for option in ([], ["--without"]):
            command = [sys.executable, __file__, f"--job={job}", *option]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs.append(json.loads(output.splitlines()[-1]))
        for name in runs[0]:
            with_it, without = (run[name] for run in runs)
            ratio = with_it / without
            print(f"| {job} | {name} | {with_it:.3f} | {without:.3f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
