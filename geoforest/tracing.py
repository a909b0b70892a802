"""Boundaries of labelled pixels as rings in pixel coordinates. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Rings:
    """Closed rings of polygons, laid end to end.

    Attributes
    ----------
    points
        float64 ``(n, 2)``, (col, row) pixel corners: whole numbers.
    ring_ends
        First point of each ring, and the number of points.
    polygon_ends
        First ring of each polygon, its exterior, and the number of rings.
    labels
        Of each polygon.
    """

    points: NDArray[np.float64]
    ring_ends: NDArray[np.int64]
    polygon_ends: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def polygon_of_ring(self) -> NDArray[np.int64]:
        """Polygon that each ring belongs to."""
        return np.repeat(np.arange(len(self.labels)), np.diff(self.polygon_ends))

    @property
    def is_exterior(self) -> NDArray[np.bool_]:
        """True for the first ring of each polygon."""
        exterior = np.zeros(len(self.ring_ends) - 1, np.bool_)
        exterior[self.polygon_ends[:-1]] = True
        return exterior

    def signed_areas(self) -> NDArray[np.float64]:
        """Area inside each ring in pixels, negative where rows grow clockwise."""
        if len(self.ring_ends) == 1:
            return np.zeros(0)
        col, row = self.points.T
        terms = np.zeros(len(self.points))
        terms[:-1] = col[:-1] * row[1:] - col[1:] * row[:-1]
        # The term from the end of one ring to the start of the next is no edge.
        terms[self.ring_ends[1:] - 1] = 0.0
        return np.add.reduceat(terms, self.ring_ends[:-1]) / 2

    def vertices(self) -> NDArray[np.int64]:
        """Vertices of each polygon over all its rings, the closing one not counted."""
        per_ring = np.diff(self.ring_ends) - 1
        return np.bincount(
            self.polygon_of_ring, weights=per_ring, minlength=len(self.labels)
        ).astype(np.int64)

    def without(self, dropped: NDArray[np.bool_]) -> Rings:
        """Give the same polygons without some of their rings."""
        keep = ~dropped
        lengths = np.diff(self.ring_ends)
        counts = np.bincount(self.polygon_of_ring[keep], minlength=len(self.labels))
        return Rings(
            self.points[np.repeat(keep, lengths)],
            _ends(lengths[keep]),
            _ends(counts),
            self.labels,
        )

    def select(self, polygons: NDArray[np.bool_]) -> Rings:
        """Give some of the polygons."""
        rings = polygons[self.polygon_of_ring]
        lengths = np.diff(self.ring_ends)
        return Rings(
            self.points[np.repeat(rings, lengths)],
            _ends(lengths[rings]),
            _ends(np.diff(self.polygon_ends)[polygons]),
            self.labels[polygons],
        )

    def joined(self, other: Rings) -> Rings:
        """Give these polygons, then the others."""
        return Rings(
            np.concatenate([self.points, other.points]),
            np.concatenate([self.ring_ends, other.ring_ends[1:] + self.ring_ends[-1]]),
            np.concatenate([self.polygon_ends, other.polygon_ends[1:] + self.polygon_ends[-1]]),
            np.concatenate([self.labels, other.labels]),
        )


def trace(labels: NDArray[np.int32], lowest: int = 1) -> Rings:
    """Trace 4-connected regions along pixel edges.

    Parameters
    ----------
    labels
        ``(row, col)``. Each label from ``lowest`` on is of one region.
    lowest
        Labels below it are left out.

    Returns
    -------
    Rings
        One polygon per region in the order of labels, exterior first. Rings touch each other at
        corners only, and themselves nowhere, so polygons are valid.
    """
    from geoforest.kernels import trace_rings

    points, ring_ends, owner, is_hole = trace_rings(labels, lowest)
    order = np.lexsort((is_hole, owner))  # stable: holes stay in the order of their first pixels
    lengths = np.diff(ring_ends)[order]
    ends = _ends(lengths)
    source = np.arange(len(points)) + np.repeat(ring_ends[:-1][order] - ends[:-1], lengths)
    found, rings = np.unique(owner, return_counts=True)
    return Rings(points[source].astype(np.float64), ends, _ends(rings), found)


def _ends(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
