"""``geoforest status``: progress of maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from geoforest.cli._shared import AsJson, print_json

if TYPE_CHECKING:
    from geoforest.maps.status import Status


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status", no_args_is_help=True)(status_command)


def status_command(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="Output folder of one map, or of several (as `map --out`)."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show the progress of the maps in a folder, while they are made or after.

    **Example:** `geoforest status maps`
    """
    from geoforest.maps.status import status

    found = status(folder)
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    for one in found:
        print(_line(one))
        for shard, reason in one.failures.items():
            print(f"  {shard}: {reason}")


def _line(one: Status) -> str:
    parts = [f"{one.folder}: {one.state}"]
    if one.shards:
        parts.append(f"{one.finished_shards:,} of {one.shards:,} shards")
    if one.failures:
        parts.append(f"{len(one.failures)} failed")
    if one.windows_per_second is not None:
        parts.append(f"{one.windows_per_second:.2f} windows/s")
    if one.seconds_left is not None:
        parts.append(f"{one.seconds_left / 60:,.1f} minutes left")
    return ", ".join(parts)
