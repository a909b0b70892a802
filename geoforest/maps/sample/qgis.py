"""Build the QGIS project to label a sample in: points over pictures, and one page per point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from geoforest.io.styles import read_style
from geoforest.report.language import language, message
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

    from geoforest.report.language import LanguageCode

# Pixels on each side of a point that a page and a bookmark show.
_REACH_PX = 25
_TO_LABEL, _COLOUR, _ABOUT = (
    message("Points to label"),
    message("True colour"),
    message("about the points"),
)


def sample_project(
    path: Path,
    sample: Path,
    sampled: geopandas.GeoDataFrame,
    *,
    title: str,
    style: str,
    pictures: Mapping[str, Sequence[Path]],
    bounds: tuple[float, float, float, float],
    pixel: float,
    crs: CRS,
    code: LanguageCode = "en",
) -> bytes:
    """Build the QGIS project to label a sample in: points over pictures, and one page per point.

    It also has one theme per date and one bookmark per point. It does not show the map, which could
    bias the labeller. Paths in it are relative where possible.

    Parameters
    ----------
    path
        Path at which the project will be written, ``.qgz``.
    sample
        GeoPackage with the layer ``sample``.
    sampled
        Points of the sample, with ``sample_id``, in ``crs``.
    title
        Title of the project, such as the scene id.
    style
        QML style of the points.
    pictures
        Rasters in true colour by name of the scene, the latest scene first; in each list the first
        is drawn on top.
    bounds
        ``(left, bottom, right, top)`` of the map, in ``crs``.
    pixel
        Pixel size of the map, in units of ``crs``.
    crs
        CRS of points and map.
    code
        Language of the form, the pages, and the names of layers.

    Returns
    -------
    bytes
        Content of the ``.qgz`` file.
    """
    title, key, chosen = plain_title(title), layer_key(title), language(code)
    points = {
        "id": f"sample_{key}",
        "name": f"{chosen(_TO_LABEL)}, {title}",
        "source": f"{relative_source(sample, path)}|layername=sample",
        "is_vector": True,
        "geometry": "Point",
        "shown": True,
        "has_legend": True,
        "style": style_parts(style, chosen),
    }
    below, dates = [], []
    for number, (name, rasters) in enumerate(pictures.items()):
        own = [
            {
                "id": f"picture{number}{place}_{key}",
                "name": f"{chosen(_COLOUR)}, {plain_title(name)}"
                + f", {chosen(_ABOUT)}" * (place < len(rasters) - 1),
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
    # On a page dates run from left to right, the earliest first.
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
        int(number): _square_around(point.x, point.y, _REACH_PX * pixel)
        for number, point in zip(sampled["sample_id"], sampled.geometry, strict=True)
    }
    layout = Markup(render("labelling.qpt", code, labelling=labelling))
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


def _square_around(x: float, y: float, reach: float) -> list[str]:
    return [repr(float(value)) for value in (x - reach, y - reach, x + reach, y + reach)]
