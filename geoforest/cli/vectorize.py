"""``geoforest vectorize``: a stored probability or mask to polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoforest.cli._shared import AsJson, MaxVertices, MinAreaHa, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("vectorize", no_args_is_help=True)(vectorize_command)


def vectorize_command(
    raster: Annotated[Path, typer.Argument(help="forest_probability.tif or forest_mask.tif.")],
    out: Annotated[Path, typer.Option(help="GeoPackage to write.")],
    threshold: Annotated[
        float | None, typer.Option(help="For a probability; the model's own by default.")
    ] = None,
    min_area_ha: MinAreaHa = 0.5,
    max_vertices: MaxVertices = 100_000,
    as_json: AsJson = False,
) -> None:
    """Turn a stored probability or mask into polygons; no model is needed.

    **Example:** `geoforest vectorize maps/T20LMR/forest_probability.tif --threshold 0.6
    --out strict.gpkg`
    """
    from geoforest.stored import vectorize_raster

    polygons = vectorize_raster(
        raster, out, threshold=threshold, min_area_ha=min_area_ha, max_vertices=max_vertices
    )
    if as_json:
        print_json({"out": str(out), **polygons.accounting()})
    else:
        print(f"{polygons.patches:,} patches in {polygons.parts:,} polygons: {out}")
