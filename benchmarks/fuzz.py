"""Mutated inputs for every place that reads bytes from outside, and how each of them ended.

    python benchmarks/fuzz.py --inputs=2000

Each input is a valid file (or two or three things wrong at once in it) spoilt by
tests/mutations.py, read and then used by tests/readers.py as the next step of a command would; the
n-th input of a reader is a function of --seed and n. It must be read, or refused with our
`UserError` in one printable line that names a file. Inputs run in processes of their own, so that a
crash of one is seen, with a time limit an input and a limit of memory, and with an audit hook that
counts as a failure any pickle, any process or connection, any import that valid files do not
bring, and any file opened outside the reader's own folder. Prints a Markdown table, and below it
every other outcome with the number that makes it again (--only="READER:NUMBER").
"""

import argparse
import collections
import concurrent.futures
import faulthandler
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

BATCH = 1000  # inputs of a process
SECONDS = 10  # of an input
MEMORY = 3 << 30  # bytes that reading may take beside what the process has


class Hang(BaseException):
    """An input took longer than SECONDS."""


def opened_elsewhere(event: str, args: tuple, allowed: tuple[str, ...]) -> str | None:
    """What an audit event says that no file may bring about."""
    if event == "pickle.find_class" and args[0].startswith("tensorboardX."):
        return None  # its own events on their way to its own thread
    if event in ("pickle.find_class", "os.system", "subprocess.Popen", "socket.connect", "os.exec"):
        return f"{event} {args!r:.200}"
    if event == "import" and args[0].split(".")[0] not in sys.stdlib_module_names:
        ours = args[0].startswith(("prompt_tuning_jax.", "fuzzed_house"))
        return None if ours or args[0] in sys.modules else f"imports {args[0]!r:.100}"
    if event == "open" and isinstance(args[0], str | bytes):
        path = os.path.realpath(os.fsdecode(args[0])) if args[0] else ""
        return None if path.startswith(allowed) else f"opens {path!r:.200}"
    return None


def inputs(name: str, numbers: range, seed: int, shown: bool) -> None:
    """Tries inputs of a reader, a JSON line each on standard output."""
    import readers

    faulthandler.enable()
    reader, seen, watching = readers.READERS[name], [], [False]
    with tempfile.TemporaryDirectory(prefix="fuzz") as temporary:
        os.environ["PROMPT_TUNING_CACHE"] = f"{temporary}/cache"
        folder = readers.made(name, pathlib.Path(temporary).resolve())
        roots = (
            str(folder.parent),
            os.path.realpath(__file__),  # JAX reads the lines of what called it, for an error
            *map(os.path.realpath, sys.path[1:]),
            sys.prefix,
            sys.base_prefix,
        )
        kept = input_of(name, numbers.start)
        allowed = (
            str(kept),
            *filter(None, roots),
            "/proc/",
            "/dev/null",
            "/sys/",
            "/usr/share",
            "/etc/gai",
        )

        def audit(event, args):
            if watching[0]:
                watching[0] = False
                found = opened_elsewhere(event, args, allowed)
                watching[0] = True
                if found:
                    seen.append(found)

        def late(*_):
            raise Hang

        sys.addaudithook(audit)
        signal.signal(signal.SIGALRM, late)
        for file, _ in readers.files(reader, folder):
            result = readers.outcome(lambda file=file: reader.use(folder, file), [str(folder)])
            assert result == "read", f"{name}: the valid {file} is not read: {result}"
        used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        for number in numbers:
            print(json.dumps([number, "began"]), flush=True)
            rng, began = random.Random(f"{seed} {name} {number}"), time.perf_counter()
            seen.clear()
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            faulthandler.dump_traceback_later(2 * SECONDS, exit=True)  # where no signal is taken
            try:
                watching[0] = True
                result = readers.attempt(reader, folder, rng, kept=kept)
            except Hang:
                result = f"longer than {SECONDS} s"
            finally:
                watching[0] = False
                signal.setitimer(signal.ITIMER_REAL, 0)
                faulthandler.cancel_dump_traceback_later()
            result = seen[0] if seen else result
            print(json.dumps([number, result, time.perf_counter() - began]), flush=True)
            if shown:
                print(result, file=sys.stderr)
        kept.unlink()


