"""Every file of a checkpoint damaged at many places: what is restored then.

    python benchmarks/damaged_checkpoints.py [--every=8]

Two checkpoints of a small state; of the newer one a file at a time is deleted, emptied, cut short,
and at every so many bytes has a bit flipped or 16 bytes zeroed. Counts whether the newer one is
restored to the bit (what was damaged is not needed, or is a copy) or is named and moved aside for
the older one, to the bit; anything else ends the script. Prints a Markdown table.
"""

import argparse
import collections
import logging
import os
import pathlib
import re
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

import damage  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=8, help="bytes between two places")
    flags = parser.parse_args()
    logging.lastResort = None  # nothing is printed of what is expected
    counts: collections.Counter[tuple[str, str, int]] = collections.Counter()
    began = time.time()
    # in memory, where the system has such a place
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        whole, spoilt = pathlib.Path(folder, "whole"), pathlib.Path(folder, "spoilt")
        for file in damage.write(whole):
            faults = [*damage.whole_file(), ("last byte missing", lambda content: content[:-1])]
            for place in range(0, file.stat().st_size, flags.every):
                faults += damage.at(place, place % 8)
            name = str(file.relative_to(whole / "checkpoints" / "8"))
            name = re.sub("[0-9a-f]{32}", "…", name)
            for fault, change in faults:
                step, lines = damage.outcome(whole, file, change, spoilt)
                named = any(f"{spoilt}/checkpoints/8 is damaged" in line for line in lines)
                if named != (step == 4):
                    raise SystemExit(f"{name}, {fault}: step {step}, said {lines}")
                counts[name, fault, step] += 1
    kinds = list(dict.fromkeys(fault for _, fault, _ in counts))
    print(
        f"`python benchmarks/damaged_checkpoints.py --every={flags.every}`, {os.cpu_count()} cores,"
        f" {sum(counts.values())} faults in {time.time() - began:.0f} s\n"
    )
    print("Named and skipped for the older one + the newer one restored to the bit:\n")
    print(f"| file of the checkpoint | {' | '.join(kinds)} |")
    print("|---|" + "---:|" * len(kinds))
    for name in dict.fromkeys(name for name, _, _ in counts):
        cells = [f"{counts[name, kind, 4]} + {counts[name, kind, 8]}" for kind in kinds]
        print(f"| `{name}` | {' | '.join(cells)} |")
    cells = []
    for kind in kinds:
        skipped, right = (
            sum(n for (_, fault, at), n in counts.items() if (fault, at) == (kind, step))
            for step in (4, 8)
        )
        cells.append(f"{skipped} + {right}")
    print(f"| all | {' | '.join(cells)} |")
    print("\nA wrong state, a crash, a hang: 0.")


if __name__ == "__main__":
    main()
