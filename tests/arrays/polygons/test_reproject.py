"""Polygons in another CRS touch as before, and their edges lie where they belong."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine

from geoforest.arrays.polygons import product_grid as parts
from geoforest.arrays.polygons.polygons import polygons_of_mask
from geoforest.arrays.polygons.reproject import checked_crs, reprojected
from geoforest.errors import InputError

TRANSFORM = Affine(10, 0, 300_000, 0, -10, 8_900_000)


def frame(transform: Affine = TRANSFORM, crs: str = "EPSG:32720", scale: int = 40):
    """Return one giant cut in parts, with large pixels and so with long edges."""
    mask = (np.random.default_rng(2).random((30, 40)) < 0.75).astype(np.uint8)
    transform = transform @ Affine.scale(scale)
    with mock.patch.object(parts, "CUT_PX", 9):
        return polygons_of_mask(
            mask, transform=transform, crs=crs, min_area_ha=0, max_vertices=8
        ).frame


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32721", "EPSG:6933"])
def test_parts_touch_as_before(crs):
    before = frame()
    assert shapely.coverage_is_valid(before.geometry.to_numpy())
    after = reprojected(before, checked_crs(crs), tolerance=0.1)
    assert after.crs == crs
    assert after.is_valid.all()
    assert shapely.coverage_is_valid(after.geometry.to_numpy())
    assert all(geometry.exterior.is_ccw for geometry in after.geometry)
    assert not any(ring.is_ccw for geometry in after.geometry for ring in geometry.interiors)
    columns = before.columns.drop("geometry")
    assert after[columns].equals(before[columns])
    borders = shapely.union_all(before.geometry.to_numpy()).length
    assert borders < before.length.sum()  # there was something shared


@pytest.mark.parametrize("tolerance", [0.01, 1.0])
def test_edges_lie_where_they_belong(tolerance):
    whole = frame(scale=4000).iloc[:1]
    target = checked_crs("EPSG:4326")
    after = reprojected(whole, target, tolerance=tolerance).to_crs(whole.crs)
    # Points along what was written, back in the CRS of the scene.
    dense = shapely.segmentize(
        reprojected(whole, target, tolerance=tolerance).geometry.to_numpy(), 1e-3
    )
    back = pyproj.Transformer.from_crs(target, whole.crs, always_xy=True)
    points = np.column_stack(back.transform(*shapely.get_coordinates(dense).T))
    distance = shapely.distance(shapely.points(points), whole.geometry.iloc[0].boundary)
    assert distance.max() <= 1.2 * tolerance
    corners = shapely.get_coordinates(whole.geometry.to_numpy())
    assert len(shapely.get_coordinates(after.geometry.to_numpy())) > len(corners)


def test_without_need_nothing_is_inserted():
    small = frame(scale=1)
    after = reprojected(small, checked_crs("EPSG:4326"), tolerance=0.1)
    assert shapely.get_num_coordinates(after.geometry.to_numpy()).sum() == (
        shapely.get_num_coordinates(small.geometry.to_numpy()).sum()
    )


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(InputError, match="'EPSG:1': not known"):
        checked_crs("EPSG:1")
    antimeridian = frame(Affine(10, 0, 820_000, 0, -10, 8_900_000), "EPSG:32760")
    for crs in ("EPSG:4326", "EPSG:3857", "EPSG:6933"):
        with pytest.raises(InputError, match="torn"):
            reprojected(antimeridian, checked_crs(crs), tolerance=0.1)
    # Mercator about another meridian has no edge there.
    assert reprojected(antimeridian, checked_crs("EPSG:3832"), tolerance=0.1).is_valid.all()
    with pytest.raises(InputError, match="domain"):
        reprojected(frame(), checked_crs("+proj=gnom +lat_0=80 +lon_0=120"), tolerance=0.1)


def test_nothing_stays_nothing():
    empty = frame().iloc[:0]
    assert reprojected(empty, checked_crs("EPSG:4326"), tolerance=0.1).crs == "EPSG:4326"
