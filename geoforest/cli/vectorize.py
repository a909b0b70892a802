"""``geoforest vectorize``: turn a stored probability or mask into polygons."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from geoforest.cli._shared import AsJson, MaxVertices, MinAreaHa, print_json, warnings_said


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("vectorize", no_args_is_help=True)(vectorize_command)


def vectorize_command(
    raster: Annotated[str, typer.Argument(help="forest_probability.tif or forest_mask.tif.")],
    out: Annotated[str, typer.Option(help="File to write: .gpkg, .parquet or .fgb.")],
    threshold: Annotated[
        float | None, typer.Option(help="Threshold of a probability. By default the model's own.")
    ] = None,
    value: Annotated[
        int | None,
        typer.Option(help="Outline this value of any raster of whole numbers, instead of forest."),
    ] = None,
    min_area_ha: MinAreaHa = 0.5,
    max_vertices: MaxVertices = 100_000,
    corners_touch: Annotated[
        bool,
        typer.Option(
            "--8-connectivity",
            help="Pixels that touch at a corner only are of one patch, too; it is written as "
            "polygons that touch there, of one patch_id.",
        ),
    ] = False,
    simplify: Annotated[
        float,
        typer.Option(
            help="Smooth outlines: bays and noses up to about so many pixels wide vanish; areas "
            "and counts stay those of the pixels. All polygons are then held in memory."
        ),
    ] = 0,
    crs: Annotated[
        str | None, typer.Option(help="CRS of the polygons. By default the raster's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a stored probability or mask into polygons; no model is needed.

    **Example:** `geoforest vectorize maps/T20LMR/forest_probability.tif --threshold 0.6
    --out strict.gpkg`
    """
    from geoforest.maps.vectorize import vectorize_to_file

    with warnings_said():
        counts = vectorize_to_file(
            raster,
            out,
            threshold=threshold,
            value=value,
            min_area_ha=min_area_ha,
            max_vertices=max_vertices,
            corners_touch=corners_touch,
            simplify_px=simplify,
            crs=crs,
        )
    if as_json:
        print_json({"out": str(out), **asdict(counts)})
    else:
        print(f"{counts.patches:,} patches in {counts.parts:,} polygons: {out}")
