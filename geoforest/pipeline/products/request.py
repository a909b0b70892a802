"""What a user asked of a map besides its job, and where it is made."""

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
    """Run that maps one scene: what staging and publishing share.

    Attributes
    ----------
    job
        Everything that decides the pixels.
    workspace
        The locked output folder.
    settings
        What the user asked for, with the products of earlier runs; see :func:`with_earlier`.
    units
        Polygons whose hectares are reported, or None.
    clock
        Measures seconds per stage.
    progress
        Called with a stage, how much of it is done, and how much there is.
    """

    job: Job
    workspace: Workspace
    settings: MapSettings
    units: Units | None
    clock: Clock
    progress: Progress

    @property
    def threshold(self) -> float:
        """Probability at or above which a pixel is forest: the user's, or else the model's."""
        chosen = self.settings.threshold
        return self.job.bundle.card.threshold if chosen is None else chosen

    def asked(self) -> dict[str, Any]:
        """Return all that products depend on besides the job, as ``job.json`` records it."""
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
            # Version 0.1.0 had English alone, and recorded no language.
            **({} if settings.language == "en" else {"language": settings.language}),
        }


def with_earlier(settings: MapSettings, workspace: Workspace) -> MapSettings:
    """Return the settings with the products of an earlier run of the same job added.

    They are made again, so that all files of a folder agree and none gets lost.
    """
    outputs = (workspace.earlier_run() or {}).get("outputs", {})
    earlier = {product for product, name in _NAMES.items() if name in outputs}
    return settings.model_copy(update={"products": settings.products | earlier})
