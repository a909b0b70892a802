"""What was asked of a map besides its job, and where it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from geoforest._version import __version__
from geoforest.io.names import MASK_NAME, POLYGONS_NAME, PROBABILITY_NAME, REPORT_NAME

if TYPE_CHECKING:
    from geoforest.compute.clock import Clock
    from geoforest.maps.units.read import Units
    from geoforest.pipeline.job import Job
    from geoforest.pipeline.settings import MapSettings, Product
    from geoforest.pipeline.workspace import Workspace
    from geoforest.types import Progress

_NAMES: Final[dict[Product, str]] = {
    "mask": MASK_NAME,
    "probability": PROBABILITY_NAME,
    "polygons": POLYGONS_NAME,
    "report": REPORT_NAME,
}


@dataclass(frozen=True)
class MapRun:
    """A run that maps one scene, as staging and publishing need it.

    Attributes
    ----------
    job
        What decides the pixels.
    workspace
        The output folder, held.
    settings
        What the user asked for, with the products of earlier runs; see :func:`with_earlier`.
    units
        Polygons whose hectares are reported; None where none are.
    clock
        Seconds per stage.
    progress
        Called with a stage, what of it is done, and how much there is.
    """

    job: Job
    workspace: Workspace
    settings: MapSettings
    units: Units | None
    clock: Clock
    progress: Progress

    @property
    def threshold(self) -> float:
        """Probability at or above which a pixel is forest: the one asked for, or the model's."""
        chosen = self.settings.threshold
        return self.job.bundle.card.threshold if chosen is None else chosen

    def asked(self) -> dict[str, Any]:
        """Return all that the products depend on besides the job, as ``job.json`` has it."""
        settings = self.settings
        return {
            "geoforest": __version__,
            "model": self.job.bundle.model_id,
            "scene_id": self.job.scene.scene_id,
            "threshold": self.threshold,
            "min_area_ha": settings.min_area_ha,
            "max_vertices": settings.max_vertices,
            "check_halo": settings.check_halo,
            "products": sorted(settings.products),
            "units": None if self.units is None else self.units.digest,
        }


def with_earlier(settings: MapSettings, workspace: Workspace) -> MapSettings:
    """Ask for the products that an earlier run of the same job left, too.

    They are made anew, so that all files in a folder agree, and none is lost by asking for others.
    """
    outputs = (workspace.earlier_run() or {}).get("outputs", {})
    earlier = {product for product, name in _NAMES.items() if name in outputs}
    return settings.model_copy(update={"products": settings.products | earlier})
