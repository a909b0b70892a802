"""The product grid, and the parts that it cuts giant patches into. Arrays only.

Its lines belong to the product: they depend on the CRS and the pixel size, and neither on where
a scene begins nor on shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage

from geoforest.types import Shape

CUT_PX: Final = 1024
"""Distance of the lines of the product grid, in pixels."""

# An edge that floating point puts this part of a pixel before a multiple is still at it.
_HAIR_PX = 1e-6


def split_giants(
    labels: NDArray[np.int32], is_giant: NDArray[np.bool_], transform: Affine
) -> NDArray[np.int64]:
    """Give each part of a giant patch a label of its own, in place.

    A part is a 4-connected piece of the patch within one cell of the product grid.

    Parameters
    ----------
    labels
        ``(row, col)``, below ``len(is_giant)``. No two giants may touch along an edge. Parts
        are numbered from ``len(is_giant)`` on.
    is_giant
        ``(n_labels,)``, False for 0.
    transform
        North-up, from (col, row) to CRS coordinates.

    Returns
    -------
    numpy.ndarray
        ``(n_labels + n_parts,)``: the label of the patch that each label belongs to.
    """
    patch_of = [np.arange(len(is_giant))]
    next_label = len(is_giant)
    for cell in grid_cells((labels.shape[0], labels.shape[1]), transform):
        within = labels[cell]
        parts, n_parts = ndimage.label(is_giant[within])
        inside = parts > 0
        owner = np.zeros(n_parts + 1, np.int64)
        owner[parts[inside]] = within[inside]
        within[inside] = parts[inside] + (next_label - 1)
        patch_of.append(owner[1:])
        next_label += n_parts
    return np.concatenate(patch_of)


def grid_cells(shape: Shape, transform: Affine) -> Iterator[tuple[slice, slice]]:
    """Cells of the product grid inside a scene, as ``(rows, cols)``, row by row.

    Each line lies on the first pixel edge at or after a multiple of 1024 pixel sizes in CRS
    coordinates, "after" being towards greater x or y.

    Examples
    --------
    >>> [cols for _, cols in grid_cells((5, 2000), Affine(10, 0, 10_005, 0, -10, 50))]
    [slice(0, 24, None), slice(24, 1048, None), slice(1048, 2000, None)]
    """
    n_rows, n_cols = shape
    left = transform.c / transform.a
    top = transform.f / -transform.e
    # In pixel sizes x is left + col and y is top - row: a greater y is a smaller row.
    col_edges = np.ceil(_multiples(left, left + n_cols) - left - _HAIR_PX)
    row_edges = np.floor(top - _multiples(top - n_rows, top) + _HAIR_PX)
    for rows in _between(row_edges, n_rows):
        for cols in _between(col_edges, n_cols):
            yield rows, cols


def _multiples(low: float, high: float) -> NDArray[np.float64]:
    return np.arange(np.floor(low / CUT_PX), np.ceil(high / CUT_PX) + 1) * CUT_PX


def _between(edges: NDArray[np.float64], size: int) -> list[slice]:
    inside = np.unique(edges[(edges > 0) & (edges < size)]).astype(int)
    return [slice(a, b) for a, b in pairwise([0, *inside.tolist(), size])]
