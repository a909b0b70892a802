"""Measure hectares of forest by unit, such as municipality or protected area."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geoforest.errors import InputError, OutputError
from geoforest.io.geopackage import layers, write_geopackage
from geoforest.io.names import MASK_NAME, MOSAIC_NAME
from geoforest.io.polygon_files import where_they_are
from geoforest.io.publication import write_file
from geoforest.io.storage import read_json, writable
from geoforest.io.styles import read_style
from geoforest.io.tables import csv_text
from geoforest.maps.finished import read_finished, remarks_of
from geoforest.maps.units.read import Units, read_units
from geoforest.maps.units.zonal import (
    CODES,
    MaskRaster,
    ground_m2,
    in_pixels,
    open_mask,
    sums_by_unit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import geopandas
    from rasterio.crs import CRS

    from geoforest.arrays.georef import GeoRef

Floats = NDArray[np.float64]

LAYER: Final = "forest_area"
FORMATS: Final = (".csv", ".gpkg")
COLUMNS: Final = (
    "unit",
    "total_ha",
    "observed_ha",
    "forest_ha",
    "other_ha",
    "unobserved_ha",
    "outside_ha",
    "forest_percent",
    "observed_percent",
)
# A share of a unit's area: below it, area outside the map or in two units is rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class UnitAreas:
    """Forest areas of units.

    Attributes
    ----------
    frame
        One row per unit that the map touches, geometry in the CRS of the units. Hectares of true
        ground area: ``total_ha`` = ``observed_ha`` + ``unobserved_ha`` + ``outside_ha`` (beside
        the map), ``observed_ha`` = ``forest_ha`` + ``other_ha``. ``forest_percent`` is of the
        observed area, NaN where nothing was observed; ``observed_percent`` of the total.
    notes
        Sentences the user should read.
    """

    frame: geopandas.GeoDataFrame
    notes: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows without geometry, as plain data; None for a percent of no area."""
        plain = self.frame.drop(columns=self.frame.geometry.name)
        return [
            {key: None if value != value else value for key, value in row.items()}
            for row in plain.to_dict("records")
        ]


def area_by_unit(
    source: str | Path,
    zones: str | Path,
    *,
    by: str,
    layer: str | None = None,
    out: str | Path | None = None,
    figure: str | Path | None = None,
) -> UnitAreas:
    """Measure forest by unit; a pixel counts with the share of it that lies inside.

    Parameters
    ----------
    source
        Output folder of ``geoforest map`` or ``geoforest mosaic``, or a mask raster: uint8, 0
        other, 1 forest, 255 no observation.
    zones
        Vector file with the units' polygons, in any CRS.
    by, layer
        See :func:`geoforest.maps.units.read.read_units`.
    out
        Table to write, ``.csv``, or ``.gpkg`` with the units; an existing one is replaced.
    figure
        Map of the units to draw, ``.png``.

    Returns
    -------
    UnitAreas

    Raises
    ------
    InputError
        When the map or the zones cannot be used, or do not overlap.
    OutputError
        When ``out`` or ``figure`` cannot be written.
    """
    if "://" in str(source):
        raise InputError(f"{source}: is a URL; areas are taken from files on disk")
    taken = [Path(source), Path(zones)]
    for target, suffixes in ((out, FORMATS), (figure, (".png",))):
        if target is not None:
            _check_output(Path(target), suffixes, taken)
            taken.append(Path(target))
    rasters, remarks = _rasters(Path(source))
    units = read_units(zones, by, layer=layer)
    areas = _measure(rasters, units)
    areas = replace(areas, notes=(*areas.notes, *remarks))
    if figure is not None:
        from geoforest.maps.units.choropleth import choropleth

        data = choropleth(areas.frame, title=f"Forest cover (model) by {by}")
        with writable(Path(figure)):
            Path(figure).parent.mkdir(parents=True, exist_ok=True)
            write_file(Path(figure), data)
    if out is not None:
        _write(areas, Path(out))
    return areas


