"""What the numbers of a scene's bands mean: type, nodata, scale and offset, stated or guessed.

An option comes before what a product's metadata state, these before what a raster's own tags state,
and these before a guess: each for itself, and band by band.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioIOError
from rasterio.windows import Window as RasterioWindow

from geoforest.arrays.grid import preview_lattice
from geoforest.errors import SceneError
from geoforest.io.remote import shown
from geoforest.scenes.stamps import absolute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import rasterio
    from numpy.typing import NDArray

    from geoforest.scenes.scene import BandSource
    from geoforest.types import Array

USUAL_SCALE: Final = 1e-4
"""Scale of Sentinel-2 products, taken where nothing states one."""
_KEPT: Final = ("uint8", "uint16", "int16", "float32")
# Float32 keeps seven digits of any of them, far more than reflectance has.
_NARROWED: Final = ("int8", "uint32", "int32", "uint64", "int64", "float16", "float64")
# Rounding to float32 moves reflectance by less than 1e-6 when its offset is below this.
_LARGEST_OFFSET: Final = 10.0
_MAX_FLOAT32: Final = float(np.finfo(np.float32).max)
# Above the median of any reflectance, and below that of digital numbers.
_LARGEST_REFLECTANCE: Final = 2.0
_SAMPLE_PX: Final = 512
_SMALL_PX: Final = 2048
_BLOCKS: Final = 4


@dataclass(frozen=True)
class Coding:
    """What a product, a raster or the user states about the numbers of one band.

    Attributes
    ----------
    scale, offset
        Reflectance is ``dn * scale + offset``; None where it is not stated.
    nodata
        Stored value of unobserved pixels; None where it is not stated.
    """

    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None

    def over(self, other: Coding) -> Coding:
        """Return this coding, with what it leaves open from another one."""
        return Coding(
            other.scale if self.scale is None else self.scale,
            other.offset if self.offset is None else self.offset,
            other.nodata if self.nodata is None else self.nodata,
        )


@dataclass(frozen=True)
class CodedBands:
    """Bands of a scene whose coding is settled.

    Attributes
    ----------
    bands
        With nodata and mask.
    scale, offset
        Reflectance is ``dn * scale + offset``; one number per band.
    notes
        Sentences about tags that were used or contradict a product, and about guesses.
    """

    bands: tuple[BandSource, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    notes: tuple[str, ...]


def read_type(stored: str) -> str | None:
    """Return the type that numbers of a stored type are read as; None when they cannot be read.

    Examples
    --------
    >>> read_type("uint16"), read_type("float64"), read_type("complex64")
    ('uint16', 'float32', None)
    """
    if stored in _KEPT:
        return stored
    return "float32" if stored in _NARROWED else None


def tags_of(source: rasterio.DatasetReader, index: int) -> Coding:
    """Return what an open raster's own tags state about a band.

    Raises
    ------
    SceneError
        When scale and offset are no numbers that can be applied.
    """
    scale, offset = source.scales[index - 1], source.offsets[index - 1]
    nodata = source.nodatavals[index - 1]
    # What rasterio gives without tags.
    if (scale, offset) == (1, 0):
        return Coding(nodata=nodata)
    if scale == 0 or not (math.isfinite(scale) and math.isfinite(offset)):
        raise SceneError(
            f"{shown(source.name)}: the tags of band {index} state scale {scale:g} and offset "
            f"{offset:g}; real numbers were wanted, or --scale and --offset in their place"
        )
    return Coding(scale, offset, nodata)


def settle_coding(
    path: str,
    bands: Sequence[BandSource],
    opened: Mapping[str, rasterio.DatasetReader],
    *,
    given: Mapping[str, Coding],
    stated: Mapping[str, Coding] | None,
    usual_nodata: float | None = None,
) -> CodedBands:
    """Settle nodata, mask, scale and offset of each band.

    Parameters
    ----------
    path
        Names the scene in notes.
    bands
        Bands of the scene.
    opened
        Their open files by path.
    given
        What the user gives, by name of the band.
    stated
        What the metadata of a product state, by name of the band; None without a product.
    usual_nodata
        Nodata of a product's bands where neither its metadata nor its rasters mark any.

    Raises
    ------
    SceneError
        When tags cannot be applied, or float32 would be too coarse for the offset.
    """
    before = {name: one.over((stated or {}).get(name, Coding())) for name, one in given.items()}
    tags = {band.name: _tags_beside(before[band.name], opened[band.path], band) for band in bands}
    known = {name: before[name].over(tag) for name, tag in tags.items()}
    notes: list[str] = []
    open_ones = [band for band in bands if known[band.name].scale is None]
    usual = USUAL_SCALE
    if open_ones and _are_reflectance(open_ones, opened):
        usual = 1.0
        notes.append(
            f"{path}: its values are of the size of reflectance, so scale 1 is taken, unless "
            "--scale gives another"
        )
    elif open_ones and stated is not None:
        notes.append(f"{path}: states no scale for its bands; {usual:g} is used")
    settled = {
        name: (usual if one.scale is None else one.scale, one.offset or 0.0)
        for name, one in known.items()
    }
    if stated is None:
        notes += _tags_used(path, settled, given, tags)
    else:
        notes += _contradictions(path, given, stated, tags)
    for band in bands:
        _check_precision(opened[band.path], band, settled[band.name][1])
    described = []
    for band in bands:
        source, tag = opened[band.path], tags[band.name].nodata
        mask_index = _mask_index(band, source, bands)
        nodata = known[band.name].nodata
        if nodata is None and mask_index is None:
            nodata = usual_nodata
        elif given[band.name].nodata is None and mask_index is None and _differ(nodata, tag):
            # GDAL's mask is of the tag: pixels of either value are unobserved.
            mask_index = 0
        described.append(
            replace(
                band,
                # The job and its workers must find the file from any working folder.
                path=absolute(band.path),
                nodata=as_read(nodata, source.dtypes[band.index - 1]),
                mask_index=mask_index,
            )
        )
    scales, offsets = zip(*(settled[band.name] for band in bands), strict=True)
    return CodedBands(tuple(described), scales, offsets, tuple(notes))


def _tags_beside(before: Coding, source: rasterio.DatasetReader, band: BandSource) -> Coding:
    """Return a band's tags; those that cannot be applied do not matter where others come before."""
    try:
        return tags_of(source, band.index)
    except SceneError:
        if before.scale is None or before.offset is None:
            raise
        return Coding(nodata=source.nodatavals[band.index - 1])


