"""Forest maps you can trust from Sentinel-2 scenes.

The public names load what they need on first use, so that ``import geoforest`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geoforest._version import __version__

if TYPE_CHECKING:
    from geoforest.maps.change.run import ChangeResult, map_change
    from geoforest.maps.mosaic.run import MosaicResult, mosaic_maps
    from geoforest.maps.sample.draw import DrawnSample, draw_sample
    from geoforest.maps.sample.estimate import AreaEstimate, estimate_area
    from geoforest.maps.units.areas import UnitAreas, area_by_unit
    from geoforest.maps.vectorize import vectorize, vectorize_to_file
    from geoforest.models.registry import load_model
    from geoforest.pipeline.dataarray import map_array
    from geoforest.pipeline.run import MapResult, SceneFailure, map_scene, map_scenes

__all__ = [
    "AreaEstimate",
    "ChangeResult",
    "DrawnSample",
    "MapResult",
    "MosaicResult",
    "SceneFailure",
    "UnitAreas",
    "__version__",
    "area_by_unit",
    "draw_sample",
    "estimate_area",
    "load_model",
    "map_array",
    "map_change",
    "map_scene",
    "map_scenes",
    "mosaic_maps",
    "vectorize",
    "vectorize_to_file",
]

_WHERE = {
    "AreaEstimate": "geoforest.maps.sample.estimate",
    "ChangeResult": "geoforest.maps.change.run",
    "DrawnSample": "geoforest.maps.sample.draw",
    "MapResult": "geoforest.pipeline.run",
    "MosaicResult": "geoforest.maps.mosaic.run",
    "SceneFailure": "geoforest.pipeline.run",
    "UnitAreas": "geoforest.maps.units.areas",
    "area_by_unit": "geoforest.maps.units.areas",
    "draw_sample": "geoforest.maps.sample.draw",
    "estimate_area": "geoforest.maps.sample.estimate",
    "load_model": "geoforest.models.registry",
    "map_array": "geoforest.pipeline.dataarray",
    "map_change": "geoforest.maps.change.run",
    "map_scene": "geoforest.pipeline.run",
    "map_scenes": "geoforest.pipeline.run",
    "mosaic_maps": "geoforest.maps.mosaic.run",
    "vectorize": "geoforest.maps.vectorize",
    "vectorize_to_file": "geoforest.maps.vectorize",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'geoforest' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