def _check_output(path: Path, suffixes: Sequence[str], others: Sequence[Path]) -> None:
    """Check before the work that an output can be written and destroys nothing else."""
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"{path}: a name that ends in {', '.join(suffixes)} was wanted")
    if path.resolve() in {other.resolve() for other in others}:
        raise OutputError(f"{path}: is given for something else, too; choose another name")
    if not path.exists():
        return
    if not path.is_file():
        raise OutputError(f"{path}: is not a file; choose another name")
    if path.suffix.lower() == ".gpkg" and layers(path) != [LAYER]:
        raise OutputError(
            f"{path}: exists and is no GeoPackage of the one layer {LAYER}; choose another name"
        )


def _rasters(source: Path) -> tuple[list[MaskRaster], list[str]]:
    """Open the masks of a map, of each zone of a mosaic, or a mask file; return remarks on it."""
    if not source.is_dir():
        return [open_mask(source)], []
    if (mosaic := read_json(source / MOSAIC_NAME)) is None:
        finished = read_finished(source, MASK_NAME)
        return [open_mask(finished.mask)], remarks_of([finished])
    stem = Path(MASK_NAME).stem
    if not isinstance(zones := mosaic.get("zones"), list):
        raise InputError(f"{source}: {MOSAIC_NAME} names no zones; make the mosaic again")
    remarks = [*mosaic.get("warnings", ()), *mosaic.get("notes", ())]
    if "ground" not in mosaic:
        remarks.insert(
            0,
            f"{source}: was made by an earlier geoforest, which left out ground beyond the borders "
            "of UTM zones where no map of the next zone has it; make the mosaic again",
        )
    return [open_mask(source / f"{stem}_{zone}.vrt", owned=True) for zone in zones], remarks


def _measure(rasters: Sequence[MaskRaster], units: Units) -> UnitAreas:
    touched, hectares, notes = hectares_by_unit(rasters, units, CODES)
    frame = units.frame[touched].reset_index(drop=True)
    return UnitAreas(_area_table(frame, hectares, rasters[0].georef.crs), tuple(notes))


def areas_on(rasters: Sequence[MaskRaster], units: Units) -> UnitAreas:
    """Measure forest in the units that the masks touch; there may be none.

    Parameters
    ----------
    rasters
        Masks that do not overlap each other.
    units
        See :func:`geoforest.maps.units.read.read_units`.

    Returns
    -------
    UnitAreas
    """
    touched, hectares, overlapping = _hectares(rasters, units, CODES)
    notes = [*units.notes, *_notes(touched, f"by {units.by}")]
    if not touched.any():
        where = where_they_are(units.frame.geometry, _boxes(rasters), "the map")
        notes.append(f"{units.path}: no unit touches the map, so there is no table of units")
        notes.append(f"{units.path}: {where}")
    if overlapping:
        notes.append(_overlap_note(units.path))
    frame = units.frame[touched].reset_index(drop=True)
    return UnitAreas(_area_table(frame, hectares, rasters[0].georef.crs), tuple(notes))


def hectares_by_unit(
    rasters: Sequence[MaskRaster], units: Units, codes: Sequence[int]
) -> tuple[NDArray[np.bool_], Floats, list[str]]:
    """Measure the ground of each code under each unit.

    Parameters
    ----------
    rasters
        Masks that do not overlap each other.
    units
        See :func:`geoforest.maps.units.read.read_units`.
    codes
        Codes that the rasters may have.

    Returns
    -------
    touched
        bool ``(n_units,)``: whether the rasters touch the unit.
    hectares
        float64 ``(touched units, len(codes))``: true ground area, ha.
    notes
        Sentences the user should read.

    Raises
    ------
    InputError
        When no unit touches the rasters.
    """
    touched, hectares, overlapping = _hectares(rasters, units, codes)
    if not touched.any():
        raise _beside(units, rasters)
    notes = [*units.notes, *_notes(touched, units.path)]
    if overlapping:
        notes.append(_overlap_note(units.path))
    return touched, hectares, notes


def check_touched(units: Units, georefs: Mapping[Path, GeoRef]) -> None:
    """Check before the work that at least one unit touches at least one grid.

    Parameters
    ----------
    units
        See :func:`geoforest.maps.units.read.read_units`.
    georefs
        Grids by what has them, for messages.

    Raises
    ------
    InputError
        When all units lie beside all grids.
    """
    rasters = [MaskRaster(path, georef, None) for path, georef in georefs.items()]
    if all(in_pixels(units.frame, raster).empty for raster in rasters):
        raise _beside(units, rasters)


