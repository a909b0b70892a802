"""A Sentinel-2 product: its files and the meaning of its numbers, by its own metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from geoforest.errors import SceneError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from geoforest.scenes.coding import Coding

# JPEG 2000 as a file and as a codestream; TIFF and BigTIFF in both byte orders.
MAGIC: Final = (
    *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
)
MAGIC_BYTES: Final = 12


@dataclass(frozen=True)
class Product:
    """One product: a SAFE folder or archive, or a STAC item.

    Attributes
    ----------
    product_id
        Used as the scene's id.
    location
        The user's path or URL, for messages.
    bands
        Path for GDAL of each band by name, at the highest resolution available.
    codings
        By band name, what the metadata state: scale, offset, and the DN of unobserved pixels.
    usual_nodata
        DN of unobserved pixels where neither the metadata nor the rasters mark any.
    saturated
        DN of saturated detectors, or None.
    acquired
        Sensing time, UTC.
    processing_level
        ``L1C`` or ``L2A``.
    scene_classification
        Path of the scene classification layer (SCL), or None.
    metadata
        Paths of the metadata files.
    facts
        Values for summaries, such as ``mgrs_tile``, ``orbit``, ``processing_baseline`` and
        ``cloud_percent``.
    notes
        Sentences the user should read.
    """

    product_id: str
    location: str
    bands: Mapping[str, str]
    codings: Mapping[str, Coding]
    usual_nodata: float | None = None
    saturated: float | None = None
    acquired: datetime | None = None
    processing_level: str | None = None
    scene_classification: str | None = None
    metadata: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def files(self, wanted: Sequence[str]) -> list[str]:
        """Return the paths of the wanted bands, in this order.

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
