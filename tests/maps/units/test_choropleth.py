"""The map of units: colours where they belong, whatever the names and shapes."""

from __future__ import annotations

import io

import geopandas
import numpy as np
import pytest
import shapely
from matplotlib import colormaps
from PIL import Image

from geoforest.maps.units.choropleth import choropleth

LEFT, TOP = 500_000, 9_700_000


def units(shapes, forest, observed, names=None, crs="EPSG:32720") -> geopandas.GeoDataFrame:
    names = names or [f"u{place}" for place in range(len(shapes))]
    return geopandas.GeoDataFrame(
        {"unit": names, "forest_percent": forest, "observed_percent": observed},
        geometry=shapes,
        crs=crs,
    )


def picture(frame: geopandas.GeoDataFrame) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(choropleth(frame, title="a $ b"))).convert("RGB"))


def share_of(image: np.ndarray, colour) -> float:
    wanted = np.array(colour[:3]) * 255
    return float((np.abs(image.astype(int) - wanted).max(axis=2) <= 3).mean())


def boxes(count: int) -> list[shapely.Polygon]:
    return [shapely.box(LEFT + n * 10_000, TOP - 10_000, LEFT + (n + 1) * 10_000, TOP)
            for n in range(count)]  # fmt: skip


def test_colour_is_the_percent_and_grey_is_unknown():
    image = picture(units(boxes(2), [95.0, np.nan], [100.0, 100.0]))
    ramp = colormaps["YlGn"]
    high = share_of(image, ramp(255))
    assert high > 0.15
    assert share_of(image, (200 / 255,) * 3) > 0.15
    # In the other picture it is in the colour bar alone.
    other = picture(units(boxes(2), [5.0, np.nan], [100.0, 100.0]))
    assert share_of(other, ramp(255)) < high / 5


def test_what_was_hardly_seen_is_hatched():
    clear = picture(units(boxes(1), [95.0], [51.0]))
    hatched = picture(units(boxes(1), [95.0], [49.0]))
    green = colormaps["YlGn"](255)
    assert share_of(hatched, green) < 0.9 * share_of(clear, green)


def test_a_unit_within_another_stays_in_sight():
    small, large = shapely.box(LEFT, TOP - 5000, LEFT + 5000, TOP), boxes(1)[0]
    image = picture(units([small, large], [95.0, 5.0], [100.0, 100.0]))
    assert share_of(image, colormaps["YlGn"](255)) > 0.05


@pytest.mark.parametrize(
    "shape",
    [
        shapely.box(-63, -3.0001, -62, -3),
        shapely.MultiPolygon([shapely.box(-63, -3, -62, -2), shapely.box(-61, -3, -60.9, -2.9)]),
        shapely.box(-63, -3, -62, -2).difference(shapely.Point(-62.5, -2.5).buffer(0.3)),
    ],
)
def test_any_shape_and_name(shape):
    frame = units([shape], [50.0], [100.0], ["$x$ of a very long name indeed"], "EPSG:4326")
    assert min(picture(frame).shape[:2]) > 300
