"""Boundaries of labelled pixels as rings in pixel coordinates. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.features import shapes

from geoforest.types import Array


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


def trace(labels: Array, wanted: NDArray[np.bool_]) -> Rings:
    """Trace 4-connected regions of equal label along pixel edges.

    Parameters
    ----------
    labels
        int32 ``(row, col)``.
    wanted
        bool ``(row, col)``, the pixels to trace.

    Returns
    -------
    Rings
        One polygon per region, exterior first. A ring never touches itself at more than a
        corner of its own, so polygons are valid.
    """
    points: list[NDArray[np.float64]] = []
    rings: list[int] = []
    polygons: list[int] = []
    found: list[float] = []
    for geometry, label in shapes(labels, mask=wanted, connectivity=4):
        coordinates = geometry["coordinates"]
        polygons.append(len(coordinates))
        found.append(label)
        for ring in coordinates:
            # Converted one by one: a list of tuples takes ten times the memory of an array.
            points.append(np.array(ring, np.float64))
            rings.append(len(ring))
    return Rings(
        np.concatenate(points) if points else np.zeros((0, 2)),
        _ends(np.array(rings, np.int64)),
        _ends(np.array(polygons, np.int64)),
        np.array(found, np.int64),
    )


def _ends(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