def _beside(units: Units, rasters: Sequence[MaskRaster]) -> InputError:
    bounds = tuple(round(float(value), 3) for value in rasters[0].box.bounds)
    where = where_they_are(units.frame.geometry, _boxes(rasters), "the map")
    return InputError(
        f"{units.path}: no unit touches {rasters[0].path}, whose bounds are {bounds} in "
        f"{rasters[0].georef.crs.to_string()[:40]}; {where}"
    )


def _boxes(rasters: Sequence[MaskRaster]) -> list[tuple[shapely.Polygon, CRS]]:
    return [(raster.box, raster.georef.crs) for raster in rasters]


def _notes(touched: NDArray[np.bool_], what: object) -> list[str]:
    """Return a note on the units beside the map, when some lie there and some do not."""
    beside = int((~touched).sum())
    if not beside or not touched.any():
        return []
    return [f"{what}: {beside:,} units beside the map are left out"]


def _hectares(
    rasters: Sequence[MaskRaster], units: Units, codes: Sequence[int]
) -> tuple[NDArray[np.bool_], Floats, bool]:
    """Return which units are touched, hectares by code in them, and whether units overlap."""
    sums = np.zeros((len(units.frame), len(codes)))
    touched = np.zeros(len(units.frame), np.bool_)
    overlapping = False
    for raster in rasters:
        near = in_pixels(units.frame, raster)
        touched[near["row"]] = True
        areas = shapely.area(near.geometry.to_numpy())
        common = areas.sum() - shapely.union_all(near.geometry.to_numpy()).area
        overlapping |= bool(common > _ROUNDING * areas.sum())
        sums += sums_by_unit(near, raster, len(units.frame), codes)
    return touched, sums[touched] / 1e4, overlapping


def _overlap_note(zones: Path) -> str:
    return (
        f"{zones}: units overlap each other, and each counts its own ground: their sum counts "
        "some twice"
    )


def _area_table(
    units: geopandas.GeoDataFrame, hectares: Floats, crs: CRS
) -> geopandas.GeoDataFrame:
    forest, other, unobserved = hectares.T
    observed, inside = forest + other, hectares.sum(axis=1)
    ellipsoid = pyproj.CRS.from_user_input(crs)
    outside = ground_m2(units, ellipsoid) / 1e4 - inside
    outside[outside < _ROUNDING * inside] = 0.0
    total = inside + outside
    with np.errstate(divide="ignore", invalid="ignore"):
        values = dict(
            zip(
                COLUMNS[1:],
                (
                    total,
                    observed,
                    forest,
                    other,
                    unobserved,
                    outside,
                    100 * forest / observed,
                    100 * observed / total,
                ),
                strict=True,
            )
        )
    # The GeoPackage writer expects the geometry in the last column.
    return units.assign(**values)[[*COLUMNS, units.geometry.name]]


def _write(areas: UnitAreas, path: Path) -> None:
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".csv":
            write_file(path, csv_text(areas.rows()).encode())
    if path.suffix.lower() == ".gpkg":
        frame = areas.frame.set_geometry(_multipolygons(areas.frame.geometry.to_numpy()))
        write_geopackage(
            [frame],
            path,
            layer=LAYER,
            style_qml=read_style("forest_area.qml"),
            description="Areas by unit, ha; forest percent is of the observed area",
            geometry_type="MultiPolygon",
        )


def _multipolygons(geometries: Any) -> list[shapely.MultiPolygon]:
    return [shapely.MultiPolygon(shapely.get_parts(geometry).tolist()) for geometry in geometries]


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as an aligned text table: hectares and percent to one decimal."""
    heads = ("unit", *(name.replace("_", " ") for name in COLUMNS[1:]))
    cells = [
        [
            str(row["unit"]),
            *("-" if row[name] is None else f"{row[name]:,.1f}" for name in COLUMNS[1:]),
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (heads, *cells)
    )
