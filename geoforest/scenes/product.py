"""What a Sentinel-2 product's own metadata says of its files and its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geoforest.errors import SceneError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True)
class Product:
    """One product, of whatever packaging: a SAFE folder or archive, a STAC item.

    Attributes
    ----------
    product_id
        Becomes the scene's id.
    location
        What the user gave, for messages.
    bands
        Each band at the highest resolution it is there in, by name: a path that GDAL opens.
    scale, offset
        By band: reflectance is ``dn * scale + offset``, as the metadata says.
    nodata
        Stored value of pixels that were not observed, before the offset.
    acquired
        Sensing time, UTC.
    processing_level
        ``L1C`` or ``L2A``.
    scene_classification
        Path of the scene classification layer (SCL), where there is one.
    metadata
        Paths of the files all this was read from.
    facts
        For people and records: ``mgrs_tile``, ``orbit``, ``processing_baseline``,
        ``cloud_percent`` and such.
    notes
        Sentences the user should read.
    """

    product_id: str
    location: str
    bands: Mapping[str, str]
    scale: Mapping[str, float]
    offset: Mapping[str, float]
    nodata: float | None = 0.0
    acquired: datetime | None = None
    processing_level: str | None = None
    scene_classification: str | None = None
    metadata: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def files(self, wanted: Sequence[str]) -> list[str]:
        """Paths of the bands a model needs, in its order.

        Raises
        ------
        SceneError
            When one is missing.
        """
        for name in wanted:
            if name not in self.bands:
                raise SceneError(
                    f"{self.location}: band {name} is missing: the product has "
                    f"{', '.join(sorted(self.bands)) or 'none'}, and {', '.join(wanted)} are wanted"
                )
        return [self.bands[name] for name in wanted]
