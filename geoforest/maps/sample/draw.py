"""Draw a stratified random sample of a map's pixels, for people to label.

The strata are the codes of the map. See Olofsson et al. 2014, Good practices for estimating area
and assessing accuracy of land change, Remote Sensing of Environment 148, section 5
(doi 10.1016/j.rse.2014.02.015).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoforest.arrays.area import PixelTable
from geoforest.errors import InputError, OutputError, WriteError
from geoforest.io.publication import died_before, staging
from geoforest.io.storage import flush
from geoforest.maps.sample.file import Origin, Stratum, sample_style, write_sample
from geoforest.maps.sample.pictures import picture_paths, write_pictures
from geoforest.maps.sample.strata import StratifiedMap, read_stratified
from geoforest.types import NO_OBSERVATION, Array

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import geopandas
    from numpy.typing import NDArray

    from geoforest.arrays.grid import Window
    from geoforest.report.language import LanguageCode

_MIN_PER_STRATUM = 50
# The variance of a stratum needs two points.
_FEWEST = 2


@dataclass(frozen=True)
class DrawnSample:
    """Files of a sample that was written.

    Attributes
    ----------
    path
        GeoPackage with the points.
    project
        QGIS project beside it, to label the points in.
    strata
        Strata of the map, with the number of points drawn in each.
    notes
        Sentences the user should read.
    """

    path: Path
    project: Path
    strata: tuple[Stratum, ...]
    notes: tuple[str, ...]


def draw_sample(
    map_folder: str | Path,
    n: int,
    out: str | Path,
    *,
    seed: int = 0,
    min_per_stratum: int = _MIN_PER_STRATUM,
    language: LanguageCode = "en",
) -> DrawnSample:
    """Draw pixels of a map at random, and write them as points to label in QGIS.

    Within a stratum every pixel is equally likely, and none is drawn twice. The sample depends only
    on the map, ``n``, ``min_per_stratum`` and ``seed``. The raster is read twice, in strips.

    Parameters
    ----------
    map_folder
        Output folder of ``geoforest map`` (strata: other and forest) or of ``geoforest change``
        (stable other, stable forest, loss, gain, uncertain). Unobserved pixels are in no stratum.
    n
        Number of points.
    out
        GeoPackage to write, see :mod:`geoforest.maps.sample.file`. Its points are in random order,
        so that the first k of them are a random sample, too. A QGIS project of the same name,
        ``.qgz``, shows them over the scenes, with one page per point to print. Pictures of the
        scenes around the points, at full resolution, lie beside it, so that labelling needs
        neither scene nor map.
    seed
        Seed of the random numbers, 0 or more.
    min_per_stratum
        See :func:`allocate`.
    language
        Language of the form and the pages in QGIS. The labels that are stored stay English.

    Returns
    -------
    DrawnSample

    Raises
    ------
    InputError
        When the folder holds no such map, a stratum has a single pixel, or ``n`` is below two per
        stratum or above the number of observed pixels.
    OutputError
        When ``out`` exists already, or does not end in ``.gpkg``.
    WriteError
        When a file cannot be written.
    """
    out = Path(out)
    if seed < 0:
        raise InputError(f"--seed {seed}: 0 or more was wanted")
    if min_per_stratum < _FEWEST:
        raise InputError(f"--min-per-stratum {min_per_stratum}: {_FEWEST} or more was wanted")
    source = read_stratified(map_folder)
    if out.suffix.lower() != ".gpkg":
        raise OutputError(f"{out}: a name that ends in .gpkg was wanted")
    project = out.with_suffix(".qgz")
    paths = picture_paths(out, source)
    others = [(picture, "is another picture") for picture in paths.values()]
    # Those of a run that died are not in the way: the sample, which it had not, comes last.
    left_over = died_before(out) and not out.exists()
    for path, what in ((out, "may hold labels"), (project, "is another project"), *others):
        if path.exists() and not left_over:
            # Never overwrite: labels may be the work of days.
            raise OutputError(f"{path}: exists, and {what}; choose another name")
    pixels, area_m2 = _measure_codes(source)
    codes = [code for code in source.names if pixels[code]]
    _check_size(source, pixels, codes, n)
    sizes = allocate([int(pixels[code]) for code in codes], n, min_per_stratum)
    strata = tuple(
        Stratum(code, source.names[code], int(pixels[code]), float(area_m2[code]) / 1e4, size)
        for code, size in zip(codes, sizes, strict=True)
    )
    totals = {each.code: (each.pixels, each.points) for each in strata}
    rows, cols, drawn = choose_pixels(source.strips(), totals, seed)
    points, classes = _points_frame(source, rows, cols, drawn), list(source.classes.values())
    origin = _origin(source, seed)
    content = _Content(source, points, strata, origin, classes, language)
    try:
        with staging(out) as folder:
            notes = _write_files(content, out, project, paths, folder)
    except OSError as error:
        raise WriteError(f"{out}: cannot be written ({error.strerror or error})") from error
    return DrawnSample(out, project, strata, tuple(notes))


@dataclass(frozen=True, eq=False)
class _Content:
    """What goes into the files of a sample."""

    source: StratifiedMap
    points: geopandas.GeoDataFrame
    strata: Sequence[Stratum]
    origin: Origin
    classes: Sequence[str]
    language: LanguageCode


def _write_files(
    content: _Content, out: Path, project: Path, paths: Mapping[str, Path], folder: Path
) -> list[str]:
    """Write all files to a folder, and move them to their places; return the notes."""
    source, points = content.source, content.points
    made = {path: folder / path.name for path in (*paths.values(), project, out)}
    try:
        write_sample(made[out], points, content.strata, content.origin, content.classes)
        new = {name: made[path] for name, path in paths.items()}
        pictures, notes = write_pictures(new, points, source)
    except WriteError as error:
        # The folder means nothing to the user.
        raise WriteError(str(error).replace(str(folder), str(out.parent))) from error
    final = {file: path for path, file in made.items()}
    shown = {
        name: [final.get(raster, raster) for raster in rasters]
        for name, rasters in pictures.items()
    }
    style = sample_style(content.classes, content.origin)
    filled = _qgis_project(source, out, points, style, shown, content.language)
    made[project].write_bytes(filled)
    # The sample itself comes last: with it, all files are there.
    for path, file in made.items():
        if file.exists():
            flush(file)
            file.replace(path)
    return notes


def allocate(pixels: Sequence[int], n: int, min_per_stratum: int = _MIN_PER_STRATUM) -> list[int]:
    """Share points among strata as Olofsson et al. 2014, section 5.1, recommend.

    Strata whose proportional share is below the minimum get the minimum, so that the accuracy of
    a rare class can be estimated; the others share the rest in proportion to their size, so that
    areas can be. When ``n`` is too small for the minimum, all strata get the same number.

    Parameters
    ----------
    pixels
        Number of pixels of each stratum, at least two.
    n
        Number of points, from two per stratum to the sum of the pixels.
    min_per_stratum
        Fewest points per stratum; a stratum with fewer pixels has all of them drawn.

    Returns
    -------
    list of int
        Points of each stratum; their sum is ``n``.

    Examples
    --------
    >>> allocate([200_000, 150_000, 3_200_000, 6_450_000], 600)
    [50, 50, 166, 334]
    >>> allocate([10, 1_000_000], 40)
    [10, 30]
    """
    counts = np.array(pixels, np.int64)
    floor = np.minimum(min(min_per_stratum, n // len(counts)), counts)
    free = np.ones(len(counts), np.bool_)
    # Each round fixes the strata whose share of the rest is below the minimum. Whole numbers
    # compare exactly: a share equal to the minimum is not below it.
    while True:
        rest, size = n - floor[~free].sum(), counts[free].sum()
        low = free & (counts * rest < floor * size)
        if not low.any():
            break
        free &= ~low
    share = np.where(free, counts * (rest / size), floor)
    points = np.floor(share).astype(np.int64)
    # Largest remainders get the points left over; among equals, the first stratum.
    for place in np.argsort(points - share, kind="stable")[: n - points.sum()]:
        points[place] += 1
    return [int(each) for each in points]


def choose_pixels(
    strips: Iterable[tuple[Window, Array]], totals: Mapping[int, tuple[int, int]], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Choose pixels by their rank in the stratum, counted along rows from the top.

    Parameters
    ----------
    strips
        Strips of whole rows from top to bottom: window, and codes, uint8 ``(row, col)``.
    totals
        Code to number of pixels of the stratum, and number to choose.
    seed
        Seed of the random numbers.

    Returns
    -------
    rows, cols, codes
        int64 ``(n,)``, in random order; independent of the height of strips.

    Examples
    --------
    >>> from geoforest.arrays.grid import Window
    >>> codes = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
    >>> rows, cols, drawn = choose_pixels([(Window(0, 0, 2, 3), codes)], {1: (3, 3)}, seed=0)
    >>> sorted(zip(rows.tolist(), cols.tolist(), strict=True))
    [(0, 1), (1, 0), (1, 1)]
    """
    ranks = {
        code: np.sort(np.random.default_rng([seed, code]).choice(pixels, points, replace=False))
        for code, (pixels, points) in totals.items()
    }
    seen = dict.fromkeys(ranks, 0)
    found = []
    for window, values in strips:
        for code, wanted in ranks.items():
            hits = values == code
            in_row = np.count_nonzero(hits, axis=1)
            ends = seen[code] + np.cumsum(in_row)
            first, last = np.searchsorted(wanted, (seen[code], ends[-1]))
            for rank in wanted[first:last]:
                row = int(np.searchsorted(ends, rank, side="right"))
                col = int(np.flatnonzero(hits[row])[rank - ends[row] + in_row[row]])
                found.append((code, window.row_off + row, col))
            seen[code] = int(ends[-1])
    # Codes are below 256, so this random stream differs from those of the strata.
    order = np.random.default_rng([seed, 256]).permutation(len(found))
    codes, rows, cols = np.array(sorted(found), np.int64).reshape(-1, 3)[order].T
    return rows, cols, codes


