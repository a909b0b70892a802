"""``geoforest area``: hectares by municipality, protected area and such."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoforest.cli._shared import AsJson, print_json, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("area", no_args_is_help=True)(area_command)


def area_command(
    source: Annotated[
        str,
        typer.Argument(metavar="MAP", help="Output folder of map or mosaic, or a mask raster."),
    ],
    zones: Annotated[str, typer.Option(help="Vector file with the units' polygons.")],
    by: Annotated[
        str, typer.Option(help="Its field: polygons of one value are one unit, counted once.")
    ],
    layer: Annotated[
        str | None, typer.Option(help="Layer of that file, where several have the field.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Table to write: .csv or .gpkg.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Map of the units to draw: .png.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell hectares of forest, other and unobserved ground by unit, such as municipalities.

    **Example:** `geoforest area maps/T20LMR --zones municipalities.gpkg --by name --out units.csv`
    """
    from geoforest.unit_areas import area_by_unit, as_text

    areas = area_by_unit(source, zones, by=by, layer=layer, out=out, figure=figure)
    for note in areas.notes:
        say(f"note: {note}")
    if as_json:
        print_json({"by": by, "notes": list(areas.notes), "units": areas.rows()})
    else:
        print(as_text(areas.rows()))
