"""What the machine gives a process: cores, precisions, memory, and how freed memory is kept."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from functools import cache
from pathlib import Path
from typing import Literal


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux: containers and batch systems give fewer
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def computes_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16; False where nobody says so."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # Linux only
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(described.split())


def reference_precision(device: str) -> Literal["float32", "float16"]:
    """Precision of torch on a device unless another is asked for.

    Examples
    --------
    >>> reference_precision("cpu"), reference_precision("cuda:1")
    ('float32', 'float16')
    """
    return "float16" if device.startswith("cuda") else "float32"


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on a Mac, elsewhere units of 1,024.
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def resident_memory_mb() -> float:
    """Resident memory of this process now in MB; where that is not told, its peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_memory_mb()
    return pages * resource.getpagesize() / 1e6


@cache
def keep_freed_memory() -> None:
    """Let glibc keep big freed buffers for the next batch; for processes that predict all day.

    By default every activation above 32 MB is mapped afresh for each batch and its pages are
    zeroed by the kernel again, which costs a third of the speed. The price is that the process
    holds its peak memory until it ends.
    """
    _mallopt(_M_MMAP_MAX, 0)
    _mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def share_one_heap() -> None:
    """Let glibc serve threads that begin from now on as it serves the first one.

    A thread's own heap has no room for more than 64 MB: what is larger is mapped and zeroed at
    every call, whatever :func:`keep_freed_memory` asks for.
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
