"""``geoforest verify``: check that outputs are complete and unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoforest.cli._shared import AsJson, ground_line, print_json, warnings_said
from geoforest.io.names import MOSAIC_NAME


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", no_args_is_help=True)(verify_command)


def verify_command(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="Output folder of one map, several (`map --out`), a mosaic or a comparison.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Check outputs: one line per problem; exits with 1 when there is one.

    Maps: checksums, grids, codes, layout, mask against probability, the GeoPackage, and whether
    polygon pixels = mask pixels - dropped + filled. Comparisons: checksums and pixel counts.
    Mosaics grow and have no checksums: their files must exist, their pixels, hectares and polygons
    are counted again and compared with their record, and their ground with that of their maps.

    **Example:** `geoforest verify maps`
    """
    from geoforest.maps.verify.run import verify

    with warnings_said():
        problems = verify(folder)
    if as_json:
        print_json(
            [{"path": str(one.path), "what": one.what, "check": one.check} for one in problems]
        )
    else:
        is_mosaic = Path(folder, MOSAIC_NAME).exists()
        fine = "complete, and agrees with itself" if is_mosaic else "complete and untouched"
        lines = [str(one) for one in problems] or [f"{folder}: {fine}", *_ground_of(folder)]
        print(*lines, sep="\n")
    if problems:
        raise typer.Exit(1)


def _ground_of(folder: str) -> list[str]:
    """Return a line on the ground of a mosaic; nothing for other outputs."""
    from geoforest.io.storage import read_json

    summary = read_json(Path(folder, MOSAIC_NAME))
    return [] if summary is None else [ground_line(summary)]
