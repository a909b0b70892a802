"""Command line: parse, call once, print. One file a command; heavy imports inside them."""

from __future__ import annotations

import sys

import typer

from geoforest.cli import demo, map_, model, train, vectorize
from geoforest.errors import GeoforestError

app = typer.Typer(
    name="geoforest",
    help="Forest maps you can trust from Sentinel-2 scenes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, map_, vectorize, train):
    command.register(app)
app.add_typer(model.app, name="model")


def main() -> None:
    """Entry point: errors that geoforest raises on purpose become one sentence."""
    try:
        app()
    except GeoforestError as error:
        print(f"geoforest: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(
            "geoforest: interrupted; finished shards are kept, and the same command goes on "
            "from there",
            file=sys.stderr,
        )
        sys.exit(1)
