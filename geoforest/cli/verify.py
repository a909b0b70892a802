"""``geoforest verify``: are these outputs complete and untouched."""

from __future__ import annotations

from typing import Annotated

import typer

from geoforest.cli._shared import AsJson, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", no_args_is_help=True)(verify_command)


def verify_command(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="Of one map, or of several, as `map --out`.")
    ],
    as_json: AsJson = False,
) -> None:
    """Check the outputs of `geoforest map`: one line a problem; ends with 1 when there is one.

    Checksums, grids, codes, layout, mask against probability, the GeoPackage, and whether
    polygon pixels = mask pixels - dropped + filled.

    **Example:** `geoforest verify maps`
    """
    from geoforest.verify import verify

    problems = verify(folder)
    if as_json:
        print_json(
            [{"path": str(one.path), "what": one.what, "check": one.check} for one in problems]
        )
    else:
        lines = [str(one) for one in problems] or [f"{folder}: complete and untouched"]
        print(*lines, sep="\n")
    if problems:
        raise typer.Exit(1)
