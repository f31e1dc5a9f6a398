"""Freed memory stays in the process: a page is not cleared by the kernel twice."""

import platform
import subprocess
import sys

import jax
import jax.monitoring
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


# 64 MiB in small blocks, freed below one that is still held; how much is given back, MiB
_COMPILED = """
import ctypes, pathlib, jax.monitoring
from prompt_tuning_jax import host_memory

def held():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4 / 1024

host_memory.keep_freed()
host_memory.give_back_compilers()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
blocks = [libc.malloc(ctypes.c_size_t(2**16)) for _ in range(1025)]
for block in blocks:
    ctypes.memset(block, 1, 2**16)
for block in blocks[:-1]:
    libc.free(block)
for seconds in (0.5, 2.0):
    before = held()
    jax.monitoring.record_event_duration_secs("{event}", seconds)
    print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_what_a_long_compilation_took_is_given_back():
    script = _COMPILED.format(event="/jax/core/compile/backend_compile_duration")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    short, long = map(float, done.stdout.split())
    assert short < 4
    assert long > 56


def test_jax_tells_of_compilations_by_that_name():
    events = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: events.append(name))
    jax.jit(lambda x: x * 3 - 1)(2.0)
    assert "/jax/core/compile/backend_compile_duration" in events
