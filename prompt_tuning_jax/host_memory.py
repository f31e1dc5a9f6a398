"""The process keeps the memory that it frees, for its next step.

On a CPU, XLA allocates and frees a step's buffers at every step. glibc gives blocks of 32 MB and
more back to the kernel at once, which clears their pages when it hands them out again. What
keeping them saves, and costs in memory, is in `benchmarks/results/host_memory.md`.

Compiling a program takes several hundred MB in small pieces, among which no step's buffers fit:
that goes back.

Python's cyclic collector walks all that is alive again and again while JAX traces, which makes
millions of small objects that stay.
"""

import ctypes
import gc
import sys

# mallopt's parameters, from malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed() -> None:
    """Tells glibc's malloc to have one heap for all blocks, shrunk only where 2 GB end it free.

    Before the first large allocation. Does nothing where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_ARENA_MAX, 1)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, 2**26)


def give_back_compilers() -> None:
    """What JAX takes to compile or load a program goes back to the kernel: from now on, after each
    that takes more than a second. Does nothing where JAX is not loaded or the C library another.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    jax = sys.modules.get("jax")
    if trim is None or jax is None:
        return

    def compiled(event: str, seconds: float, **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and seconds > 1:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(compiled)


def collect_rarely() -> None:
    """Python looks for cycles that nobody holds after 20,000 new objects, not after 700."""
    gc.set_threshold(20_000, 20, 20)
