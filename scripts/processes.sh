#!/usr/bin/env bash
# One command as several processes of this machine, to try what many hosts do:
#
#   JAX_PLATFORMS=cpu scripts/processes.sh 2 train --gin_file=… --gin.MODEL_DIR=…
#
# On other machines the same flags, with the address of the first: that is all this does.
set -uo pipefail
count=$1 command=$2
shift 2
port=$((20000 + RANDOM % 20000))
running=()
for index in $(seq 0 $((count - 1))); do
	"${PYTHON:-python}" -m "prompt_tuning_jax.$command" "$@" \
		--coordinator_address="127.0.0.1:$port" --process_count="$count" --process_index="$index" &
	running+=($!)
done
trap 'kill -TERM "${running[@]}" 2>/dev/null' TERM INT
worst=0
for process in "${running[@]}"; do
	status=0
	wait "$process" || status=$?
	# a signal ends a wait, not the process
	while kill -0 "$process" 2>/dev/null; do status=0; wait "$process" || status=$?; done
	[ "$status" -gt "$worst" ] && worst=$status
done
exit "$worst"
