#!/usr/bin/env bash
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --signal=TERM@300
# One training command over the GPUs of a SLURM job, a process for each:
#
#   sbatch [--nodes=4 …] scripts/slurm.sh --gin_file=models/t5_1_1_xxl_prompt.gin …
#
# from the checkout, with its .venv. A process that ends in an error ends the others, and srun too;
# 300 seconds before the time is up the run saves and ends.
set -euo pipefail
exec srun --kill-on-bad-exit=1 .venv/bin/python -m prompt_tuning_jax.train "$@"
