"""Files as QGIS projects: those of a map, and a sample to be labelled; styles beside rasters."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pyproj
from markupsafe import Markup
from pyproj.database import get_codes
from pyproj.enums import PJType
from rasterio.crs import CRS
from rasterio.errors import CRSError

from geoforest.io.geopackage import LAYER
from geoforest.io.names import (
    MASK_NAME,
    POLYGONS_NAME,
    PROBABILITY_NAME,
    QUICKLOOK_NAME,
    style_name,
)
from geoforest.report.page import render

if TYPE_CHECKING:
    import geopandas

    from geoforest.scenes.scene import Scene

_RASTERS = (MASK_NAME, PROBABILITY_NAME, QUICKLOOK_NAME)
# Pixels on each side of a point that a page and a bookmark show.
_REACH_PX = 25
# As old as a zip can tell: a file's bytes must not depend on when it was written.
_PINNED_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class _Layer:
    """A layer of the project.

    Attributes
    ----------
    name
        For people.
    source
        File in the project's folder.
    style
        File in the package's folder of styles.
    layer
        In the file, where it holds several.
    below
        Not shown where one of these files is there: what they show lies over it.
    has_legend
        Whether its legend tells anything.
    """

    name: str
    source: str
    style: str
    layer: str = ""
    below: tuple[str, ...] = ()
    has_legend: bool = True

    @property
    def is_vector(self) -> bool:
        return bool(self.layer)


# From top to bottom. The mask is opaque, the polygons are not: under it nobody would see the scene.
_LAYERS = (
    _Layer("Forest cover (model)", POLYGONS_NAME, "forest_cover.qml", layer=LAYER),
    _Layer("Forest mask (model)", MASK_NAME, "forest_mask.qml", below=(POLYGONS_NAME,)),
    _Layer(
        "Forest probability (model)",
        PROBABILITY_NAME,
        "forest_probability.qml",
        below=(POLYGONS_NAME, MASK_NAME),
    ),
    _Layer("True colour", QUICKLOOK_NAME, "quicklook.qml", has_legend=False),
)


def write_styles(folder: Path) -> None:
    """Write each raster's style beside it, under the name that QGIS looks for by itself."""
    for name in _RASTERS:
        if (folder / name).exists():
            (folder / style_name(name)).write_text(_style(style_name(name)), encoding="utf-8")


def write_project(path: Path, scene: Scene) -> None:
    """Write a project with those files of a map that lie in its folder.

    Paths in it are relative. Identical input gives identical bytes.

    Parameters
    ----------
    path
        ``.qgz`` file to make.
    scene
        Its id stands in the names of the layers; its CRS and bounds are the project's.
    """
    title = _plain(scene.scene_id)
    there = [layer for layer in _LAYERS if (path.parent / layer.source).exists()]
    sources = {layer.source for layer in there}
    key = _key(scene.scene_id)
    layers = [
        {
            "id": f"{Path(layer.source).stem}_{key}",
            "name": f"{layer.name}, {title}",
            "source": f"./{layer.source}" + f"|layername={layer.layer}" * layer.is_vector,
            "is_vector": layer.is_vector,
            "geometry": "Polygon",
            "shown": not sources.intersection(layer.below),
            "has_legend": layer.has_legend,
            "style": _parts(_style(layer.style)),
        }
        for layer in there
    ]
    path.write_bytes(_project(path.stem, title, layers, scene.bounds, scene.crs))


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
    title, key = _plain(title), _key(title)
    points = {
        "id": f"sample_{key}",
        "name": f"Points to label, {title}",
        "source": f"{_relative(sample, path)}|layername=sample",
        "is_vector": True,
        "geometry": "Point",
        "shown": True,
        "has_legend": True,
        "style": _parts(style),
    }
    below, dates = [], []
    for number, (name, rasters) in enumerate(looks.items()):
        own = [
            {
                "id": f"picture{number}{place}_{key}",
                "name": f"True colour, {_plain(name)}"
                + ", about the points" * (place < len(rasters) - 1),
                "source": _relative(raster, path),
                "is_vector": False,
                "shown": number == 0,
                "has_legend": False,
                "style": _parts(_style("quicklook.qml")),
            }
            for place, raster in enumerate(rasters)
        ]
        below += own
        dates.append({"name": _plain(name), "layers": [points, *own]})
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
    return _project(
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


def _project(
    stem: str,
    title: str,
    layers: Sequence[Mapping[str, Any]],
    bounds: tuple[float, float, float, float],
    crs: CRS,
    labelling: Markup | None = None,
    dates: Sequence[Mapping[str, Any]] = (),
    places: Mapping[int, list[str]] | None = None,
) -> bytes:
    project = render(
        "project.qgs",
        title=title,
        layers=layers,
        bounds=[repr(float(value)) for value in bounds],
        crs=_crs(crs),
        labelling=labelling,
        dates=dates,
        places=places or {},
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(f"{stem}.qgs", _PINNED_TIME)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, project)
    return stream.getvalue()


def _plain(title: str) -> str:
    # QGIS evaluates what stands between [% and %] in titles of layers.
    return title.replace("[%", "[ %")


def _key(title: str) -> str:
    # Two projects can be opened in one: ids must not be those of another scene.
    return hashlib.sha256(title.encode()).hexdigest()[:12]


def _relative(target: Path, project: Path) -> str:
    relative = os.path.relpath(target.absolute(), project.absolute().parent).replace(os.sep, "/")
    return relative if relative.startswith("../") else f"./{relative}"


def _style(name: str) -> str:
    return (files("geoforest") / "io" / "styles" / name).read_text(encoding="utf-8")


def _parts(style: str) -> dict[str, str]:
    """Split a style of the package, whose text is trusted, in attributes and elements."""
    root = ElementTree.fromstring(style)
    attributes = {
        name: value
        for name, value in root.attrib.items()
        if name not in {"version", "styleCategories"}
    }
    elements = Markup("".join(ElementTree.tostring(child, encoding="unicode") for child in root))
    return {
        "attributes": Markup(" ").join(
            Markup('{}="{}"').format(name, value) for name, value in attributes.items()
        ),
        "elements": elements,
    }


def _crs(crs: CRS) -> dict[str, str | bool | None]:
    """Say what QGIS asks of a CRS; the code only where it says the very same."""
    described = pyproj.CRS.from_user_input(crs)
    code = None
    try:
        found = crs.to_epsg()
        if found is not None and CRS.from_epsg(found) == crs:
            code = f"EPSG:{found}"
    except CRSError:
        pass
    return {
        "code": code,
        "wkt": crs.to_wkt(version="WKT2_2019"),
        "degrees": described.is_geographic,
        "ellipsoid": _ellipsoid(described),
    }


def _ellipsoid(crs: pyproj.CRS) -> str:
    """Code of an ellipsoid of the same axes: QGIS takes none that is given by its axes."""
    wanted = crs.ellipsoid
    if wanted is not None:
        axes = wanted.semi_major_metre, wanted.semi_minor_metre
        for code in get_codes("EPSG", PJType.ELLIPSOID):
            known = type(wanted).from_epsg(code)
            if (known.semi_major_metre, known.semi_minor_metre) == axes:
                return f"EPSG:{code}"
    return "EPSG:7030"  # WGS 84, which others differ from by less than a thousandth
