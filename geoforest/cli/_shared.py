"""What several commands share: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from geoforest.cli._progress import Bars, Progress
from geoforest.errors import GeoforestWarning

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]
MinAreaHa = Annotated[
    float, typer.Option(help="Minimum mapping unit for patches and holes, ha; 0 keeps all.")
]
MaxVertices = Annotated[
    int, typer.Option(help="Patches with more vertices are written in parts; 0 never cuts.")
]
Zones = Annotated[
    str | None, typer.Option(help="Tell hectares by unit, too: vector file with polygons.")
]
By = Annotated[str | None, typer.Option(help="With --zones: the field that names units.")]
Wandb = Annotated[
    str | None,
    typer.Option(
        metavar="ENTITY/PROJECT",
        help="Track in Weights & Biases, too; the key is in WANDB_API_KEY.",
    ),
]


def split_project(project: str) -> tuple[str | None, str]:
    """Entity, None for that of the key, and name of ``ENTITY/PROJECT`` or ``PROJECT``."""
    entity, _, name = project.rpartition("/")
    return entity or None, name


def words(text: str) -> list[str]:
    """Split what is given by commas, such as names of bands."""
    return [word.strip() for word in text.split(",")]


@contextmanager
def warnings_said() -> Iterator[None]:
    """Say our own warnings as they come, in a line each, without where in the code they are."""

    def said(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", GeoforestWarning)
        warnings.showwarning = said
        yield


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show windows/s and time left; stay quiet when stderr is no terminal."""
    with progress_bars(1) as bars:
        yield bars.begin(title)


@contextmanager
def progress_bars(count: int) -> Iterator[Bars]:
    """Show a bar for each scene that is on its way, and with several a line over all."""
    if not sys.stderr.isatty():
        yield Bars()
        return
    from geoforest.cli._bars import terminal_bars

    with terminal_bars(count) as bars:
        yield bars


def say(text: str) -> None:
    """Print a line for people, on stderr, so that stdout stays clean for pipes."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """One line of JSON on stdout."""
    print(json.dumps(value))
