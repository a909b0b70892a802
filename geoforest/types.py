"""Types and codes shared by all of geoforest.

Arrays are ``(band, row, col)``, shapes ``(rows, cols)``, bounds ``(left, bottom, right, top)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

OTHER: Final = 0
"""Mask code of an observed pixel that is not forest."""

FOREST: Final = 1
"""Mask code of an observed forest pixel."""

NO_OBSERVATION: Final = 255
"""Code of an unobserved pixel, in the mask and in the stored probability."""

PROBABILITY_STEPS: Final = 250
"""Stored probability is ``round(p * 250)``: a step of 0.004."""

Shape: TypeAlias = tuple[int, int]
"""``(rows, cols)``."""

Mask: TypeAlias = NDArray[np.uint8]
"""``(row, col)``, values :data:`OTHER`, :data:`FOREST`, :data:`NO_OBSERVATION`."""

StoredProbability: TypeAlias = NDArray[np.uint8]
"""``(row, col)``, values 0 to 250, or :data:`NO_OBSERVATION`."""

Valid: TypeAlias = NDArray[np.bool_]
"""``(row, col)`` or ``(n, row, col)``, True where observed."""

Factor: TypeAlias = float | Sequence[float]
"""A number for all bands, or one per band."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Callback of a stage's progress: its name, the part done, and the total."""

Array: TypeAlias = NDArray[Any]


def quiet(stage: str, done: int, total: int) -> None:
    """Report no progress: the default wherever a :data:`Progress` is taken."""
