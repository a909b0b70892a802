"""The numba decorator: releases the GIL and caches machine code for the next process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function at its first call."""
    try:
        kernel = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no writable folder for the cache
        kernel = numba.njit(nogil=True)(function)
    return cast("F", kernel)
