"""Check a set of labelled chips and list everything that is wrong with it at once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import shapely

from geoforest.arrays.reflectance import BandStatistics
from geoforest.arrays.validity import BEYOND, MISSING, ValueCounts, clipped, commonest, judge
from geoforest.errors import DataError
from geoforest.io.files import Place, open_place
from geoforest.scenes.coding import USUAL_SCALE
from geoforest.train.chips import (
    Fault,
    Pair,
    Raster,
    chip_rules,
    count_kinds,
    decode_raster,
    find_pairs,
    label_faults,
    labelled_mask,
    pair_faults,
    read_pairs,
    shape_px,
    split_faults,
)
from geoforest.train.codes import CodeCounts
from geoforest.types import FOREST, NO_OBSERVATION, Array, Progress, quiet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

SPLITS: Final = ("train", "validation", "test")

# Reflectance of cloud and bare metal may exceed 1, seldom 2.
_MAX_REFLECTANCE: Final = 2.0
_MAX_UINT16: Final = 20_000


@dataclass(frozen=True)
class Finding:
    """One problem of a set.

    Attributes
    ----------
    level
        ``error``: training refuses the set, or its scores would be wrong; ``warning``: worth a
        look.
    where
        Path or URL of the file or folder.
    what
        Found and expected, in words.
    """

    level: Literal["error", "warning"]
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: {self.what}"


@dataclass(frozen=True)
class SplitCount:
    """Counts of a split: chips with image and mask, and pixels of those without an error."""

    chips: int
    labelled_px: int
    forest_px: int

    @property
    def forest_percent(self) -> float | None:
        """Percentage of forest in the labelled pixels; None when there are none."""
        return 100 * self.forest_px / self.labelled_px if self.labelled_px else None


@dataclass(frozen=True)
class DataCheck:
    """Result of :func:`check_data`.

    Attributes
    ----------
    findings
        Problems split by split, then those between splits.
    splits
        Counts by name, in the order train, validation, test; absent splits are left out.
    """

    findings: list[Finding]
    splits: dict[str, SplitCount]

    @property
    def failed(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.level == "error" for finding in self.findings)


@dataclass(frozen=True, eq=False)
class _Image:
    """Facts of an image that are kept after its pixels are dropped.

    ``inside`` are its bounds, shrunk by half a pixel on each side, so that neighbours do not touch.
    """

    split: str
    where: str
    digest: bytes
    shape: str
    dtype: str
    peak: float
    crs: str | None
    inside: tuple[float, float, float, float]


@dataclass(eq=False)
class _Split:
    """Counts and findings of one split, filled while its chips are read."""

    folder: Place
    bands: Sequence[str]
    chips: int = 0
    labelled_px: int = 0
    forest_px: int = 0
    codes: CodeCounts = field(default_factory=CodeCounts)
    statistics: BandStatistics = field(default_factory=BandStatistics)
    images: list[_Image] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def fail(self, faults: Iterable[Fault]) -> bool:
        """Add errors; return whether there were any."""
        before = len(self.findings)
        self.findings += [Finding("error", *fault) for fault in faults]
        return len(self.findings) > before

    def warn(self, where: Place, *sentences: str) -> None:
        self.findings += [Finding("warning", str(where), what) for what in sentences]


def check_data(
    data: str | Path,
    *,
    bands: Sequence[str] = ("B04", "B03", "B02", "B08"),
    progress: Progress = quiet,
) -> DataCheck:
    """Find everything that prevents training on a set or makes its scores wrong.

    The pixels of one chip at a time are in memory; of the others a hash and a few numbers.

    Parameters
    ----------
    data
        Folder of the set: a path, or a URL such as ``s3://bucket/prefix``.
    bands
        Names of the bands that the images must have.
    progress
        Called with the split, the chips done and their total.

    Returns
    -------
    DataCheck
        Errors: a missing ``train`` or ``validation``; unpaired and unreadable files; counts of
        bands, shapes, sides, types and codes that training refuses, with the histogram of masks
        that lossy compression has changed; ``train`` or ``validation``
        without one of the classes; a band of ``train`` with one value everywhere; the same image
        in two splits.
        Warnings: values that look wrong; the same image twice in a split; georeferenced chips of
        two splits that share ground (only chips of one CRS are compared); several CRS or types; a
        mask that lies elsewhere than its image; masks whose 255 may be meant as forest; ``test``
        without one of the classes.

    Raises
    ------
    DataError
        When a folder cannot be listed: no permission, no credentials, no network.
    """
    root = open_place(data)
    splits = {name: _check_split(root / name, bands, progress) for name in SPLITS}
    images = [image for split in splits.values() for image in split.images]
    findings = [finding for split in splits.values() for finding in split.findings]
    findings += [*_find_copies(images), *_find_shared_ground(images), *_find_mixtures(root, images)]
    counts = {
        name: SplitCount(split.chips, split.labelled_px, split.forest_px)
        for name, split in splits.items()
        if split.chips
    }
    return DataCheck(findings, counts)


def _check_split(folder: Place, bands: Sequence[str], progress: Progress) -> _Split:
    split = _Split(folder, bands)
    if folder.children() is None:
        if folder.name != "test":
            split.fail([Fault(str(folder), "no such folder; images/ and masks/ in it were wanted")])
        return split
    pairs, faults = find_pairs(folder)
    split.fail(faults)
    for pair, image_data, mask_data in read_pairs(pairs):
        _check_pair(split, pair, image_data, mask_data)
        split.chips += 1
        progress(folder.name, split.chips, len(pairs))
    _check_split_as_whole(split)
    return split


def _check_pair(
    split: _Split, pair: Pair, image_data: Future[bytes], mask_data: Future[bytes]
) -> None:
    image = _decode_or_fail(split, pair.image, image_data)
    mask = _decode_or_fail(split, pair.mask, mask_data)
    if image is not None:
        rules = chip_rules(image, split.bands)
        judged, _ = judge(image.values, rules, ~image.inside)
        seen = judged < MISSING
        split.images.append(_image_facts(split, pair, image, image.values[:, seen]))
        counts = ValueCounts.of(image.values, judged, rules, np.ones_like(seen))
        split.warn(pair.image, *_odd_values(image, judged, counts, split.bands))
    if mask is not None:
        split.codes.add(mask.values)
    if image is None or mask is None:
        return
    if split.fail(pair_faults(pair, image, mask, n_bands=len(split.bands))):
        return
    if _is_misplaced(image, mask):
        split.warn(pair.mask, f"lies elsewhere on the ground than {pair.image}")
    codes = labelled_mask(mask, seen)
    labelled = codes != NO_OBSERVATION
    if split.folder.name == "train":
        split.statistics += BandStatistics.of(
            image.in_units_of(USUAL_SCALE, clipped(image.values, rules)), labelled
        )
    split.labelled_px += int(np.count_nonzero(labelled))
    split.forest_px += int(np.count_nonzero(codes == FOREST))


def _decode_or_fail(split: _Split, place: Place, data: Future[bytes]) -> Raster | None:
    try:
        return decode_raster(place, data.result())
    except DataError as error:
        split.fail([Fault(str(place), str(error).removeprefix(f"{place}: "))])
        return None


def _image_facts(split: _Split, pair: Pair, image: Raster, seen: Array) -> _Image:
    values = image.values
    digest = hashlib.blake2b(f"{values.dtype} {values.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(values).data)
    left, bottom, right, top = image.bounds
    _, rows, cols = values.shape
    dx, dy = (right - left) / cols / 2, (top - bottom) / rows / 2
    return _Image(
        split=split.folder.name,
        where=str(pair.image),
        digest=digest.digest(),
        shape=shape_px(values),
        dtype=str(values.dtype),
        peak=float(seen.max(initial=0)),
        crs=image.crs.to_string() if image.crs else None,
        inside=(left + dx, bottom + dy, right - dx, top - dy),
    )


def _odd_values(
    image: Raster, codes: NDArray[np.uint8], counts: ValueCounts, bands: Sequence[str]
) -> Iterator[str]:
    values, seen = image.values, image.values[:, codes < MISSING]
    if np.issubdtype(values.dtype, np.floating):
        unknown = int(np.count_nonzero(~np.isfinite(values).all(axis=0)))
        if unknown:
            yield f"{unknown} px are NaN or infinite; they count as not observed"
    if not values.any() and any(value != 0 for value in image.nodata):
        yield "every pixel is 0"
        return
    if counts.beyond and values.dtype != np.uint16:
        yield (
            f"{counts.beyond} px have a value that no surface has, most often "
            f"{commonest(counts.beyond_values)}; they count as not observed"
        )
    judged = values[:, (codes < MISSING) | (codes == BEYOND)]
    if values.dtype == np.uint16 and judged.max(initial=0) > _MAX_UINT16:
        beyond = f" ({counts.beyond} px count as not observed)" if counts.beyond else ""
        yield (
            f"values up to {judged.max()}; reflectance x 10000 seldom exceeds {_MAX_UINT16}: "
            f"cloud, or a nodata value without its tag?{beyond}"
        )
    if not seen.size:
        yield "not one observed pixel"
        return
    lowest = seen.min(axis=1)
    for number in np.flatnonzero(lowest == seen.max(axis=1)):
        name = bands[int(number)] if len(bands) == len(values) else number + 1
        yield f"band {name} is {lowest[number]} everywhere"


def _is_misplaced(image: Raster, mask: Raster) -> bool:
    """Return whether image and mask are both georeferenced and differ by half a pixel or more."""
    if image.crs is None or mask.crs is None:
        return False
    left, _, right, _ = image.bounds
    half = (right - left) / image.values.shape[2] / 2
    differences = np.abs(np.subtract(image.bounds, mask.bounds))
    return image.crs != mask.crs or bool((differences >= half).any())


def _check_split_as_whole(split: _Split) -> None:
    split.fail(
        split_faults(
            split.folder,
            dtypes={image.dtype for image in split.images},
            codes=split.codes.pixels,
            shapes=((image.shape, image.where) for image in split.images),
            bands=split.bands,
            statistics=split.statistics,
        )
    )
    peak = max((image.peak for image in split.images if image.dtype.startswith("float")), default=0)
    if 0 < peak <= _MAX_REFLECTANCE:
        split.warn(
            split.folder / "images",
            f"values up to {peak:g}, as reflectance 0 to 1 has; digital numbers (reflectance x "
            "10000) were wanted",
        )
    if (what := split.codes.scattered_forest()) is not None:
        split.warn(split.folder / "masks", what)
    _check_labels(split)


def _check_labels(split: _Split) -> None:
    """Add findings on absent labels and classes, unless another error may explain the absence."""
    if any(finding.level == "error" for finding in split.findings):
        return
    forest_px, other_px = split.forest_px, split.labelled_px - split.forest_px
    # A test split may have one class: nothing is learnt or chosen on it.
    is_test = split.folder.name == "test"
    if not split.fail(
        label_faults(
            split.folder, forest_px=forest_px, other_px=other_px, one_class_will_do=is_test
        )
    ):
        faults = label_faults(split.folder, forest_px=forest_px, other_px=other_px)
        split.findings += [Finding("warning", *fault) for fault in faults]


def _find_copies(images: Iterable[_Image]) -> Iterator[Finding]:
    """Yield a finding for each image with the same pixels as an earlier one."""
    first: dict[bytes, _Image] = {}
    for image in images:
        earlier = first.setdefault(image.digest, image)
        if earlier is image:
            continue
        what = f"the same pixels as {earlier.where}"
        if earlier.split == image.split:
            yield Finding("warning", image.where, what)
        else:
            leak = f"{what}: {image.split} leaks into {earlier.split}"
            yield Finding("error", image.where, leak)


def _find_shared_ground(images: Sequence[_Image]) -> Iterator[Finding]:
    """Yield a finding for each chip whose footprint overlaps one of an earlier split, same CRS."""
    placed = [image for image in images if image.crs]
    for crs in sorted({image.crs or "" for image in placed}):
        for number, split in enumerate(SPLITS[1:], 1):
            group = [image for image in placed if image.crs == crs]
            earlier = [image for image in group if image.split in SPLITS[:number]]
            tree = shapely.STRtree([shapely.box(*image.inside) for image in earlier])
            for image in (image for image in group if image.split == split):
                hits = tree.query(shapely.box(*image.inside), predicate="intersects")
                if hits.size:
                    what = (
                        f"its ground overlaps that of {hits.size} chip(s) of other splits, such "
                        f"as {earlier[hits.min()].where}"
                    )
                    yield Finding("warning", image.where, what)


def _find_mixtures(root: Place, images: Iterable[_Image]) -> Iterator[Finding]:
    """Yield a finding when the CRS or types of a set are not all the same."""
    images = list(images)
    for kind, found in (
        ("CRS", count_kinds((image.crs or "none", image.where) for image in images)),
        ("types", count_kinds((image.dtype, image.where) for image in images)),
    ):
        if found:
            yield Finding("warning", str(root), f"images of several {kind}: {found}")
