"""``geoforest change``: forest lost and gained between two maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoforest.cli._shared import (
    AsJson,
    By,
    Language,
    MaxVertices,
    MinAreaHa,
    Zones,
    paths_to_open,
    print_json,
    say,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("change", no_args_is_help=True)(change_command)


def change_command(
    earlier: Annotated[Path, typer.Argument(help="Output folder of `map` for the earlier date.")],
    later: Annotated[
        Path, typer.Argument(help="Output folder of `map` for the later date, on the same grid.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the comparison.")],
    margin: Annotated[
        float,
        typer.Option(
            help="Change counts where both probabilities lie so far from the threshold; the rest "
            "is uncertain."
        ),
    ] = 0.1,
    threshold: Annotated[
        float | None, typer.Option(help="Threshold of both maps. By default their own.")
    ] = None,
    min_area_ha: MinAreaHa = 0.5,
    max_vertices: MaxVertices = 100_000,
    mixed_models: Annotated[
        bool, typer.Option("--mixed-models", help="Compare maps of different models.")
    ] = False,
    zones: Zones = None,
    by: By = None,
    language: Language = "en",
    as_json: AsJson = False,
) -> None:
    """Compare two maps of the same ground: loss, gain, stable forest, uncertain change.

    **Example:** `geoforest change maps/2020 maps/2024 --out change`
    """
    from geoforest.maps.change.run import map_change

    result = map_change(
        earlier,
        later,
        out,
        margin=margin,
        threshold=threshold,
        min_area_ha=min_area_ha,
        max_vertices=max_vertices,
        mixed_models=mixed_models,
        zones=zones,
        by=by,
        language=language,
    )
    s = result.summary
    for warning in s["warnings"]:
        say(f"warning: {warning}")
    for note in s["notes"]:
        say(f"note: {note}")
    if as_json:
        print_json({"folder": str(result.folder), **s})
        return
    ha = s["hectares"]
    print(
        f"{ha['loss']:,.1f} ha lost, {ha['gain']:,.1f} ha gained, {ha['stable_forest']:,.1f} ha "
        f"stable forest, {ha['uncertain']:,.1f} ha uncertain ({s['label']})\n"
        + paths_to_open(result.folder)
    )
