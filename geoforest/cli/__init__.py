"""Command line: parse, call once, print. One file per command, with heavy imports inside."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from geoforest._version import __version__
from geoforest.cli import (
    area,
    bench,
    change,
    data,
    demo,
    evaluate,
    map_,
    model,
    mosaic,
    status,
    sweep,
    train,
    vectorize,
    verify,
)
from geoforest.errors import GeoforestError, without_keys
from geoforest.io.certificates import exported_authorities

app = typer.Typer(
    name="geoforest",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    demo,
    map_,
    mosaic,
    change,
    area,
    status,
    vectorize,
    verify,
    train,
    sweep,
    evaluate,
    bench,
):
    command.register(app)
app.add_typer(model.app, name="model")
app.add_typer(data.app, name="data")


_INTERRUPTED = 130


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"geoforest {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Forest maps you can trust from Sentinel-2 scenes."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: every error becomes one sentence and an exit code.

    1 or 2 for errors that geoforest raises on purpose, 1 for those of the operating system, and 70
    for any other, whose details are written to a file. ``arguments`` replaces those of the process.
    Always raises :class:`SystemExit`.
    """
    # SIGTERM, which stops batch jobs, ends as cleanly as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Polygons must not move where PROJ can download grids of shifts.
    os.environ["PROJ_NETWORK"] = "OFF"
    try:
        with exported_authorities():
            app(arguments, prog_name="geoforest")
    except GeoforestError as error:
        print(f"geoforest: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno is None:
            # A library's own, such as of GDAL or of a server.
            _end(error)
        # A full disk or a lost file system, wherever it happens.
        print(f"geoforest: {without_keys(str(error))}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as ended:
        # Typer's exit code after Ctrl-C.
        if ended.code != _INTERRUPTED:
            raise
        print(
            "geoforest: interrupted; what was finished is kept, and the same command goes on "
            "from there",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 (the fence: no traceback reaches the user)
        _end(error)


def _end(error: BaseException) -> NoReturn:
    from geoforest.cli._faults import EXIT_CODE, tell_fault

    tell_fault(error)
    sys.exit(EXIT_CODE)
