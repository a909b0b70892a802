"""Forest maps you can trust from Sentinel-2 scenes.

The public names load what they need on first use, so that ``import geoforest`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geoforest._version import __version__

if TYPE_CHECKING:
    from geoforest.arrays.area import PixelTable as PixelTable
    from geoforest.arrays.polygons.polygons import PolygonCounts as PolygonCounts
    from geoforest.arrays.predict import Predictor as Predictor
    from geoforest.errors import AccessError as AccessError
    from geoforest.errors import GeoforestError as GeoforestError
    from geoforest.errors import GeoforestWarning as GeoforestWarning
    from geoforest.errors import IncompleteError as IncompleteError
    from geoforest.errors import InputError as InputError
    from geoforest.errors import ReadError as ReadError
    from geoforest.errors import WriteError as WriteError
    from geoforest.io.files import Place as Place
    from geoforest.io.files import open_place as open_place
    from geoforest.maps.change.run import ChangeResult as ChangeResult
    from geoforest.maps.change.run import map_change as map_change
    from geoforest.maps.finished import fetch_map as fetch_map
    from geoforest.maps.mosaic.page import fraction_picture as fraction_picture
    from geoforest.maps.mosaic.run import MosaicResult as MosaicResult
    from geoforest.maps.mosaic.run import mosaic_maps as mosaic_maps
    from geoforest.maps.picture import map_picture as map_picture
    from geoforest.maps.sample.draw import DrawnSample as DrawnSample
    from geoforest.maps.sample.draw import draw_sample as draw_sample
    from geoforest.maps.sample.estimate import AreaEstimate as AreaEstimate
    from geoforest.maps.sample.estimate import estimate_area as estimate_area
    from geoforest.maps.status import Status as Status
    from geoforest.maps.status import status as status
    from geoforest.maps.units.areas import UnitAreas as UnitAreas
    from geoforest.maps.units.areas import area_by_unit as area_by_unit
    from geoforest.maps.vectorize import vectorize as vectorize
    from geoforest.maps.vectorize import vectorize_to_file as vectorize_to_file
    from geoforest.maps.verify.checks import Problem as Problem
    from geoforest.maps.verify.maps import verify_grid as verify_grid
    from geoforest.maps.verify.run import verify as verify
    from geoforest.models.bundle import Bundle as Bundle
    from geoforest.models.bundle import ModelCard as ModelCard
    from geoforest.models.registry import load_model as load_model
    from geoforest.models.registry import open_model as open_model
    from geoforest.models.registry import push_model as push_model
    from geoforest.pipeline.dataarray import map_array as map_array
    from geoforest.pipeline.products.summary import MapSummary as MapSummary
    from geoforest.pipeline.run import MapResult as MapResult
    from geoforest.pipeline.run import SceneFailure as SceneFailure
    from geoforest.pipeline.run import map_scene as map_scene
    from geoforest.pipeline.run import map_scenes as map_scenes
    from geoforest.pipeline.settings import MapOptions as MapOptions
    from geoforest.pipeline.settings import MapSettings as MapSettings
    from geoforest.report.quicklook import scene_picture as scene_picture
    from geoforest.scenes.find import find_scenes as find_scenes
    from geoforest.scenes.find import scene_stamp as scene_stamp
    from geoforest.scenes.open import open_scene as open_scene
    from geoforest.scenes.scene import Scene as Scene
    from geoforest.scenes.stac.search import search_scenes as search_scenes
    from geoforest.train.evaluation import evaluate_model as evaluate_model
    from geoforest.train.fit import lowest_loss as lowest_loss
    from geoforest.train.fit import train_model as train_model
    from geoforest.train.settings import TrainSettings as TrainSettings
    from geoforest.train.sweep import run_sweep as run_sweep
    from geoforest.train.tracking import WandbTracker as WandbTracker
    from geoforest.train.trials import rank_bundles as rank_bundles
    from geoforest.types import FOREST as FOREST
    from geoforest.types import NO_OBSERVATION as NO_OBSERVATION
    from geoforest.types import OTHER as OTHER
    from geoforest.types import PROBABILITY_STEPS as PROBABILITY_STEPS

_PUBLIC = {
    "geoforest.arrays.area": ("PixelTable",),
    "geoforest.arrays.polygons.polygons": ("PolygonCounts",),
    "geoforest.arrays.predict": ("Predictor",),
    "geoforest.errors": (
        "AccessError",
        "GeoforestError",
        "GeoforestWarning",
        "IncompleteError",
        "InputError",
        "ReadError",
        "WriteError",
    ),
    "geoforest.io.files": ("Place", "open_place"),
    "geoforest.maps.change.run": ("ChangeResult", "map_change"),
    "geoforest.maps.finished": ("fetch_map",),
    "geoforest.maps.mosaic.page": ("fraction_picture",),
    "geoforest.maps.mosaic.run": ("MosaicResult", "mosaic_maps"),
    "geoforest.maps.picture": ("map_picture",),
    "geoforest.maps.sample.draw": ("DrawnSample", "draw_sample"),
    "geoforest.maps.sample.estimate": ("AreaEstimate", "estimate_area"),
    "geoforest.maps.status": ("Status", "status"),
    "geoforest.maps.units.areas": ("UnitAreas", "area_by_unit"),
    "geoforest.maps.vectorize": ("vectorize", "vectorize_to_file"),
    "geoforest.maps.verify.checks": ("Problem",),
    "geoforest.maps.verify.maps": ("verify_grid",),
    "geoforest.maps.verify.run": ("verify",),
    "geoforest.models.bundle": ("Bundle", "ModelCard"),
    "geoforest.models.registry": ("load_model", "open_model", "push_model"),
    "geoforest.pipeline.dataarray": ("map_array",),
    "geoforest.pipeline.products.summary": ("MapSummary",),
    "geoforest.pipeline.run": ("MapResult", "SceneFailure", "map_scene", "map_scenes"),
    "geoforest.pipeline.settings": ("MapOptions", "MapSettings"),
    "geoforest.report.quicklook": ("scene_picture",),
    "geoforest.scenes.find": ("find_scenes", "scene_stamp"),
    "geoforest.scenes.open": ("open_scene",),
    "geoforest.scenes.scene": ("Scene",),
    "geoforest.scenes.stac.search": ("search_scenes",),
    "geoforest.train.evaluation": ("evaluate_model",),
    "geoforest.train.fit": ("lowest_loss", "train_model"),
    "geoforest.train.settings": ("TrainSettings",),
    "geoforest.train.sweep": ("run_sweep",),
    "geoforest.train.tracking": ("WandbTracker",),
    "geoforest.train.trials": ("rank_bundles",),
    "geoforest.types": ("FOREST", "NO_OBSERVATION", "OTHER", "PROBABILITY_STEPS"),
}
"""Public names by the module that defines them; the block above says the same to type checkers."""
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *_MODULE_OF]  # noqa: PLE0604 (each is a string)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'geoforest' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
