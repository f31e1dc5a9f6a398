#!/usr/bin/env bash
# One training command on every host of a TPU pod slice:
#
#   ZONE=us-west4-a scripts/tpu_pod.sh NAME --gin_file=models/t5_1_1_xxl_prompt.gin …
#
# FOLDER: the checkout on each host, with its .venv (default: prompt_tuning_jax in the home folder).
set -euo pipefail
name=$1
shift
quoted=$(printf ' %q' "$@")
exec gcloud compute tpus tpu-vm ssh "$name" --zone="$ZONE" --worker=all \
	--command="cd ${FOLDER:-prompt_tuning_jax} && exec .venv/bin/python -m prompt_tuning_jax.train$quoted"
