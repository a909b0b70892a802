"""``geoforest mosaic``: combine maps of many scenes."""

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
    ground_line,
    paths_to_open,
    print_json,
    progress_bar,
    say,
    warnings_said,
)
from geoforest.maps.mosaic.rule import MosaicRule

_SHOWN_WARNINGS = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("mosaic", no_args_is_help=True)(mosaic_command)


def mosaic_command(
    maps: Annotated[
        list[Path],
        typer.Argument(
            metavar="MAPS...", help="Output folders of `map`, or folders that hold them."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the mosaic.")],
    rule: Annotated[
        MosaicRule,
        typer.Option(
            help="Where maps overlap: mean (of probabilities), latest, clearest (most observed)."
        ),
    ] = "mean",
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Probability at or above which a pixel is forest. By default the maps' own."
        ),
    ] = None,
    min_area_ha: MinAreaHa = 0.5,
    max_vertices: MaxVertices = 100_000,
    aoi: Annotated[Path | None, typer.Option(help="Vector file with the area of interest.")] = None,
    zones: Zones = None,
    by: By = None,
    language: Language = "en",
    mixed_models: Annotated[
        bool, typer.Option("--mixed-models", help="Allow maps of different models.")
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            help="Number of worker processes on this machine; 0 computes in this process."
        ),
    ] = 0,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Address of a Dask scheduler, such as tcp://host:8786."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Combine maps of many scenes: one product per UTM zone, each piece of ground counted once.

    Give all maps each time: tiles made from the same maps are reused.

    **Example:** `geoforest mosaic maps --out basin --aoi amazon.gpkg`
    """
    from geoforest.maps.mosaic.run import mosaic_maps

    with warnings_said(), progress_bar(str(out)) as progress:
        result = mosaic_maps(
            maps,
            out,
            rule=rule,
            threshold=threshold,
            min_area_ha=min_area_ha,
            max_vertices=max_vertices,
            aoi=aoi,
            zones=zones,
            by=by,
            language=language,
            mixed_models=mixed_models,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
        )
    s = result.summary
    for warning in s["warnings"][:_SHOWN_WARNINGS]:
        say(f"warning: {warning}")
    if len(s["warnings"]) > _SHOWN_WARNINGS:
        say(f"warning: {len(s['warnings']) - _SHOWN_WARNINGS:,} more in report.html")
    for note in s["notes"]:
        say(f"note: {note}")
    if as_json:
        print_json({"folder": str(result.folder), **s})
        return
    share = "" if s["forest_percent"] is None else f", {s['forest_percent']:.1f} % of observed"
    print(
        f"{len(s['scenes']):,} scenes: {s['hectares']['forest']:,.1f} ha {s['label']}{share}\n"
        f"  {s['tiles']:,} tiles in zones {', '.join(s['zones'])}, "
        f"{len(s['rewritten']['tiles']):,} of them made now\n"
        f"  {s['polygons']['patches']:,} patches of at least {s['min_area_ha']:g} ha, "
        f"{s['polygons']['across_zones']:,} of them across zones\n"
        f"{ground_line(s)}\n"
        + (f"  {len(s['units']):,} units\n" if s["units"] else "")
        + paths_to_open(result.folder)
    )
