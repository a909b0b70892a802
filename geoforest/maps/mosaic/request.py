"""What a run was asked to make of a mosaic, and where its files lie."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from geoforest._version import __version__
from geoforest.maps.finished import remarks_of

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.maps.mosaic.ground import Survey
    from geoforest.maps.mosaic.placed import PlacedMap
    from geoforest.maps.mosaic.plan import TileJob
    from geoforest.maps.mosaic.polygons import PatchRules
    from geoforest.maps.units.read import Units
    from geoforest.report.language import LanguageCode
    from geoforest.types import Progress

FRACTION_NAME: Final = "forest_fraction.tif"
OVERVIEW_NAME: Final = "overview.gpkg"
TILES_NAME: Final = "tiles"


@dataclass(frozen=True)
class Mosaic:
    """Mosaic to make: what from, where, by which rules, and for whom."""

    maps: list[PlacedMap]
    jobs: list[TileJob]
    surveys: list[Survey]
    folder: Path
    rules: PatchRules
    units: Units | None
    notes: list[str]
    progress: Progress
    language: LanguageCode

    @property
    def question(self) -> dict[str, Any]:
        """Everything that decides the products, as ``mosaic.json`` records it."""
        return {
            "tiles": {job.name: job.digest for job in self.jobs},
            "min_area_ha": self.rules.min_area_ha,
            "max_vertices": self.rules.max_vertices,
            "units": None if self.units is None else self.units.digest,
            "remarks": hashlib.sha256("\n".join(self.remarks).encode()).hexdigest(),
            "geoforest": __version__,
            # Version 0.1.0 had English alone, and recorded no language.
            **({} if self.language == "en" else {"language": self.language}),
        }

    @property
    def remarks(self) -> list[str]:
        """What its maps' users were told, and then its own notes."""
        return [*self.warnings, *self.notes]

    @property
    def warnings(self) -> list[str]:
        """Warnings and notes of its maps."""
        return remarks_of([one.finished for one in self.maps])

    def tile(self, job: TileJob) -> Path:
        """Return the folder of a tile."""
        return self.folder / TILES_NAME / job.name
