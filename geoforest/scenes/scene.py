"""A scene as a value: the files of its bands, their grid, and the meaning of their numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from geoforest.arrays.georef import GeoRef
from geoforest.arrays.validity import ValueRules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from affine import Affine
    from rasterio.crs import CRS

    from geoforest.types import Shape

FileStamp = tuple[str, int, int | str]
"""Name, size in bytes and modification time in ns of a file; of a remote file the URL without its
query, the size and the version that its server reports."""


@dataclass(frozen=True)
class BandSource:
    """One band of a scene.

    Attributes
    ----------
    name
        Sentinel-2 name, such as ``B04``.
    path
        Absolute path: anything GDAL opens. It may hold a signature, so it is never shown.
    index
        1-based band number in ``path``.
    nodata
        Stored value that marks unobserved pixels, or None.
    mask_index
        Mask of observed pixels: the 1-based number of the alpha band, 0 for GDAL's mask band, or
        None when the file has neither.
    """

    name: str
    path: str = field(repr=False)
    index: int
    nodata: float | None = None
    mask_index: int | None = None


@dataclass(frozen=True)
class Scene:
    """A description of a scene without its pixels, which :mod:`geoforest.scenes.read` reads.

    Attributes
    ----------
    scene_id
        Name of the scene and of its output folder.
    bands
        In the order of the model.
    crs, transform, shape
        The grid, north-up; the shape is ``(rows, cols)``.
    dtype
        NumPy name of the stored type, the same for all bands.
    scale, offset
        Reflectance is ``dn * scale + offset``; one entry per band.
    zero_is_nodata
        True for integer data without any nodata tag or mask: 0 counts as the nodata value of all
        bands.
    saturated
        Stored value of saturated detectors, from the product's metadata, or None.
    acquired
        Time of acquisition, UTC, or None.
    processing_level
        ``L1C`` or ``L2A``, or None.
    files
        Stamps of all files that the scene is read from.
    scene_classification
        Path of the product's scene classification layer (SCL), or None.
    facts
        Other metadata of the product: ``mgrs_tile``, ``orbit``, ``processing_baseline``.
    notes
        Sentences the user should read.
    """

    scene_id: str
    bands: tuple[BandSource, ...]
    crs: CRS
    transform: Affine
    shape: Shape
    dtype: str
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    zero_is_nodata: bool = False
    saturated: float | None = None
    acquired: datetime | None = None
    processing_level: str | None = None
    files: tuple[FileStamp, ...] = ()
    scene_classification: str | None = field(default=None, repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def georef(self) -> GeoRef:
        """Its grid as one value."""
        return GeoRef(self.shape, self.transform, self.crs)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """``(left, bottom, right, top)`` in the CRS."""
        return self.georef.bounds

    @property
    def rules(self) -> ValueRules:
        """What is needed to tell which of its pixels were observed."""
        return ValueRules(
            bands=tuple(band.name for band in self.bands),
            nodata=tuple(band.nodata for band in self.bands),
            scale=self.scale,
            offset=self.offset,
            zero_is_nodata=self.zero_is_nodata,
            saturated=self.saturated,
        )


# Common names of Sentinel-2 bands in catalogues and tools.
_COMMON_NAMES = {
    "BLUE": "B02",
    "GREEN": "B03",
    "RED": "B04",
    "NIR": "B08",
    "NIR08": "B8A",
    "SWIR16": "B11",
    "SWIR22": "B12",
}
# Layers that go with a band, and hold no reflectance.
_BESIDE = re.compile(
    r"(?:^|[^A-Z0-9])(MSK|MASK|ZENITH|AZIMUTH|ANGLES?|INCIDENCE|DETFOO|QUALIT|QUALITY|UNCERTAINTY|"
    r"STD|STDDEV|VARIANCE|COUNT|OBSERVATIONS)(?=$|[^A-Z0-9])"
)
_BAND_NAME = re.compile(r"(?:^|[^A-Z0-9])B(?:AND)?[ _-]?0?([1-9]|1[0-2]|8A)(?=$|[^A-Z0-9])")
_COMMON_NAME = re.compile(r"(?:^|[^A-Z0-9])(" + "|".join(_COMMON_NAMES) + r")(?=$|[^A-Z0-9])")
_LEVEL = re.compile(r"(?:^|_)MSI(L1C|L2A)(?=_|\.|$)")
_SENSING_TIME = re.compile(r"(?:^|_)(20\d{6}T\d{6})(?=_|\.|$)")


def band_name(text: str) -> str | None:
    """Find the Sentinel-2 band that a description or file stem names; None when it names none.

    Examples
    --------
    >>> band_name("B8"), band_name("T20LMR_20200801T142729_B04_10m"), band_name("nir")
    ('B08', 'B04', 'B08')
    >>> band_name("Band 3 (green)"), band_name("B8A"), band_name("cloud_mask")
    ('B03', 'B8A', None)

    A number that contradicts the name counts from another order, so the result is None.

    >>> band_name("Band 4 (NIR)") is None
    True

    So is that for layers beside a band.

    >>> band_name("view_zenith_B4") is None
    True
    """
    upper = text.upper()
    if _BESIDE.search(upper):
        return None
    numbered = named = None
    if found := _BAND_NAME.search(upper):
        number = found.group(1)
        numbered = "B8A" if number == "8A" else f"B{int(number):02d}"
    if found := _COMMON_NAME.search(upper):
        named = _COMMON_NAMES[found.group(1)]
    if numbered and named and not _same_band(numbered, named):
        return None
    return numbered or named


def is_exactly_a_band(text: str) -> bool:
    """Return whether a text is the name of a band and nothing else.

    Examples
    --------
    >>> is_exactly_a_band("B4"), is_exactly_a_band("red"), is_exactly_a_band("B4_old")
    (True, True, False)
    """
    upper = text.upper()
    return any(name.fullmatch(upper) for name in (_BAND_NAME, _COMMON_NAME))


def _same_band(numbered: str, named: str) -> bool:
    # B8A is also called near infrared.
    return numbered == named or {numbered, named} == {"B08", "B8A"}


def sensing_time(product_id: str) -> datetime | None:
    """Parse the time of acquisition, the first time in a Sentinel-2 product id; None without one.

    Examples
    --------
    >>> sensing_time("S2B_MSIL2A_20200223T032739_N9999_R018_T48QUE_20230924T183543")
    datetime.datetime(2020, 2, 23, 3, 27, 39, tzinfo=datetime.timezone.utc)
    >>> sensing_time("mosaic") is None
    True
    """
    found = _SENSING_TIME.search(product_id)
    if found is None:
        return None
    try:
        return datetime.strptime(found.group(1), "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def processing_level(product_id: str) -> str | None:
    """Parse the processing level in a Sentinel-2 product id; None without one.

    Examples
    --------
    >>> processing_level("S2B_MSIL2A_20200223T032739_N9999_R018_T48QUE_20230924T183543")
    'L2A'
    >>> processing_level("mosaic") is None
    True
    """
    found = _LEVEL.search(product_id)
    return found.group(1) if found else None
