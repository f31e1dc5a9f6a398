"""One of several processes (test_many_hosts.py): python on_many_hosts.py JOBS ADDRESS COUNT INDEX

JOBS: JSON, commands and their flags, run one after the other in one process, so that what they
have in common is compiled once; the last as from a command line. "facts" writes what a process is
told into facts.INDEX.json, "wait" sleeps until it is killed.
"""

import json
import os
import pathlib
import signal
import sys
import time

import numpy as np

from prompt_tuning_jax import hosts, launch


def facts() -> dict:
    import jax

    from prompt_tuning_jax import run_dir, sharding
    from prompt_tuning_jax.errors import UserError

    pieces = {}
    for data, model in ((4, 1), (2, 2), (1, 4)):
        partitioner = sharding.Partitioner.of({"data": data, "model": model})
        rows = np.arange(8, dtype=np.int32)
        batch = partitioner.put_batch(partitioner.own({"rows": rows}))["rows"]
        assert batch.shape == (8,)
        held = {s.device.id: s.data.tolist() for s in batch.addressable_shards}
        assert np.array_equal(hosts.whole(batch), rows)
        pieces[f"{data}x{model}"] = {"share": partitioner.share, "held": held}
    try:
        sharding.make_mesh(1, 1)
        refused = ""
    except UserError as error:
        refused = str(error)
    # a folder of this process's own
    run_dir.PATIENCE = 1
    own = run_dir.RunDir(f"own.{jax.process_index()}/run", {"method": None})
    try:
        own.open()
        unshared = ""
    except UserError as error:
        unshared = str(error)
    # before the first step of a run that goes on at 500 is asked
    hosts.share_sigterm(500)
    if hosts.first():
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.5)
    stopped = next((step for step in range(501, 601) if time.sleep(0.05) or hosts.stops(step)), 0)
    return {
        "first": hosts.first(),
        "stopped": stopped,
        "pieces": pieces,
        "one_device": refused,
        "unshared": unshared,
        "gathered": hosts.gathered(np.float32([jax.process_index(), 7])).tolist(),
    }


def run(command: str, *argv: str) -> None:
    if command == "facts":
        file = pathlib.Path(f"facts.{sys.argv[4]}.json")
        file.write_text(json.dumps(facts()))
    elif command == "wait":
        pathlib.Path(f"there.{sys.argv[4]}").write_text("")
        time.sleep(120)
    else:
        launch._run(command, argv, "prompt_tuning_jax")


if __name__ == "__main__":
    jobs, address, count, index = json.loads(sys.argv[1]), *sys.argv[2:5]
    hosts.join(address, count, index, start_timeout=60, heartbeat_timeout=10)
    for job in jobs[:-1]:
        run(*job)
    if jobs[-1][0] in launch.COMMANDS:
        raise SystemExit(launch.main(jobs[-1][0], jobs[-1][1:]))
    run(*jobs[-1])
    raise SystemExit(hosts.end(0, ""))
