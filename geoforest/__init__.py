"""Forest maps you can trust from Sentinel-2 scenes.

The public names load what they need on first use, so that ``import geoforest`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from geoforest.area_estimate import AreaEstimate, estimate_area
    from geoforest.arrays import map_array
    from geoforest.change import ChangeResult, map_change
    from geoforest.models.registry import load_model
    from geoforest.mosaic.run import MosaicResult, mosaic_maps
    from geoforest.pipeline import MapResult, SceneFailure, map_scene, map_scenes
    from geoforest.sampling import DrawnSample, draw_sample
    from geoforest.stored import vectorize, vectorize_to_file
    from geoforest.unit_areas import UnitAreas, area_by_unit

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
    "AreaEstimate": "geoforest.area_estimate",
    "ChangeResult": "geoforest.change",
    "DrawnSample": "geoforest.sampling",
    "MapResult": "geoforest.pipeline",
    "MosaicResult": "geoforest.mosaic.run",
    "SceneFailure": "geoforest.pipeline",
    "UnitAreas": "geoforest.unit_areas",
    "area_by_unit": "geoforest.unit_areas",
    "draw_sample": "geoforest.sampling",
    "estimate_area": "geoforest.area_estimate",
    "load_model": "geoforest.models.registry",
    "map_array": "geoforest.arrays",
    "map_change": "geoforest.change",
    "map_scene": "geoforest.pipeline",
    "map_scenes": "geoforest.pipeline",
    "mosaic_maps": "geoforest.mosaic.run",
    "vectorize": "geoforest.stored",
    "vectorize_to_file": "geoforest.stored",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'geoforest' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