def _measure_codes(source: StratifiedMap) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Count the pixels of each code, and sum their true ground area, m2."""
    table = PixelTable.build(source.georef)
    pixels, area_m2 = np.zeros(256, np.int64), np.zeros(256)
    for window, codes in source.strips():
        sums = table.sums(codes, 256, at=(window.row_off, window.col_off))
        pixels += sums.pixels
        area_m2 += sums.area
    strange = set(np.flatnonzero(pixels).tolist()) - {*source.names, NO_OBSERVATION}
    if strange:
        raise InputError(
            f"{source.raster}: code {min(strange)}; one of "
            f"{', '.join(map(str, source.names))} or {NO_OBSERVATION} was wanted"
        )
    return pixels, area_m2


def _check_size(
    source: StratifiedMap, pixels: NDArray[np.int64], codes: Sequence[int], n: int
) -> None:
    if not codes:
        raise InputError(f"{source.raster}: no pixel of it was observed, so none can be drawn")
    for code in codes:
        if pixels[code] < _FEWEST:
            raise InputError(
                f"{source.raster}: one pixel is {source.names[code]}; a stratum of at least "
                f"{_FEWEST} was wanted"
            )
    observed = int(sum(pixels[code] for code in codes))
    if n < _FEWEST * len(codes):
        raise InputError(
            f"--sample {n}: at least {_FEWEST * len(codes)} was wanted, {_FEWEST} for each of "
            f"{', '.join(source.names[code] for code in codes)}"
        )
    if n > observed:
        raise InputError(f"--sample {n}: {source.raster} has {observed:,} observed pixels")


def _origin(source: StratifiedMap, seed: int) -> Origin:
    t = source.georef.transform
    return Origin(
        scene_id=source.scene_id,
        sha256=source.sha256,
        threshold=source.threshold,
        change=source.names is not source.classes,
        seed=seed,
        rows=source.georef.shape[0],
        cols=source.georef.shape[1],
        left=t.c,
        top=t.f,
        pixel_width=t.a,
        pixel_height=-t.e,
    )


def _qgis_project(
    source: StratifiedMap,
    sample: Path,
    points: geopandas.GeoDataFrame,
    style: str,
    pictures: Mapping[str, Sequence[Path]],
    language: LanguageCode,
) -> bytes:
    from geoforest.maps.sample.qgis import sample_project

    return sample_project(
        sample.with_suffix(".qgz"),
        sample,
        points,
        title=source.scene_id,
        style=style,
        pictures=pictures,
        bounds=source.georef.bounds,
        pixel=source.georef.transform.a,
        crs=source.georef.crs,
        code=language,
    )


def _points_frame(
    source: StratifiedMap,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    codes: NDArray[np.int64],
) -> geopandas.GeoDataFrame:
    import geopandas

    t, n = source.georef.transform, len(rows)
    centres = geopandas.points_from_xy(t.c + t.a * (cols + 0.5), t.f + t.e * (rows + 0.5))
    return geopandas.GeoDataFrame(
        {
            "sample_id": np.arange(1, n + 1),
            "reference": [None] * n,
            "confidence": [None] * n,
            "note": [None] * n,
            "stratum": codes,
            "stratum_name": [source.names[int(code)] for code in codes],
            "row": rows,
            "col": cols,
        },
        geometry=centres,
        crs=source.georef.crs,
    )
