"""What was asked of a map besides its job: products, threshold, rules, units."""

from __future__ import annotations

from typing import Any

from geoforest._version import __version__
from geoforest.io.names import MASK_NAME, POLYGONS_NAME, PROBABILITY_NAME, REPORT_NAME
from geoforest.maps.units.read import Units
from geoforest.pipeline.job import Job
from geoforest.pipeline.settings import MapSettings, Product
from geoforest.pipeline.workspace import Workspace

_NAMES: dict[Product, str] = {
    "mask": MASK_NAME,
    "probability": PROBABILITY_NAME,
    "polygons": POLYGONS_NAME,
    "report": REPORT_NAME,
}


def with_earlier(settings: MapSettings, workspace: Workspace) -> MapSettings:
    """Ask for the products that an earlier run of the same job left, too.

    They are made anew, so that all files in a folder agree, and none is lost by asking for others.
    """
    outputs = (workspace.earlier_run() or {}).get("outputs", {})
    earlier = {product for product, name in _NAMES.items() if name in outputs}
    return settings.model_copy(update={"products": settings.products | earlier})


def asked(job: Job, settings: MapSettings, units: Units | None) -> dict[str, Any]:
    """All that the products depend on besides the job, as it stands in ``job.json``."""
    return {
        "geoforest": __version__,
        "model": job.bundle.model_id,
        "scene_id": job.scene.scene_id,
        "threshold": chosen_threshold(job, settings),
        "min_area_ha": settings.min_area_ha,
        "max_vertices": settings.max_vertices,
        "check_halo": settings.check_halo,
        "products": sorted(settings.products),
        "units": None if units is None else units.digest,
    }


def chosen_threshold(job: Job, settings: MapSettings) -> float:
    return job.bundle.card.threshold if settings.threshold is None else settings.threshold