def check_type(source: rasterio.DatasetReader, band: BandSource, first: str) -> None:
    """Check that a band can be read, and is read as another one whose stored type is ``first``.

    Raises
    ------
    SceneError
        When it is not.
    """
    stored = source.dtypes[band.index - 1]
    remedy = "gdal_translate -ot Float32 makes one that can be read"
    if read_type(stored) is None:
        raise SceneError(
            f"{shown(source.name)}: band {band.index} is {stored}; integers or real numbers were "
            f"wanted ({remedy})"
        )
    if read_type(stored) != read_type(first):
        raise SceneError(
            f"{shown(source.name)}: band {band.index} is {stored}, another band {first}; one type "
            f"is wanted ({remedy})"
        )


def sample_pixels(source: rasterio.DatasetReader, index: int = 1) -> NDArray[np.float32]:
    """Read some 260,000 pixels of a band of an open raster, the same ones each time.

    They come from an overview, or without overviews from sixteen blocks; rasters up to 2048 px are
    decimated as a whole.

    Returns
    -------
    numpy.ndarray
        float32, NaN where the raster's own nodata value or mask says so.

    Raises
    ------
    rasterio.errors.RasterioIOError
        When it cannot be read.
    """
    rows, cols = source.shape
    if source.overviews(index) or max(rows, cols) <= _SMALL_PX:
        lattice = preview_lattice((rows, cols), _SAMPLE_PX)
        return _floats(source.read(index, out_shape=tuple(map(len, lattice)), masked=True))
    side = _SAMPLE_PX // _BLOCKS
    offsets = [[(2 * i + 1) * n // (2 * _BLOCKS) for i in range(_BLOCKS)] for n in (rows, cols)]
    places = [(row, col) for row in offsets[0] for col in offsets[1]]
    blocks = [
        _floats(source.read(index, window=RasterioWindow(col, row, side, side), masked=True))
        for row, col in places
    ]
    return np.concatenate([block.ravel() for block in blocks])


def _floats(values: np.ma.MaskedArray[Any, Any]) -> NDArray[np.float32]:
    """Return values as float32, NaN where they are masked or too large."""
    with np.errstate(over="ignore"):
        floats: NDArray[np.float32] = values.data.astype(np.float32)
    floats[np.ma.getmaskarray(values) | ~np.isfinite(floats)] = np.nan
    return floats


def is_reflectance(values: Array) -> bool:
    """Return whether real numbers are of the size of reflectance, not of digital numbers.

    Examples
    --------
    >>> is_reflectance(np.array([np.nan, 0.02, 0.4])), is_reflectance(np.array([300.0, 0.0]))
    (True, False)
    """
    bright = values[np.isfinite(values) & (values > 0)]
    return bright.size > 0 and float(np.median(bright)) <= _LARGEST_REFLECTANCE


def _are_reflectance(
    bands: Sequence[BandSource], opened: Mapping[str, rasterio.DatasetReader]
) -> bool:
    """Return whether bands of real numbers are all of the size of reflectance."""
    for band in bands:
        source = opened[band.path]
        if not np.issubdtype(np.dtype(source.dtypes[band.index - 1]), np.floating):
            return False
        try:
            values = sample_pixels(source, band.index)
        except RasterioIOError:
            # The run itself names the block that cannot be read.
            return False
        if not is_reflectance(values):
            return False
    return True


def _tags_used(
    path: str,
    settled: Mapping[str, tuple[float, float]],
    given: Mapping[str, Coding],
    tags: Mapping[str, Coding],
) -> Iterator[str]:
    """Yield a note when tags decide a scale or an offset, with what holds for each band."""
    used = [
        name
        for name, tag in tags.items()
        if tag.scale is not None and None in (given[name].scale, given[name].offset)
    ]
    if not used:
        return
    formulas: dict[str, list[str]] = {}
    for name, (scale, offset) in settled.items():
        text = f"DN x {scale:g}" + (f" {offset:+g}" if offset else "")
        formulas.setdefault(text + ("" if name in used else " (no tags)"), []).append(name)
    whole = "; ".join(f"{', '.join(names)}: {text}" for text, names in formulas.items())
    yield f"{path}: reflectance is by the scale and offset that its tags state ({whole})"


def _contradictions(
    path: str,
    given: Mapping[str, Coding],
    stated: Mapping[str, Coding],
    tags: Mapping[str, Coding],
) -> Iterator[str]:
    """Yield a note for each number that a product's metadata and its rasters' tags state apart."""
    for field in ("scale", "offset", "nodata"):
        apart: dict[tuple[float, float], list[str]] = {}
        for name, tag in tags.items():
            by_metadata, by_tags = getattr(stated[name], field), getattr(tag, field)
            if getattr(given[name], field) is None and _differ(by_metadata, by_tags):
                apart.setdefault((by_metadata, by_tags), []).append(name)
        for (by_metadata, by_tags), names in apart.items():
            which = "either is unobserved" if field == "nodata" else f"{by_metadata:g} is used"
            yield (
                f"{path}: its metadata state {field} {by_metadata:g} for {', '.join(names)}, the "
                f"rasters' own tags {by_tags:g}; {which}, unless --{field} gives another"
            )


def _differ(one: float | None, other: float | None) -> bool:
    if one is None or other is None or (math.isnan(one) and math.isnan(other)):
        return False
    return not math.isclose(one, other, rel_tol=1e-6)


def _mask_index(
    band: BandSource, source: rasterio.DatasetReader, sources: Sequence[BandSource]
) -> int | None:
    """Return the index of a band's mask; a band that the model uses is never the alpha."""
    used = {other.index for other in sources if other.path == band.path}
    for index, colour in zip(source.indexes, source.colorinterp, strict=True):
        if colour == ColorInterp.alpha and index not in used:
            return int(index)
    flags = source.mask_flag_enums[band.index - 1]
    return 0 if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags else None


def as_read(nodata: float | None, stored: str) -> float | None:
    """Return a nodata value as it is after reading."""
    if nodata is None or stored not in _NARROWED:
        return nodata
    return float(np.float32(np.clip(nodata, -_MAX_FLOAT32, _MAX_FLOAT32)))


def _check_precision(source: rasterio.DatasetReader, band: BandSource, offset: float) -> None:
    """Refuse numbers of which float32 would keep too few digits beside a large offset."""
    stored = source.dtypes[band.index - 1]
    if stored in _NARROWED and abs(offset) > _LARGEST_OFFSET:
        raise SceneError(
            f"{shown(source.name)}: band {band.index} is {stored} with offset {offset:g}, "
            "too large for float32, which it would be read as; reflectance without an offset was "
            "wanted (gdal_calc.py or gdal_translate -unscale -ot Float32 makes it)"
        )
