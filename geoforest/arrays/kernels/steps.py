"""Steps of the stored probability from pixel to pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoforest.arrays.kernels.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray


@compiled
def add_steps(
    stored: NDArray[np.uint8],
    above: NDArray[np.uint8],
    across: NDArray[np.int64],
    down: NDArray[np.int64],
) -> None:
    """Add up absolute steps between neighbouring pixels that were both observed.

    Parameters
    ----------
    stored
        ``(row, col)``, 255 where not observed.
    above
        ``(col,)``: the row above the first.
    across
        ``(2, cols)``, changed in place: sum and count of steps into each column from its left.
    down
        ``(2, rows)`` of these rows, changed in place: sum and count of steps from above.
    """
    before = above
    for row in range(stored.shape[0]):
        values = stored[row]
        total, count = np.int64(0), np.int64(0)
        for col in range(len(values)):
            # Without branches, so that the compiler can vectorise the loop.
            here, over = np.int64(values[col]), np.int64(before[col])
            both = np.int64((here != 255) & (over != 255))
            total += both * abs(here - over)
            count += both
        down[0, row] += total
        down[1, row] += count
        for col in range(1, len(values)):
            here, left = np.int64(values[col]), np.int64(values[col - 1])
            both = np.int64((here != 255) & (left != 255))
            across[0, col] += both * abs(here - left)
            across[1, col] += both
        before = values
