"""Resources of the machine: cores, precisions, memory, and the reuse of freed memory."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from functools import cache
from pathlib import Path
from typing import Literal


def usable_cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux: containers and batch systems allow fewer
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def computes_bfloat16() -> bool:
    """Check whether the processor has instructions for bfloat16; False where that is unknown."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # Linux only
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(described.split())


def reference_precision(device: str) -> Literal["float32", "float16"]:
    """Return the default precision of torch on a device.

    Examples
    --------
    >>> reference_precision("cpu"), reference_precision("cuda:1")
    ('float32', 'float16')
    """
    return "float16" if device.startswith("cuda") else "float32"


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In bytes on macOS, in units of 1,024 bytes elsewhere.
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def resident_memory_mb() -> float:
    """Return the current resident memory of this process in MB; its peak where unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_memory_mb()
    return pages * resource.getpagesize() / 1e6


@cache
def keep_freed_memory() -> None:
    """Make glibc keep large freed buffers for the next batch, in processes that predict.

    By default each activation above 32 MB is mapped again for each batch, and the kernel zeroes its
    pages again, which costs a third of the speed. In return the process holds its peak memory until
    it ends.
    """
    _mallopt(_M_MMAP_MAX, 0)
    _mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def share_one_heap() -> None:
    """Make glibc serve threads started from now on from the heap of the main thread.

    The own heap of a thread holds at most 64 MB: larger buffers are mapped and zeroed at every
    call, in spite of :func:`keep_freed_memory`.
    """
    _mallopt(_M_ARENA_MAX, 1)


# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def _mallopt(option: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # not with musl
        libc.mallopt(option, value)
