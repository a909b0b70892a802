"""Labelled chips: pairs of image and mask, read and checked."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import MemoryFile

from geoforest.arrays.reflectance import BandStatistics, observed
from geoforest.errors import DataError
from geoforest.io.files import Place, open_place, read_ahead
from geoforest.io.storage import write_durably
from geoforest.io.tables import csv_text
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, Array, Mask, Valid

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from rasterio.crs import CRS

_CODES = (OTHER, FOREST, NO_OBSERVATION)
_SUFFIXES = {".tif", ".tiff"}
_WANTED_CODES = "0 other, 1 forest, 255 unknown were wanted"


@dataclass(frozen=True, eq=False)
class Chip:
    """One labelled training sample.

    Attributes
    ----------
    name
        Of its files.
    dn
        ``(band, row, col)``, as stored.
    mask
        uint8 ``(row, col)``: 0 other, 1 forest, 255 not labelled or not observed.
    observed
        bool ``(row, col)``: where the image has a value, with a label or without. A network sees
        all of these, as it does in a scene that is mapped.
    """

    name: str
    dn: Array
    mask: Mask
    observed: Valid

    @property
    def labelled(self) -> Valid:
        """Pixels with a label, all of them observed: what losses and scores count."""
        return self.mask != NO_OBSERVATION


@dataclass(frozen=True, eq=False)
class Pair:
    """The two files of a chip."""

    image: Place
    mask: Place


@dataclass(frozen=True, eq=False)
class Raster:
    """What the file of an image or of a mask holds.

    Attributes
    ----------
    values
        ``(band, row, col)``, as stored.
    nodata
        One value a band, or None.
    crs
        None when the file states none.
    bounds
        ``(left, bottom, right, top)`` in ``crs``.
    """

    values: Array
    nodata: tuple[float | None, ...]
    crs: CRS | None
    bounds: tuple[float, float, float, float]


class Fault(NamedTuple):
    """Why data cannot be trained on: the file or folder, and what was found and wanted."""

    where: str
    what: str


def read_split(data: str | Path, split: str, *, n_bands: int) -> list[Chip]:
    """Read all chips of ``data/split/{images,masks}``.

    Parameters
    ----------
    data
        Folder of the set: a path, or a URL such as ``s3://bucket/prefix``.
    split
        ``train``, ``validation`` or ``test``.
    n_bands
        Bands an image must have.

    Returns
    -------
    list of Chip
        By name. Pixels that were not observed (nodata, not finite) get mask code 255.

    Raises
    ------
    DataError
        Naming the file: an image without mask or the reverse, other shapes or band counts,
        strange codes, sides that are no multiple of 32, masks of 0 and 255 alone.
    """
    folder = open_place(data) / split
    pairs, faults = find_pairs(folder)
    refuse(faults)
    chips: list[Chip] = []
    codes: set[int] = set()
    for pair, image_data, mask_data in read_pairs(pairs):
        image = decode(pair.image, image_data.result())
        mask = decode(pair.mask, mask_data.result())
        refuse(pair_faults(pair, image, mask, n_bands=n_bands))
        seen = observed(image.values, nodata=image.nodata)
        chips.append(Chip(pair.image.stem, image.values, labels(mask, seen), seen))
        codes |= mask_codes(mask)
    refuse(split_faults(folder, dtypes={str(chip.dn.dtype) for chip in chips}, codes=codes))
    return chips


def refuse(faults: Iterable[Fault]) -> None:
    """Raise the first fault, if there is one, as a DataError."""
    for fault in faults:
        raise DataError(f"{fault.where}: {fault.what}")


def find_pairs(folder: Place) -> tuple[list[Pair], list[Fault]]:
    """List the pairs in ``folder/{images,masks}`` by name, and what has no partner."""
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
    """List GeoTIFFs by stem; what is wrong is added to ``faults``."""
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
    """Read the files of image and mask, pair by pair, some ahead of the one asked for."""
    data = read_ahead(place for pair in pairs for place in (pair.image, pair.mask))
    return zip(pairs, data, data, strict=True)


def decode(place: Place, data: bytes) -> Raster:
    """Decode a GeoTIFF.

    Only what stands in the file itself counts, so that a folder and a bucket give the same.

    Raises
    ------
    DataError
        When ``data`` is no GeoTIFF, or is damaged.
    """
    if not data:
        # For which rasterio would begin a new file.
        raise DataError(f"{place}: not a raster that GDAL can read (it is empty)")
    with warnings.catch_warnings(), MemoryFile(data, filename=place.name) as memory:
        # Chips need no georeference.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            # No other driver: some open further files that the data names.
            with memory.open(driver="GTiff") as source:
                return Raster(source.read(), source.nodatavals, source.crs, tuple(source.bounds))
        except RasterioIOError as error:
            reason = str(error.__cause__ or error).replace(memory.name, place.name)
            raise DataError(f"{place}: not a raster that GDAL can read ({reason})") from error


def pair_faults(pair: Pair, image: Raster, mask: Raster, *, n_bands: int) -> Iterator[Fault]:
    """Find what keeps an image and its mask from being a chip."""
    bands, rows, cols = image.values.shape
    if bands != n_bands:
        yield Fault(str(pair.image), f"{bands} bands, {n_bands} were wanted")
    if mask.values.shape != (1, rows, cols):
        yield Fault(str(pair.mask), f"shape {mask.values.shape}, (1, {rows}, {cols}) wanted")
    if rows % 32 or cols % 32:
        yield Fault(str(pair.image), f"{rows} x {cols} px; multiples of 32 were wanted")
    strange = mask_codes(mask).difference(_CODES)
    if strange:
        yield Fault(str(pair.mask), f"code {min(strange)}; {_WANTED_CODES}")


def split_faults(
    folder: Place,
    *,
    dtypes: Collection[str] = (),
    codes: Collection[int] = (),
    shapes: Iterable[tuple[str, str]] = (),
    bands: Sequence[str] = (),
    statistics: BandStatistics | None = None,
) -> Iterator[Fault]:
    """Find what keeps chips, each in order, from being a set; what is not given is not judged.

    Parameters
    ----------
    folder
        Of the split.
    dtypes
        Of the images.
    codes
        In the files of the masks.
    shapes
        Of the images, as :func:`shape_px` has them, with their names; only training and choosing
        want one shape.
    bands, statistics
        Of the images and their labelled pixels: a constant band cannot be normalised.
    """
    if found := several(shapes):
        yield Fault(str(folder), f"chips of several shapes: {found}; one was wanted")
    if len(dtypes) > 1:
        what = f"chips of types {', '.join(sorted(dtypes))}; one was wanted"
        yield Fault(f"{folder}/images", what)
    if set(codes) == {OTHER, NO_OBSERVATION}:
        what = f"codes 0 and 255 only, so that 255 may be meant as forest; {_WANTED_CODES}"
        yield Fault(f"{folder}/masks", what)
    if statistics is not None and statistics.count:
        for band, mean, spread in zip(bands, statistics.mean, statistics.std, strict=True):
            # A constant has a spread of rounding errors only.
            if not spread > 1e-6 * abs(mean):
                yield Fault(f"{folder}/images", f"band {band} has one value everywhere")


def shape_px(values: Array) -> str:
    """Rows and columns of an array ``(..., row, col)``, for messages."""
    return f"{values.shape[-2]} x {values.shape[-1]} px"


def several(items: Iterable[tuple[str, str]]) -> str | None:
    """Count kinds and give an example of each; None when there are not several.

    Examples
    --------
    >>> several([("uint8", "a"), ("uint16", "b"), ("uint8", "c")])
    'uint8 (2, such as a), uint16 (1, such as b)'
    """
    kinds: dict[str, list[str]] = {}
    for kind, where in items:
        kinds.setdefault(kind, []).append(where)
    if len(kinds) < 2:
        return None
    return ", ".join(f"{kind} ({len(where)}, such as {where[0]})" for kind, where in kinds.items())


def mask_codes(mask: Raster) -> set[int]:
    """Values in the file of a mask."""
    return set(np.unique(mask.values).tolist())


def label_faults(
    folder: Place, *, forest_px: int, other_px: int, one_class_will_do: bool = False
) -> Iterator[Fault]:
    """Find what keeps the labels of a split from teaching or judging a model.

    Parameters
    ----------
    folder
        Of the split.
    forest_px, other_px
        Labelled pixels by class.
    one_class_will_do
        For a split that scores are taken of, and on which nothing is chosen.
    """
    if not forest_px + other_px:
        yield Fault(f"{folder}/masks", "not one labelled pixel (all are 255)")
    elif not one_class_will_do and not (forest_px and other_px):
        found = "nothing but forest" if forest_px else "no forest at all"
        yield Fault(f"{folder}/masks", f"{found}; both classes were wanted")


def refuse_labels(
    data: str | Path, split: str, chips: Sequence[Chip], *, one_class_will_do: bool = False
) -> None:
    """Refuse a split whose labels can neither teach nor judge a model; see :func:`label_faults`.

    Raises
    ------
    DataError
        Naming the folder.
    """
    forest_px, other_px = (
        sum(int(np.count_nonzero(chip.mask == code)) for chip in chips) for code in (FOREST, OTHER)
    )
    refuse(
        label_faults(
            open_place(data) / split,
            forest_px=forest_px,
            other_px=other_px,
            one_class_will_do=one_class_will_do,
        )
    )


def labels(mask: Raster, seen: Valid) -> Mask:
    """Mask codes for training, uint8 ``(row, col)``: 255 also where nothing was observed."""
    codes = mask.values[0].astype(np.uint8)
    codes[~seen] = NO_OBSERVATION
    return codes


def channel_statistics(chips: Sequence[Chip]) -> BandStatistics:
    """Mean and standard deviation a band over labelled pixels, in one pass, float64."""
    statistics = BandStatistics()
    for chip in chips:
        statistics += BandStatistics.of(chip.dn, chip.labelled)
    return statistics


def write_statistics(path: str | Path, bands: Sequence[str], statistics: BandStatistics) -> None:
    """Write a CSV of band, mean, standard deviation and count of pixels, whole or not at all."""
    rows = [
        {"band": band, "mean": mean, "std": std, "count": statistics.count}
        for band, mean, std in zip(
            bands, statistics.mean.tolist(), statistics.std.tolist(), strict=True
        )
    ]
    write_durably(Path(path), csv_text(rows).encode())
