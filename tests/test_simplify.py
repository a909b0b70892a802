"""Simplified outlines: valid, apart from each other, near the old ones, shared where they were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import shapes
from scipy import ndimage

from geoforest.errors import InputError
from geoforest.simplify import simplify


@dataclass
class Outlines:
    """What `simplify` takes and gives, and the polygons it means."""

    points: np.ndarray
    ring_ends: np.ndarray
    polygon_ends: np.ndarray

    @property
    def polygons(self) -> np.ndarray:
        return shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, self.points, (self.ring_ends, self.polygon_ends)
        )

    @property
    def rings(self) -> list[np.ndarray]:
        return np.split(self.points, self.ring_ends[1:-1])

    def simplified(self, fixed: np.ndarray, tolerance: float, **others: np.ndarray) -> Outlines:
        return Outlines(
            *simplify(self.points, self.ring_ends, self.polygon_ends, fixed, tolerance, **others)
        )


def outlines(polygons: list[shapely.Polygon]) -> Outlines:
    _, points, (ring_ends, polygon_ends) = shapely.to_ragged_array(polygons)
    return Outlines(points, ring_ends.astype(np.int64), polygon_ends.astype(np.int64))


def traced(labels: np.ndarray) -> list[shapely.Polygon]:
    """Polygons of labels from 1 on, each a 4-connected region or several."""
    found = shapes(labels.astype(np.int32), mask=labels > 0)
    return [shapely.geometry.shape(polygon) for polygon, _ in found]


def every_corner(polygons: list[shapely.Polygon]) -> list[shapely.Polygon]:
    """With a point at every corner of a pixel: the same ones on both sides of an edge."""
    return list(shapely.segmentize(polygons, 1.0))


def nodes(made: Outlines, size: tuple[int, int], cuts: tuple[int, ...] = ()) -> np.ndarray:
    """Points on the edge of the scene or on a cut, and those from where lines go three ways."""
    x, y = made.points.T
    fixed = np.isin(x, (0, size[1], *cuts)) | np.isin(y, (0, size[0], *cuts))
    ways: dict[tuple[float, ...], set[tuple[float, ...]]] = {}
    for ring in made.rings:
        for one, other in zip(ring[:-1].tolist(), ring[1:].tolist(), strict=True):
            ways.setdefault(tuple(one), set()).add(tuple(other))
            ways.setdefault(tuple(other), set()).add(tuple(one))
    return fixed | np.array([len(ways[tuple(point)]) > 2 for point in made.points.tolist()])


def assert_apart(polygons: np.ndarray) -> None:
    assert shapely.is_valid(polygons).all(), shapely.is_valid_reason(polygons)
    one, other = shapely.STRtree(polygons).query(polygons)
    pairs = one < other
    overlap = ~shapely.relate_pattern(polygons[one[pairs]], polygons[other[pairs]], "F********")
    assert not overlap.any()


def assert_kept(before: Outlines, after: Outlines, fixed: np.ndarray, tolerance: float) -> None:
    """As many rings, of some of the old points, the fixed among them, the others near."""
    assert after.polygon_ends.tolist() == before.polygon_ends.tolist()
    assert len(after.ring_ends) == len(before.ring_ends)
    stay = np.split(fixed, before.ring_ends[1:-1])
    for old, new, must in zip(before.rings, after.rings, stay, strict=True):
        assert (new[0] == new[-1]).all()
        assert len(new) >= 4
        ways_old, ways_new = shapely.LinearRing(old), shapely.LinearRing(new)
        assert ways_old.is_ccw == ways_new.is_ccw
        old_points = {tuple(point) for point in old.tolist()}
        new_points = {tuple(point) for point in new.tolist()}
        assert new_points <= old_points
        assert {tuple(point) for point in old[must].tolist()} <= new_points
        assert shapely.distance(shapely.points(old), ways_new).max() <= tolerance + 1e-9


def shared_m(polygons: np.ndarray) -> dict[tuple[int, int], float]:
    """Length of the border that any two have in common."""
    one, other = shapely.STRtree(polygons).query(polygons, predicate="touches")
    lengths = shapely.length(shapely.intersection(polygons[one], polygons[other]))
    pairs = zip(one.tolist(), other.tolist(), lengths.tolist(), strict=True)
    return {(a, b): round(length, 9) for a, b, length in pairs if a < b and length}


def masks(codes: int = 1, largest: int = 14) -> st.SearchStrategy[np.ndarray]:
    """Noise, now and then blurred to patches."""

    def draw(seed: int, rows: int, cols: int, blur: float) -> np.ndarray:
        noise = np.random.default_rng(seed).random((rows, cols))
        noise = ndimage.gaussian_filter(noise, blur)
        levels = np.quantile(noise, np.arange(1, codes + 1) / (codes + 1))
        return np.digitize(noise, levels)

    side = st.integers(1, largest)
    return st.builds(draw, st.integers(0, 2**32), side, side, st.sampled_from([0, 0.6, 1, 2]))


TOLERANCES = st.sampled_from([0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 6.0])


@settings(deadline=None, max_examples=300)
@given(masks(), TOLERANCES)
def test_patches_stay_valid_and_apart(mask, tolerance):
    labels, count = ndimage.label(mask)
    if not count:
        return
    before = outlines(traced(labels))
    fixed = nodes(before, mask.shape)
    after = before.simplified(fixed, tolerance)
    assert_apart(after.polygons)
    assert_kept(before, after, fixed, tolerance)


@settings(deadline=None, max_examples=150)
@given(masks(largest=24), TOLERANCES)
def test_patches_keep_clear_with_few_fixed_points(mask, tolerance):
    """Of a scene with a margin no ring is fixed but where corners touch."""
    labels, count = ndimage.label(np.pad(mask, 1))
    if not count:
        return
    before = outlines(traced(labels))
    fixed = nodes(before, labels.shape)
    after = before.simplified(fixed, tolerance)
    assert_apart(after.polygons)
    assert_kept(before, after, fixed, tolerance)


@settings(deadline=None, max_examples=200)
@given(masks(codes=3), TOLERANCES)
def test_neighbours_share_their_edges_still(labels, tolerance):
    """A map of several classes: every edge but those of class 0 has a polygon on both sides."""
    polygons = every_corner(traced(labels))
    if not polygons:
        return
    assert shapely.coverage_is_valid(polygons)
    before = outlines(polygons)
    fixed = nodes(before, labels.shape)
    after = before.simplified(fixed, tolerance)
    assert shapely.coverage_is_valid(after.polygons)
    assert_apart(after.polygons)
    assert_kept(before, after, fixed, tolerance)


@settings(deadline=None, max_examples=200)
@given(masks(largest=20), TOLERANCES)
def test_parts_of_a_patch_meet_without_gaps(mask, tolerance):
    cuts = (5, 10, 15)
    rows, cols = np.indices(mask.shape) // 5
    cells = np.where(mask, rows * 4 + cols + 1, 0)
    polygons = every_corner(traced(cells))
    if not polygons:
        return
    before = outlines(polygons)
    fixed = nodes(before, mask.shape, cuts)
    after = before.simplified(fixed, tolerance)
    assert shapely.coverage_is_valid(after.polygons)
    assert_apart(after.polygons)
    assert shared_m(after.polygons) == shared_m(before.polygons)


@settings(deadline=None, max_examples=200)
@given(masks(largest=20), TOLERANCES)
def test_parts_with_corners_within_edges_of_others_stay_apart(mask, tolerance):
    """As they are traced, without points of one part in the edges of the next."""
    cuts = (5, 10, 15)
    rows, cols = np.indices(mask.shape) // 5
    polygons = traced(np.where(mask, rows * 4 + cols + 1, 0))
    if not polygons:
        return
    before = outlines(polygons)
    fixed = nodes(before, mask.shape, cuts)
    after = before.simplified(fixed, tolerance)
    assert_apart(after.polygons)
    assert_kept(before, after, fixed, tolerance)
    shared = shared_m(after.polygons)
    assert all(shared[pair] >= length for pair, length in shared_m(before.polygons).items())


@settings(deadline=None, max_examples=100)
@given(masks(codes=2), TOLERANCES, st.integers(0, 2**32))
def test_neither_order_nor_beginnings_matter(labels, tolerance, seed):
    polygons = every_corner(traced(labels))
    if not polygons:
        return
    rng = np.random.default_rng(seed)
    other = []
    for polygon in polygons:
        turned = []
        for ring in (polygon.exterior, *polygon.interiors):
            points = np.roll(shapely.get_coordinates(ring)[:-1], rng.integers(100), axis=0)
            turned.append(points[:: rng.choice([-1, 1])])
        other.append(shapely.Polygon(turned[0], turned[1:]))
    order = rng.permutation(len(polygons))
    found = []
    for some in (polygons, [other[place] for place in order]):
        before = outlines(some)
        found.append(before.simplified(nodes(before, labels.shape), tolerance).polygons)
    first, second = shapely.normalize(found[0][order]), shapely.normalize(found[1])
    assert shapely.equals_exact(first, second, 0).all()


def test_of_two_points_as_far_away_the_direction_does_not_choose():
    hook = shapely.Polygon([(0, 0), (0, 3), (1, 3), (1, 1), (3, 1), (3, 0)])
    found = [
        shapely.normalize(outlines([ring]).simplified(np.zeros(7, np.bool_), 1.0).polygons[0])
        for ring in (hook, shapely.reverse(hook))
    ]
    assert found[0].equals_exact(found[1], 0)


def test_an_island_in_a_bay_is_not_run_over():
    end = (14, 9), (0, 9)
    bay = shapely.Polygon(
        [(0, 0), (4, 0), (4, 4), (6, 4), (6, 1), (8, 1), (8, 4), (10, 4), (10, 0), (14, 0), *end]
    )
    island = shapely.box(4.5, 1, 5.5, 3)
    before = outlines([bay, island])
    fixed = np.isin(before.points[:, 1], (0, 9)) & np.isin(before.points[:, 0], (0, 4, 10, 14))
    plain = shapely.Polygon([(0, 0), (4, 0), (10, 0), (14, 0), (14, 9), (0, 9)])
    assert plain.contains(island)  # what it comes to where nobody looks
    alone = outlines([bay]).simplified(fixed[: len(bay.exterior.coords)], 5.0)
    assert alone.polygons[0].equals(plain)
    together = before.simplified(fixed, 5.0).polygons
    assert not together[0].intersects(together[1])
    # The same where the island is another call's.
    corners = shapely.get_coordinates(island)
    told = outlines([bay]).simplified(fixed[: len(bay.exterior.coords)], 5.0, others=corners)
    assert told.polygons[0].equals(together[0])


@pytest.mark.parametrize("tolerance", [0.8, 3.0, 50.0])
def test_the_smallest_rings_neither_vanish_nor_collapse(tolerance):
    patch = shapely.box(0, 0, 9, 9) - shapely.box(2, 2, 3, 3) - shapely.box(5, 5, 7, 6)
    after = outlines([patch]).simplified(np.zeros(15, np.bool_), tolerance).polygons[0]
    assert after.is_valid
    assert len(after.interiors) == 2
    assert min(shapely.Polygon(ring).area for ring in after.interiors) >= 0.5


def test_two_ways_between_two_points_do_not_become_one():
    """A hole that touches the outline at both ends of the strip between them."""
    strip = shapely.Polygon(
        [(0, 0), (9, 0), (9, 9), (0, 9)], [[(0, 0), (4, 1), (9, 0), (8, 5), (1, 5)]]
    )
    halves = [part for part in shapely.make_valid(strip).geoms if part.area]
    before = outlines(halves)
    fixed = (before.points == (0, 0)).all(axis=1) | (before.points == (9, 0)).all(axis=1)
    fixed |= before.points[:, 1] >= 5
    after = before.simplified(fixed, 2.0)
    assert_apart(after.polygons)
    assert_kept(before, after, fixed, 2.0)


def test_stairs_become_a_slope():
    stairs = np.array([[0, 0], *[[i + j, i] for i in range(50) for j in (0, 1)][1:], [50, 50]])
    ring = np.concatenate([stairs, [[0, 50], [0, 0]]]).astype(float)
    fixed = np.zeros(len(ring), np.bool_)
    fixed[[-3, -2, -1]] = True  # the first point is the last one
    points, ring_ends, polygon_ends = simplify(
        ring, np.array([0, len(ring)]), np.array([0, 1]), fixed, 0.75
    )
    assert points.tolist() == [[0, 0], [50, 50], [0, 50], [0, 0]]
    assert ring_ends.tolist() == [0, 4]
    assert polygon_ends.tolist() == [0, 1]


def test_nothing_is_written_into_what_was_given():
    before = outlines(traced(np.eye(6, dtype=int) + np.eye(6, k=1, dtype=int)))
    fixed = np.zeros(len(before.points), np.bool_)
    copies = [array.copy() for array in (*vars(before).values(), fixed)]
    before.simplified(fixed, 1.0)
    for array, copy in zip((*vars(before).values(), fixed), copies, strict=True):
        assert np.array_equal(array, copy)


def test_no_tolerance_changes_nothing():
    before = outlines(traced(np.eye(4, dtype=int)))
    after = before.simplified(np.zeros(len(before.points), np.bool_), 0.0)
    assert np.array_equal(after.points, before.points)
    assert np.array_equal(after.ring_ends, before.ring_ends)


def test_no_polygons():
    none = np.zeros(1, np.int64)
    points, ring_ends, polygon_ends = simplify(
        np.empty((0, 2)), none, none, np.empty(0, np.bool_), 1.0
    )
    assert points.shape == (0, 2)
    assert ring_ends.tolist() == polygon_ends.tolist() == [0]


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_that_is_none_is_refused(tolerance):
    before = outlines([shapely.box(0, 0, 1, 1)])
    with pytest.raises(InputError, match=f"tolerance {tolerance}: 0 or more was wanted"):
        before.simplified(np.zeros(5, np.bool_), tolerance)
