"""The product grid: fixed lines along which giant patches are cut in parts.

The lines depend only on the CRS and the pixel size, not on the origin of the scene, strips or
shards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from affine import Affine
    from numpy.typing import NDArray

CUT_PX: Final = 1024
"""Distance of the lines of the product grid, in pixels."""

# Tolerance of floating point, in pixels, for an edge that lies on a multiple.
_HAIR_PX = 1e-6


def cut_cols(n_cols: int, transform: Affine) -> NDArray[np.int64]:
    """Find the columns of a scene where a cell of the product grid begins, but not column 0.

    Each line lies on the first pixel edge at or after a multiple of 1024 pixel sizes in CRS
    coordinates, "after" being towards greater x or y.

    Examples
    --------
    >>> from affine import Affine
    >>> cut_cols(2000, Affine(10, 0, 10_005, 0, -10, 50)).tolist()
    [24, 1048]
    """
    left = transform.c / transform.a
    return _inside(np.ceil(_multiples(left, left + n_cols) - left - _HAIR_PX), n_cols)


def cut_rows(n_rows: int, transform: Affine) -> NDArray[np.int64]:
    """Find the rows of a scene where a cell of the product grid begins, but not row 0.

    Examples
    --------
    >>> from affine import Affine
    >>> cut_rows(2000, Affine(10, 0, 0, 0, -10, 10_255)).tolist()
    [1, 1025]
    """
    top = transform.f / -transform.e
    # y in pixel sizes is top - row, so a greater y is a smaller row.
    return _inside(np.floor(top - _multiples(top - n_rows, top) + _HAIR_PX), n_rows)


def _multiples(low: float, high: float) -> NDArray[np.float64]:
    return np.arange(np.floor(low / CUT_PX), np.ceil(high / CUT_PX) + 1) * CUT_PX


def _inside(edges: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    return np.unique(edges[(edges > 0) & (edges < size)]).astype(np.int64)
