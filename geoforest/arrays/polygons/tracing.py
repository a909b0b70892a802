"""Outlines of features, strip by strip.

Corners are found line by line and linked to the next corner of their outline. Closed outlines are
returned with their strip; open ones, and holes of incomplete features, wait for the next strip.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from geoforest.arrays.polygons.patches import FeatureStrip
    from geoforest.arrays.polygons.strips import Ids

Corners = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


def no_corners() -> Corners:
    """Return empty arrays, to start :func:`geoforest.arrays.kernels.outlines.trace_corners`."""
    empty = np.zeros(0, np.int32)
    return np.zeros((0, 2), np.int32), empty, empty


@dataclass(frozen=True, eq=False)
class Outlines:
    """Polygons as closed rings, laid end to end.

    Attributes
    ----------
    points
        int32 ``(n, 2)``, (col, row) of pixel corners. On the map exteriors go counter-clockwise
        and holes clockwise.
    ring_ends
        First point of each ring, and the number of points.
    polygon_ends
        First ring of each polygon, its exterior, and the number of rings.
    feature
        Row of each polygon in the tables of its strip.
    """

    points: NDArray[np.int32]
    ring_ends: Ids
    polygon_ends: Ids
    feature: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class _Rings:
    """Closed rings, laid end to end, and the first pixel of the feature of each."""

    points: NDArray[np.int32]
    ring_ends: Ids
    feature_id: Ids

    @cached_property
    def owners(self) -> Ids:
        """First pixels of the features, each once."""
        return np.unique(self.feature_id)

    def select(self, rings: NDArray[np.intp]) -> _Rings:
        lengths = np.diff(self.ring_ends)[rings]
        ends = _ends(lengths)
        source = np.arange(ends[-1]) + np.repeat(self.ring_ends[rings] - ends[:-1], lengths)
        return _Rings(self.points[source], ends, self.feature_id[rings])


class Tracer:
    """Outlines of features, from strips in order from top to bottom.

    Parameters
    ----------
    scene_rows, n_cols
        Shape of the scene.
    """

    def __init__(self, scene_rows: int, n_cols: int) -> None:
        self._scene_rows, self._n_cols = scene_rows, n_cols
        self._edges = np.full((2, n_cols + 1), -1, np.int32)
        self._corners = no_corners()
        self._waiting: list[_Rings] = []

    def trace(self, strip: FeatureStrip) -> Outlines:
        """Return the features that this strip completes.

        They are sorted by the lattice line where they end, then by first pixel.
        """
        from geoforest.arrays.kernels.outlines import double_areas, find_rings, trace_corners

        runs = strip.strip
        points, after, label = trace_corners(
            runs.row_ends,
            runs.start,
            strip.feature,
            self._n_cols,
            runs.lines(self._scene_rows),
            self._edges[0],
            self._edges[1],
            *self._corners,
        )
        is_open, order, ring_ends = find_rings(after)
        # The last corner of a ring lies in this strip, so its label is a feature of this strip.
        last = np.maximum.reduceat(order, ring_ends[:-1]) if len(order) else order
        feature = label[last]
        rings = _Rings(points[order], ring_ends, strip.first[feature])
        is_hole = double_areas(rings.points, ring_ends) < 0
        outlines = self._complete(rings, is_hole, feature, points[last, 1])
        self._keep(is_open, (points, after, label))
        return outlines

    def _complete(
        self,
        rings: _Rings,
        is_hole: NDArray[np.bool_],
        feature: NDArray[np.int32],
        line: NDArray[np.int32],
    ) -> Outlines:
        exteriors = np.flatnonzero(~is_hole)
        exteriors = exteriors[np.argsort(line[exteriors], kind="stable")]
        ids = rings.feature_id[exteriors]
        by_id = np.argsort(ids)
        holes, waiting = [], []
        for some in (*self._waiting, rings.select(np.flatnonzero(is_hole))):
            ready = np.isin(some.owners, ids) if len(ids) else np.zeros(1, np.bool_)
            if not ready.any():
                waiting.append(some)
                continue
            ready = np.isin(some.feature_id, ids)
            holes.append(some.select(np.flatnonzero(ready)))
            waiting.append(some.select(np.flatnonzero(~ready)))
        self._waiting = [some for some in waiting if len(some.feature_id)]
        found = _joined([rings.select(exteriors), *holes])
        # An exterior comes before its holes; holes are sorted by first pixel.
        rank = by_id[np.searchsorted(ids[by_id], found.feature_id)]
        col, row = found.points[found.ring_ends[:-1]].T
        follows = np.arange(len(rank)) >= len(exteriors)
        found = found.select(np.lexsort((col, row, follows, rank)))
        counts = np.bincount(rank, minlength=len(exteriors))
        return Outlines(found.points, found.ring_ends, _ends(counts), feature[exteriors])

    def _keep(self, is_open: NDArray[np.bool_], corners: Corners) -> None:
        """Keep the corners of open outlines, renumbered."""
        number = np.where(is_open, np.cumsum(is_open) - 1, -1).astype(np.int32)
        # Index -1 means "not known" and must stay -1.
        number = np.append(number, np.int32(-1))
        points, after, label = corners
        after = number[after[is_open]]
        self._corners = points[is_open], after, label[is_open]
        self._edges[:] = number[self._edges]


def _joined(several: list[_Rings]) -> _Rings:
    lengths = np.concatenate([np.diff(rings.ring_ends) for rings in several])
    return _Rings(
        np.concatenate([rings.points for rings in several]),
        _ends(lengths),
        np.concatenate([rings.feature_id for rings in several]),
    )


def _ends(lengths: NDArray[np.int64]) -> Ids:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
