"""The QGIS project of a map, and the styles beside its rasters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoforest.io.geopackage import LAYER
from geoforest.io.names import (
    MASK_NAME,
    POLYGONS_NAME,
    PROBABILITY_NAME,
    QUICKLOOK_NAME,
    style_name,
)
from geoforest.io.styles import read_style
from geoforest.report.language import language, message
from geoforest.report.qgis import layer_key, plain_title, project_archive, style_parts

if TYPE_CHECKING:
    from geoforest.report.language import LanguageCode
    from geoforest.scenes.scene import Scene

_RASTERS = (MASK_NAME, PROBABILITY_NAME, QUICKLOOK_NAME)


@dataclass(frozen=True)
class _Layer:
    """Layer of the project.

    Attributes
    ----------
    name
        Name in the layer panel.
    source
        File in the project's folder.
    style
        File in the package's folder of styles.
    layer
        Layer in the file, for vector files.
    below
        Files whose layers cover this one: it is hidden when one of them exists.
    has_legend
        Whether its legend is useful.
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


# From top to bottom. The opaque mask would hide the scene; the polygons do not.
_LAYERS = (
    _Layer(message("Forest cover (model)"), POLYGONS_NAME, "forest_cover.qml", layer=LAYER),
    _Layer(message("Forest mask (model)"), MASK_NAME, "forest_mask.qml", below=(POLYGONS_NAME,)),
    _Layer(
        message("Forest probability (model)"),
        PROBABILITY_NAME,
        "forest_probability.qml",
        below=(POLYGONS_NAME, MASK_NAME),
    ),
    _Layer(message("True colour"), QUICKLOOK_NAME, "quicklook.qml", has_legend=False),
)


def write_styles(folder: Path) -> None:
    """Write the style of each raster beside it, under the name that QGIS loads by itself."""
    for name in _RASTERS:
        if (folder / name).exists():
            (folder / style_name(name)).write_text(read_style(style_name(name)), encoding="utf-8")


def write_project(path: Path, scene: Scene, code: LanguageCode = "en") -> None:
    """Write a QGIS project with the files of a map that exist in its folder.

    Paths in it are relative. Identical input gives identical bytes.

    Parameters
    ----------
    path
        ``.qgz`` file to write.
    scene
        Its id is part of layer names; its CRS and bounds are the project's.
    code
        Language of the names of layers and classes.
    """
    chosen = language(code)
    name = scene.scene_id
    if scene.facts.get("synthetic"):
        synthetic = chosen(message("synthetic scene"))
        name += f" ({synthetic})"
    title = plain_title(name)
    there = [layer for layer in _LAYERS if (path.parent / layer.source).exists()]
    sources = {layer.source for layer in there}
    key = layer_key(scene.scene_id)
    layers = [
        {
            "id": f"{Path(layer.source).stem}_{key}",
            "name": f"{chosen(layer.name)}, {title}",
            "source": f"./{layer.source}" + f"|layername={layer.layer}" * layer.is_vector,
            "is_vector": layer.is_vector,
            "geometry": "Polygon",
            "shown": not sources.intersection(layer.below),
            "has_legend": layer.has_legend,
            "style": style_parts(read_style(layer.style), chosen),
        }
        for layer in there
    ]
    path.write_bytes(project_archive(path.stem, title, layers, scene.bounds, scene.crs))