def input_of(name: str, first: int) -> pathlib.Path:
    """Where a process that began with input `first` keeps the one that it is at."""
    return pathlib.Path(tempfile.gettempdir(), f"fuzz {name} {first}".replace(" ", "_"))


def batch(name: str, numbers: range, seed: int) -> dict[int, tuple[str, float]]:
    """How inputs ended, by number, tried in processes: a new one after each crash."""
    found: dict[int, tuple[str, float]] = {}
    while numbers:
        argv = [sys.executable, __file__, f"--worker={name}", f"--seed={seed}"]
        argv += [f"--first={numbers.start}", f"--inputs={len(numbers)}"]
        limit = 300 + 2 * len(numbers)
        with tempfile.TemporaryFile("w+") as said:
            try:
                done = subprocess.run(
                    argv, stdout=subprocess.PIPE, stderr=said, text=True, timeout=limit
                )
                status, out = done.returncode, done.stdout
            except subprocess.TimeoutExpired as error:
                status, out = "hung", (error.stdout or b"").decode()
            said.seek(0)
            text = said.read()
        last = numbers.start - 1
        for line in out.splitlines():
            number, result, *seconds = json.loads(line)
            last = number
            if result != "began":
                found[number] = result, seconds[0]
        if status == 0:
            return found
        if last < numbers.start:
            raise SystemExit(f"{name}: {text}")
        place = input_of(name, numbers.start)
        found[last] = f"the process ended with {status} on {place}: {text[-300:]!r}", 0.0
        numbers = range(last + 1, numbers.stop)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=2000, help="of each reader")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--readers", default="", help="a part of their names; all")
    parser.add_argument("--only", default="", help="READER:NUMBER, in this process")
    parser.add_argument("--worker", default="")
    given = parser.parse_args()
    if given.only:
        name, _, number = given.only.rpartition(":")
        return inputs(name, range(int(number), int(number) + 1), given.seed, shown=True)
    if given.worker:
        return inputs(
            given.worker, range(given.first, given.first + given.inputs), given.seed, False
        )
    import readers

    print("| reader | inputs | read | refused | anything else | slowest, s |")
    print("|---|--:|--:|--:|--:|--:|", flush=True)
    failures: dict[str, list[str]] = collections.defaultdict(list)
    total: collections.Counter[str] = collections.Counter()
    names = [name for name in readers.READERS if given.readers in name]
    last = given.first + given.inputs
    batches = [range(n, min(n + BATCH, last)) for n in range(given.first, last, BATCH)]
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        running = {
            name: [pool.submit(batch, name, numbers, given.seed) for numbers in batches]
            for name in names
        }
        for name in names:
            counts: collections.Counter[str] = collections.Counter()
            slowest = 0.0
            for done in running[name]:
                for number, (result, seconds) in done.result().items():
                    kind = result if result in ("read", "refused") else "else"
                    counts[kind] += 1
                    slowest = max(slowest, seconds)
                    if kind == "else":
                        failures[f"{name}: {result}"].append(f"{name}:{number}")
                        print(f"{name}:{number}: {result}", file=sys.stderr, flush=True)
            total += counts
            row = [counts.total(), counts["read"], counts["refused"], counts["else"]]
            print(f"| {name} | {' | '.join(f'{n:,}' for n in row)} | {slowest:.1f} |", flush=True)
    row = [total.total(), total["read"], total["refused"], total["else"]]
    print(f"| all | {' | '.join(f'{n:,}' for n in row)} | |")
    for result, places in sorted(failures.items(), key=lambda pair: -len(pair[1])):
        print(f"- {len(places)} × {result} (--only={places[0]!r})")


if __name__ == "__main__":
    main()
