"""Read and check labelled chips, which are pairs of image and mask."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import MemoryFile

from geoforest.arrays.reflectance import BandStatistics
from geoforest.arrays.validity import ValueRules, clipped, observed
from geoforest.errors import DataError, GeoforestWarning, SceneError
from geoforest.io.files import Place, open_place, read_ahead
from geoforest.io.gdal import pinned
from geoforest.io.publication import write_file
from geoforest.io.tables import csv_text
from geoforest.scenes.coding import USUAL_SCALE, Coding, is_reflectance, read_type, tags_of
from geoforest.train.codes import WANTED, CodeCounts, code_fault, lossy_compression
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, Array, Mask, Valid

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    import rasterio
    from rasterio.crs import CRS

_SUFFIXES = {".tif", ".tiff"}
# Below it, numbers of the size of reflectance would be black.
_SCALE_OF_REFLECTANCE = 0.01


@dataclass(frozen=True, eq=False)
class Chip:
    """One labelled training sample.

    Attributes
    ----------
    name
        Stem of its two files.
    dn
        Stored values within what reflectance can be, ``(band, row, col)``.
    mask
        uint8 ``(row, col)``: 0 other, 1 forest, 255 not labelled or not observed.
    observed
        bool ``(row, col)``: where the image has a value, with or without a label. The network
        sees all of these, as it does when it maps a scene.
    """

    name: str
    dn: Array
    mask: Mask
    observed: Valid

    @property
    def labelled(self) -> Valid:
        """Pixels that losses and scores count, bool ``(row, col)``: labelled, and so observed."""
        labelled: Valid = self.mask != NO_OBSERVATION
        return labelled


@dataclass(frozen=True, eq=False)
class Pair:
    """Image file and mask file of a chip."""

    image: Place
    mask: Place


@dataclass(frozen=True, eq=False)
class Raster:
    """Content of an image file or a mask file.

    Attributes
    ----------
    values
        Stored values, ``(band, row, col)``.
    nodata
        One value or None per band.
    inside
        bool ``(row, col)``: False where an internal mask marks no observation.
    codings
        Scale and offset that the tags of each band state.
    crs
        Coordinate reference system; None when the file states none.
    bounds
        ``(left, bottom, right, top)`` in ``crs``.
    lossy
        Name of the file's lossy compression; None when it has none.
    """

    values: Array
    nodata: tuple[float | None, ...]
    inside: Valid
    codings: tuple[Coding, ...]
    crs: CRS | None
    bounds: tuple[float, float, float, float]
    lossy: str | None = None

    def in_units_of(self, scale: float, stored: Array) -> Array:
        """Convert stored values ``(band, row, col)`` to numbers x ``scale`` of reflectance.

        The tags say how; values without tags are such numbers.
        """
        values = stored.astype(read_type(stored.dtype.name), copy=False)
        stated = [
            (scale if coding.scale is None else coding.scale, coding.offset or 0.0)
            for coding in self.codings
        ]
        if all(math.isclose(own, scale) and not offset for own, offset in stated):
            return values
        factors = np.array([(own / scale, offset / scale) for own, offset in stated])
        gain, shift = factors.T[..., None, None]
        converted: Array = (values * gain + shift).astype(np.float32)
        return converted


class Fault(NamedTuple):
    """A reason why data cannot be trained on: the file or folder, what was found and expected."""

    where: str
    what: str


def read_split(
    data: str | Path,
    split: str,
    *,
    n_bands: int,
    bands: Sequence[str] = (),
    scale: float = USUAL_SCALE,
) -> list[Chip]:
    """Read all chips of ``data/split/{images,masks}``.

    Parameters
    ----------
    data
        Folder of the set: a path, or a URL such as ``s3://bucket/prefix``.
    split
        ``train``, ``validation`` or ``test``.
    n_bands
        Bands an image must have.
    bands
        Their names. Without them, what tells the edge of a swath from dark ground by the colour of
        a pixel is not applied.
    scale
        Reflectance is number x scale, in the chips returned: images whose own tags state another
        scale, or an offset, are converted to float32.

    Returns
    -------
    list of Chip
        Sorted by name. Values are within what reflectance can be, as those that a network maps.
        Pixels that were not observed, see :mod:`geoforest.arrays.validity`, get mask code 255.

    Raises
    ------
    DataError
        Names the file: an image without mask or a mask without image, unequal shapes, another
        number of bands, unknown codes, sides that are not multiples of 32, or masks that hold
        only 0 and 255.
    """
    folder = open_place(data) / split
    pairs, faults = find_pairs(folder)
    raise_first_fault(faults)
    chips: list[Chip] = []
    codes = CodeCounts()
    for pair, image_data, mask_data in read_pairs(pairs):
        image = decode_raster(pair.image, image_data.result())
        mask = decode_raster(pair.mask, mask_data.result())
        raise_first_fault(pair_faults(pair, image, mask, n_bands=n_bands))
        rules = chip_rules(image, bands, scale)
        seen = observed(image.values, rules, ~image.inside)
        _refuse_reflectance(pair.image, image, seen, scale)
        dn = image.in_units_of(scale, clipped(image.values, rules))
        chips.append(Chip(pair.image.stem, dn, labelled_mask(mask, seen), seen))
        codes.add(mask.values)
    raise_first_fault(
        split_faults(folder, dtypes={str(chip.dn.dtype) for chip in chips}, codes=codes.pixels)
    )
    if (what := codes.scattered_forest()) is not None:
        warnings.warn(f"{folder}/masks: {what}", GeoforestWarning, stacklevel=2)
    return chips


def _refuse_reflectance(place: Place, image: Raster, seen: Valid, scale: float) -> None:
    """Refuse reflectance itself where numbers x 0.0001 or the like were wanted."""
    is_untagged = all(coding.scale is None for coding in image.codings)
    if (
        scale < _SCALE_OF_REFLECTANCE
        and is_untagged
        and np.issubdtype(image.values.dtype, np.floating)
        and all(is_reflectance(band[seen]) for band in image.values)
    ):
        raise DataError(
            f"{place}: its values are of the size of reflectance itself, and numbers that times "
            f"{scale:g} are reflectance were wanted; --scale 1 trains on the former"
        )


def chip_rules(image: Raster, bands: Sequence[str], scale: float = USUAL_SCALE) -> ValueRules:
    """Return the rules that tell which pixels of a chip were observed: those of scenes.

    ``scale`` is that of bands whose tags state none.
    """
    n_bands = len(image.values)
    return ValueRules(
        bands=tuple(bands) if len(bands) == n_bands else ("",) * n_bands,
        nodata=image.nodata,
        scale=tuple(scale if one.scale is None else one.scale for one in image.codings),
        offset=tuple(one.offset or 0.0 for one in image.codings),
        zero_is_nodata=all(value is None for value in image.nodata)
        and bool(image.inside.all())
        and np.issubdtype(image.values.dtype, np.integer),
    )


def raise_first_fault(faults: Iterable[Fault]) -> None:
    """Raise the first fault, if any, as a DataError."""
    for fault in faults:
        raise DataError(f"{fault.where}: {fault.what}")


def find_pairs(folder: Place) -> tuple[list[Pair], list[Fault]]:
    """Return the pairs in ``folder/{images,masks}``, sorted by name, and faults of the rest."""
    faults: list[Fault] = []
    images, masks = (_files(folder / kind, faults) for kind in ("images", "masks"))
    if faults:
        return [], faults
    if not images:
        what = f"no GeoTIFF chips; {folder}/{{images,masks}} were wanted"
        return [], [Fault(f"{folder}/images", what)]
    for name in sorted(images.keys() ^ masks.keys()):
        present, absent = ("image", "mask") if name in images else ("mask", "image")
        what = f"{present} without {absent} of the same name"
        faults.append(Fault(str((images | masks)[name]), what))
    names = sorted(images.keys() & masks.keys())
    return [Pair(images[name], masks[name]) for name in names], faults


def _files(folder: Place, faults: list[Fault]) -> dict[str, Place]:
    """Return GeoTIFFs by stem; problems are added to ``faults``."""
    children = folder.children()
    if children is None:
        faults.append(Fault(str(folder), "no such folder; images/ and masks/ were wanted"))
        return {}
    files: dict[str, Place] = {}
    for place in children:
        if place.suffix not in _SUFFIXES:
            continue
        if place.stem in files:
            faults.append(Fault(str(place), f"has the name of {files[place.stem]}; one was wanted"))
        files[place.stem] = place
    return files


def read_pairs(pairs: Sequence[Pair]) -> Iterator[tuple[Pair, Future[bytes], Future[bytes]]]:
    """Yield each pair with the bytes of its image and its mask, which are read ahead."""
    data = read_ahead(place for pair in pairs for place in (pair.image, pair.mask))
    return zip(pairs, data, data, strict=True)


def decode_raster(place: Place, data: bytes) -> Raster:
    """Decode the bytes of a GeoTIFF.

    Side-car files are ignored, so that a folder and a bucket give the same result.

    Raises
    ------
    DataError
        When ``data`` is not a GeoTIFF, or is damaged.
    """
    if not data:
        # Without data, rasterio would create a new file.
        raise DataError(f"{place}: not a raster that GDAL can read (it is empty)")
    with warnings.catch_warnings(), MemoryFile(data, filename=place.name) as memory, pinned():
        # Chips need no georeference.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            # Other drivers open further files that the data names.
            with memory.open(driver="GTiff") as source:
                return _content(source)
        except SceneError as error:
            raise DataError(str(error).replace(memory.name, str(place))) from error
        except RasterioIOError as error:
            reason = str(error.__cause__ or error).replace(memory.name, place.name)
            raise DataError(f"{place}: not a raster that GDAL can read ({reason})") from error


def _content(source: rasterio.DatasetReader) -> Raster:
    if unknown := [kind for kind in source.dtypes if read_type(kind) is None]:
        raise SceneError(
            f"{source.name}: is of {unknown[0]}; integers or real numbers were wanted "
            "(gdal_translate -ot Float32 makes them)"
        )
    inside = np.ones(source.shape, np.bool_)
    for index, flags in zip(source.indexes, source.mask_flag_enums, strict=True):
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            inside &= source.read_masks(index) > 0
    codings = tuple(tags_of(source, index) for index in source.indexes)
    return Raster(
        source.read(),
        source.nodatavals,
        inside,
        codings,
        source.crs,
        tuple(source.bounds),
        lossy_compression(source.tags(ns="IMAGE_STRUCTURE")),
    )


def pair_faults(pair: Pair, image: Raster, mask: Raster, *, n_bands: int) -> Iterator[Fault]:
    """Yield the faults for which an image and its mask cannot be a chip."""
    bands, rows, cols = image.values.shape
    if bands != n_bands:
        yield Fault(str(pair.image), f"{bands} bands, {n_bands} were wanted")
    if mask.values.shape != (1, rows, cols):
        yield Fault(str(pair.mask), f"shape {mask.values.shape}, (1, {rows}, {cols}) wanted")
    if rows % 32 or cols % 32:
        yield Fault(str(pair.image), f"{rows} x {cols} px; multiples of 32 were wanted")
    if (what := code_fault(mask.values, mask.lossy)) is not None:
        yield Fault(str(pair.mask), what)


def split_faults(
    folder: Place,
    *,
    dtypes: Collection[str] = (),
    codes: Collection[float] = (),
    shapes: Iterable[tuple[str, str]] = (),
    bands: Sequence[str] = (),
    statistics: BandStatistics | None = None,
) -> Iterator[Fault]:
    """Yield the faults for which chips that are valid one by one cannot be one split.

    An argument that is not given is not checked.

    Parameters
    ----------
    folder
        Folder of the split.
    dtypes
        Types of the images.
    codes
        Codes in the mask files.
    shapes
        Shape, as :func:`shape_px` returns it, and name of each image; only training and choosing
        need a single shape.
    bands, statistics
        Bands of the images and their statistics over labelled pixels: a constant band cannot be
        normalised.
    """
    if found := count_kinds(shapes):
        yield Fault(str(folder), f"chips of several shapes: {found}; one was wanted")
    if len(dtypes) > 1:
        what = f"chips of types {', '.join(sorted(dtypes))}; one was wanted"
        yield Fault(f"{folder}/images", what)
    if set(codes) == {OTHER, NO_OBSERVATION}:
        what = f"codes 0 and 255 only, so that 255 may be meant as forest; {WANTED}"
        yield Fault(f"{folder}/masks", what)
    if statistics is not None and statistics.count:
        for band, mean, spread in zip(bands, statistics.mean, statistics.std, strict=True):
            # The spread of a constant band is only rounding error.
            if not spread > 1e-6 * abs(mean):
                yield Fault(f"{folder}/images", f"band {band} has one value everywhere")


def shape_px(values: Array) -> str:
    """Return rows and columns of an array ``(..., row, col)`` as text for messages."""
    return f"{values.shape[-2]} x {values.shape[-1]} px"


def count_kinds(items: Iterable[tuple[str, str]]) -> str | None:
    """Count items ``(kind, where)`` by kind, with an example each; None for fewer than two kinds.

    Examples
    --------
    >>> count_kinds([("uint8", "a"), ("uint16", "b"), ("uint8", "c")])
    'uint8 (2, such as a), uint16 (1, such as b)'
    """
    kinds: dict[str, list[str]] = {}
    for kind, where in items:
        kinds.setdefault(kind, []).append(where)
    if len(kinds) < 2:
        return None
    return ", ".join(f"{kind} ({len(where)}, such as {where[0]})" for kind, where in kinds.items())


def label_faults(
    folder: Place, *, forest_px: int, other_px: int, one_class_will_do: bool = False
) -> Iterator[Fault]:
    """Yield the faults for which the labels of a split cannot train or evaluate a model.

    Parameters
    ----------
    folder
        Folder of the split.
    forest_px, other_px
        Labelled pixels per class.
    one_class_will_do
        Accept a single class: for a split that is only scored, and on which nothing is chosen.
    """
    if not forest_px + other_px:
        yield Fault(f"{folder}/masks", "not one labelled pixel (all are 255)")
    elif not one_class_will_do and not (forest_px and other_px):
        found = "nothing but forest" if forest_px else "no forest at all"
        yield Fault(f"{folder}/masks", f"{found}; both classes were wanted")


def refuse_labels(
    data: str | Path, split: str, chips: Sequence[Chip], *, one_class_will_do: bool = False
) -> None:
    """Refuse a split whose labels cannot train or evaluate a model; see :func:`label_faults`.

    Raises
    ------
    DataError
        Names the folder.
    """
    forest_px, other_px = (
        sum(int(np.count_nonzero(chip.mask == code)) for chip in chips) for code in (FOREST, OTHER)
    )
    raise_first_fault(
        label_faults(
            open_place(data) / split,
            forest_px=forest_px,
            other_px=other_px,
            one_class_will_do=one_class_will_do,
        )
    )


def labelled_mask(mask: Raster, seen: Valid) -> Mask:
    """Return mask codes for training, uint8 ``(row, col)``: 255 also where nothing was observed."""
    codes: Mask = mask.values[0].astype(np.uint8)
    codes[~(seen & mask.inside)] = NO_OBSERVATION
    return codes


def channel_statistics(chips: Sequence[Chip]) -> BandStatistics:
    """Compute mean and standard deviation per band over labelled pixels, in one pass, float64."""
    statistics = BandStatistics()
    for chip in chips:
        statistics += BandStatistics.of(chip.dn, chip.labelled)
    return statistics


def write_statistics(path: str | Path, bands: Sequence[str], statistics: BandStatistics) -> None:
    """Write a CSV of band, mean, std and count of pixels, completely or not at all."""
    rows = [
        {"band": band, "mean": mean, "std": std, "count": statistics.count}
        for band, mean, std in zip(
            bands, statistics.mean.tolist(), statistics.std.tolist(), strict=True
        )
    ]
    write_file(Path(path), csv_text(rows).encode())
