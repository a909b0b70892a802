"""The QGIS project in which a sample is labelled: points over pictures, and a page per point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from geoforest.io.styles import read_style
from geoforest.report.page import render
from geoforest.report.qgis import (
    layer_key,
    plain_title,
    project_archive,
    relative_source,
    style_parts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import geopandas
    from rasterio.crs import CRS

# Pixels on each side of a point that a page and a bookmark show.
_REACH_PX = 25


def sample_project(
    path: Path,
    sample: Path,
    sampled: geopandas.GeoDataFrame,
    *,
    title: str,
    style: str,
    looks: Mapping[str, Sequence[Path]],
    bounds: tuple[float, float, float, float],
    pixel: float,
    crs: CRS,
) -> bytes:
    """Make the project that a sample is labelled in: points over pictures, and a page a point.

    It has a theme for each date and a bookmark for each point, too. Nothing of what the map says is
    in it. Paths in it are relative where they can be.

    Parameters
    ----------
    path
        Where it will lie, ``.qgz``.
    sample
        GeoPackage with the layer ``sample``.
    sampled
        Its points, with ``sample_id``, in ``crs``.
    title
    style
        QML of the points.
    looks
        Rasters in true colour by name of the scene, the first on top, the latest scene first.
    bounds
        Of the map, in ``crs``.
    pixel
        Its size in units of ``crs``.
    crs
        Of points and map.
    """
    title, key = plain_title(title), layer_key(title)
    points = {
        "id": f"sample_{key}",
        "name": f"Points to label, {title}",
        "source": f"{relative_source(sample, path)}|layername=sample",
        "is_vector": True,
        "geometry": "Point",
        "shown": True,
        "has_legend": True,
        "style": style_parts(style),
    }
    below, dates = [], []
    for number, (name, rasters) in enumerate(looks.items()):
        own = [
            {
                "id": f"picture{number}{place}_{key}",
                "name": f"True colour, {plain_title(name)}"
                + ", about the points" * (place < len(rasters) - 1),
                "source": relative_source(raster, path),
                "is_vector": False,
                "shown": number == 0,
                "has_legend": False,
                "style": style_parts(read_style("quicklook.qml")),
            }
            for place, raster in enumerate(rasters)
        ]
        below += own
        dates.append({"name": plain_title(name), "layers": [points, *own]})
    # As they are read on a page: the earliest to the left.
    dates = dates[::-1] or [{"name": title, "layers": [points]}]
    left, bottom, right, top = bounds
    labelling = {
        "layer": points["id"],
        "name": points["name"],
        "source": points["source"],
        "x": (left + right) / 2,
        "y": (bottom + top) / 2,
        "pixel": pixel,
        "dates": dates,
    }
    places = {
        int(number): _square(point.x, point.y, _REACH_PX * pixel)
        for number, point in zip(sampled["sample_id"], sampled.geometry, strict=True)
    }
    layout = Markup(render("labelling.qpt", labelling=labelling))
    return project_archive(
        path.stem,
        title,
        [points, *below],
        bounds,
        crs,
        labelling=layout,
        dates=dates,
        places=places,
    )


def _square(x: float, y: float, reach: float) -> list[str]:
    return [repr(float(value)) for value in (x - reach, y - reach, x + reach, y + reach)]
