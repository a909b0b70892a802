"""``geoforest area``: hectares by unit, or estimated from a labelled sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoforest.cli._shared import AsJson, Language, print_json, say, warnings_said
from geoforest.report.language import LanguageCode


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("area", no_args_is_help=True)(area_command)


def area_command(
    source: Annotated[
        str,
        typer.Argument(metavar="MAP", help="Output folder of `map` or `mosaic`, or a mask raster."),
    ],
    zones: Annotated[
        str | None,
        typer.Option(help="Report hectares by unit: vector file with the polygons of the units."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="With --zones: field that names the units; polygons of one value are one unit."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="With --zones: layer of the file, when several have the field."),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="With --zones: draw a map of the units to this .png file.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(metavar="N", help="Draw N random points of the map, to be labelled in QGIS."),
    ] = None,
    seed: Annotated[int, typer.Option(help="With --sample: seed of the random draw.")] = 0,
    min_per_stratum: Annotated[
        int, typer.Option(help="With --sample: minimum number of points per class of the map.")
    ] = 50,
    language: Language = "en",
    estimate: Annotated[
        Path | None,
        typer.Option(
            metavar="LABELLED",
            help="Estimate areas and accuracies from this labelled sample.",
        ),
    ] = None,
    stopped_early: Annotated[
        bool,
        typer.Option(
            "--stopped-early", help="With --estimate: the last points of the sample have no label."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: units .csv or .gpkg; sample .gpkg; estimate .csv."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure forest: by unit such as municipalities, or by a labelled sample, with intervals.

    Give one of `--zones`, `--sample` and `--estimate`.

    **Example:** `geoforest area maps/T20LMR --zones municipalities.gpkg --by name --out units.csv`
    """
    from geoforest.errors import InputError

    if [zones, sample, estimate].count(None) != 2:
        raise InputError("one of --zones, --sample and --estimate was wanted")
    if zones is not None:
        if by is None:
            raise InputError("--zones: the field that names the units was wanted, with --by")
        _by_unit(source, zones, by, layer, out, figure, as_json=as_json)
    elif sample is not None:
        if out is None:
            raise InputError("--sample: a GeoPackage to write was wanted, with --out")
        _draw(source, sample, out, seed, min_per_stratum, language, as_json=as_json)
    else:
        assert estimate is not None
        _estimate(source, estimate, out, stopped_early=stopped_early, as_json=as_json)


def _by_unit(
    source: str,
    zones: str,
    by: str,
    layer: str | None,
    out: Path | None,
    figure: Path | None,
    *,
    as_json: bool,
) -> None:
    from geoforest.maps.units.areas import area_by_unit, as_text

    with warnings_said():
        areas = area_by_unit(source, zones, by=by, layer=layer, out=out, figure=figure)
    for note in areas.notes:
        say(f"note: {note}")
    if as_json:
        print_json({"by": by, "notes": list(areas.notes), "units": areas.rows()})
    else:
        print(as_text(areas.rows()))


def _draw(
    source: str,
    n: int,
    out: Path,
    seed: int,
    min_per_stratum: int,
    language: LanguageCode,
    *,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from geoforest.maps.sample.draw import draw_sample

    drawn = draw_sample(
        source, n, out, seed=seed, min_per_stratum=min_per_stratum, language=language
    )
    for note in drawn.notes:
        say(f"note: {note}")
    if as_json:
        strata = [asdict(one) for one in drawn.strata]
        print_json({"out": str(drawn.path), "project": str(drawn.project), "strata": strata})
        return
    points = ", ".join(f"{one.points} {one.name}" for one in drawn.strata)
    print(f"{points}: {drawn.path}")
    print(f"  label them in QGIS: {drawn.project}")
    print(f"  then geoforest area {source} --estimate {drawn.path}")


def _estimate(
    source: str, labelled: Path, out: Path | None, *, stopped_early: bool, as_json: bool
) -> None:
    from geoforest.maps.sample.estimate import estimate_area

    found = estimate_area(labelled, source, stopped_early=stopped_early)
    if out is not None:
        found.write_csv(out)
    if as_json:
        print_json(found.to_dict())
    else:
        print(found.sentences())
