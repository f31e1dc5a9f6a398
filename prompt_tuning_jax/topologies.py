"""TPU slices that need not be there: their devices, to compile for, and their chips' numbers.

libtpu compiles for any slice on a machine without a TPU (`pip install libtpu`, the extra
tpu-topology); nothing can be run on such devices.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Iterator

import jax
from jax.experimental.topologies import get_topology_desc

from prompt_tuning_jax.compiled_cost import Work
from prompt_tuning_jax.errors import UserError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Of one device: memory that programs may have, bytes; flops: bfloat16 products a second;
    bandwidth of that memory and of all its links together, sending, bytes a second; torus: how
    many dimensions a slice has."""

    memory: int
    flops: float
    bandwidth: float
    links: float
    torus: int

    def seconds(self, work: Work) -> dict[str, float]:
        """The least that a device needs for `work`: each of its three limits alone, and the step,
        whose products and memory traffic overlap and whose collectives come on top."""
        compute, memory = work.flops / self.flops, work.hbm_bytes / self.bandwidth
        links = sum(moved.sent for moved in work.collectives.values()) / self.links
        step = max(compute, memory) + links
        return {"compute": compute, "memory": memory, "links": links, "step": step}


# Peaks: cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e ("Key chip specifications"); v4's links:
# 6 of 50 GB/s (Jouppi et al. 2023, arXiv:2304.01433). v5e's 1600 Gbps, v5p's 4800 and v6e's 3584 of
# interconnect are what a chip sends. Memory: of 32, 16, 95 and 32 GB what libtpu compiles for. To
# it a v4 chip is two devices, each with half of it.
CHIPS = {
    "v4": Chip(int(15.25 * GIB), 275e12 / 2, 1228e9 / 2, 300e9 / 2, 3),
    "v5e": Chip(int(15.75 * GIB), 197e12, 819e9, 200e9, 2),
    "v5p": Chip(int(95.74 * GIB), 459e12, 2765e9, 600e9, 3),
    "v6e": Chip(int(31.25 * GIB), 918e12, 1640e9, 448e9, 2),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """name: "v5e:4x4"."""

    name: str
    chip: Chip
    devices: tuple[jax.Device, ...]

    def mesh(self, heads: int, *widths: int) -> dict[str, int]:
        """The sizes of a mesh over all devices whose "model" is as long as it divides the heads and
        the widths."""
        count = len(self.devices)
        model = math.gcd(count, heads, *widths)
        return {"data": count // model, "model": model}


def available() -> bool:
    """Whether libtpu is installed."""
    return importlib.util.find_spec("libtpu") is not None


def find(name: str) -> Slice:
    """The slice of that name. UserError where libtpu is missing or knows none of it."""
    kind, _, sizes = name.partition(":")
    shape = [int(size) for size in re.findall(r"\d+", sizes)]
    known = kind in CHIPS and re.fullmatch(r"\d+(x\d+)*", sizes)
    if not known or len(shape) != CHIPS[kind].torus or not math.prod(shape):
        raise UserError(
            f"--topology={name}: write a chip and a slice, v5e:4x4 or v5p:2x2x1; chips: "
            f"{', '.join(CHIPS)}"
        )
    if not available():
        raise UserError(
            f"--topology={name} needs libtpu, which compiles for TPUs on any machine: "
            "pip install 'prompt-tuning-jax[tpu-topology]'"
        )
    # its lock is for processes that use a TPU; this one only compiles
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    # a host has 2x2 chips, or fewer where the slice has
    host = {} if math.prod(shape) >= 4 else {"chips_per_host_bounds": (shape + [1])[:3]}
    try:
        with _quiet():
            found = get_topology_desc(platform="tpu", topology_name=name, **host)
    except jax.errors.JaxRuntimeError as error:
        said = str(error).partition(": ")[2] or str(error)
        raise UserError(f"--topology={name}: {said.splitlines()[0]}") from None
    return Slice(name, CHIPS[kind], tuple(found.devices))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within: what C code writes to standard error is dropped. libtpu says there, once, that this
    machine has no TPU."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
