"""Every method on every mesh of eight devices: how far from one device after 20 steps.

    python benchmarks/meshes.py

As tests/test_meshes.py, which puts the methods into one program on most meshes: here each is by
itself on each, and with parameters and activations cut over both axes too. Prints a Markdown table
of the relative difference of the first step's loss, and the largest of the tuned parameters after
20 steps (of each array's largest value).
"""

import os
import pathlib
import sys

# eight devices of a thread each; a device alone may use all cores, and would wait for its own
XLA = "--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false"
os.environ |= {"XLA_FLAGS": XLA, "JAX_PLATFORMS": "cpu"}
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

import contract  # noqa: E402
import numpy as np  # noqa: E402
import on_meshes  # noqa: E402

MESHES = {
    f"{data}x{model}{said}": ((data, model), dims)
    for dims, said in (((1, 1), ""), ((2, 2), ", both cut over both"))
    for data, model in ((1, 8), (2, 4), (4, 2), (8, 1))
}


def main() -> None:
    print(f"| method | {' | '.join(MESHES)} |\n|---|{'---|' * len(MESHES)}")
    largest = [0.0, 0.0]
    for name, method in contract.PACKAGED.items():
        (loss, *_), tuned = on_meshes.trained(method, (1, 1), (1, 1))
        cells = []
        for sizes, dims in MESHES.values():
            (found_loss, *_), found = on_meshes.trained(method, sizes, dims)
            apart = max(
                float(np.abs(found[path] - value).max() / np.abs(value).max())
                for path, value in tuned.items()
            )
            first = abs(found_loss - loss) / loss
            largest = [max(pair) for pair in zip(largest, (first, apart), strict=True)]
            cells.append(f"{first:.0e}, {apart:.0e}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"\nLargest: {largest[0]:.1e} of a first loss, {largest[1]:.1e} of tuned parameters.")


if __name__ == "__main__":
    main()
