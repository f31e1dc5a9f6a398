"""Freed memory stays in the process: a page is not cleared by the kernel twice."""

import platform
import subprocess
import sys

import pytest

# 64 MiB, allocated, written to and freed three times; the page faults of the last time
_SCRIPT = """
import ctypes, resource
from prompt_tuning_jax import launch

if {command!r}:
    launch.main({command!r}, ["demo_sentiment"])
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(ctypes.c_size_t(2**26))
    ctypes.memset(block, 1, 2**26)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(command: str) -> int:
    script = _SCRIPT.format(command=command)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_a_command_keeps_the_memory_that_it_freed():
    # by itself glibc maps such a block anew each time: 16384 pages, or 32 huge ones
    assert _faults("") >= 32
    assert _faults("show_task") < 8
