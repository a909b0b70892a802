"""Options and output that commands share: progress on stderr, results on stdout."""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer

from geoforest.cli._progress import Bars, Progress
from geoforest.errors import GeoforestWarning
from geoforest.pipeline.descriptions import MAP_OPTIONS, Option
from geoforest.report.language import LanguageCode

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]
MinAreaHa = Annotated[float, typer.Option(help=MAP_OPTIONS["min_area_ha"].help)]
MaxVertices = Annotated[int, typer.Option(help=MAP_OPTIONS["max_vertices"].help)]
Zones = Annotated[str | None, typer.Option(help=MAP_OPTIONS["zones"].help)]
By = Annotated[str | None, typer.Option(help=MAP_OPTIONS["by"].help)]
Language = Annotated[LanguageCode, typer.Option(help=MAP_OPTIONS["language"].help)]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Print seconds per stage and peak memory, too.")
]
Wandb = Annotated[
    str | None,
    typer.Option(
        metavar="ENTITY/PROJECT",
        help="Track in Weights & Biases, too. The key comes from WANDB_API_KEY.",
    ),
]


Command = TypeVar("Command", bound=Callable[..., None])


def with_options(options: Mapping[str, Option], *, before: str) -> Callable[[Command], Command]:
    """Add the options of a table to a command, which receives them as keywords.

    Parameters
    ----------
    options
        Options by name.
    before
        Parameter of the command before which ``--help`` lists them.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        named = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        place = [one.name for one in named].index(before)
        added = [_parameter(name, option) for name, option in options.items()]
        parameters = [*named[:place], *added, *named[place:]]
        # Typer reads both attributes.
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    return decorate


def _parameter(name: str, option: Option) -> inspect.Parameter:
    # Switches are off by default, and have no --no-... form.
    flags = [f"--{name.replace('_', '-')}"] if option.default is False else []
    described = typer.Option(
        *flags, help=option.help, metavar=option.metavar, rich_help_panel=option.panel
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=option.default,
        annotation=Annotated[option.annotation, described],
    )


def split_project(project: str) -> tuple[str | None, str]:
    """Split ``ENTITY/PROJECT`` or ``PROJECT``; the entity is None for that of the key."""
    entity, _, name = project.rpartition("/")
    return entity or None, name


def words(text: str) -> list[str]:
    """Split a comma-separated list, such as names of bands."""
    return [word.strip() for word in text.split(",")]


@contextmanager
def warnings_said() -> Iterator[None]:
    """Print our own warnings as they come, one line each, without their place in the code."""

    def said(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", GeoforestWarning)
        warnings.showwarning = said
        yield


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show windows/s and time left; show nothing when stderr is not a terminal."""
    with progress_bars(1) as bars:
        yield bars.begin(title)


@contextmanager
def progress_bars(count: int) -> Iterator[Bars]:
    """Show a bar per scene in progress, and a line over all when there are several."""
    if not sys.stderr.isatty():
        yield Bars()
        return
    from geoforest.cli._bars import terminal_bars

    with terminal_bars(count) as bars:
        yield bars


def say(text: str) -> None:
    """Print a line for people, on stderr, so that stdout stays clean for pipes."""
    print(text, file=sys.stderr)


def paths_to_open(folder: Any) -> str:
    """Return the lines with which a command ends: a folder, and what to open of it with what.

    ``folder`` is a path, or a place in a bucket, with a page, a QGIS project (or else
    GeoPackages) and a table of units, as far as they were made.
    """
    from geoforest.maps.destination import open_destination

    there = sorted(open_destination(str(folder)).names())
    projects = [name for name in there if name.endswith(".qgz")]
    opened = {
        "in a browser": [name for name in there if name == "report.html"],
        "in QGIS": projects or [name for name in there if name.endswith(".gpkg")],
        "as a table": [name for name in there if name == "units.csv"],
    }
    lines = [f"  open {folder / name} {how}" for how, names in opened.items() for name in names]
    return "\n".join([f"  {folder}", *lines])


def ground_line(summary: Mapping[str, Any]) -> str:
    """Return a line on the ground of a mosaic, and on that of its maps."""
    ground, observed = summary["ground"], summary["hectares"]["observed"]
    return (
        f"  {observed:,.1f} ha of ground observed; its maps observed {ground['union_ha']:,.1f} ha, "
        f"in sum {ground['sum_ha']:,.1f} ha with overlaps"
    )


def print_json(value: Any) -> None:
    """Print one line of JSON on stdout."""
    print(json.dumps(value))
