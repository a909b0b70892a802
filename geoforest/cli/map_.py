"""``geoforest map``: map the forest of scenes."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoforest.cli._shared import (
    AsJson,
    Verbose,
    paths_to_open,
    print_json,
    progress_bars,
    say,
    warnings_said,
    with_options,
    words,
)
from geoforest.pipeline.descriptions import CHECKS, INPUT, MAP_OPTIONS, SEARCH

if TYPE_CHECKING:
    from geoforest.pipeline.run import MapResult, SceneFailure


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("map", no_args_is_help=True)(map_command)


# Settings of several numbers, separated by commas on the command line.
_NUMBERS: dict[str, type[int] | type[float]] = {"bands": int, "scale": float, "offset": float}


_INPUT = {name: option for name, option in MAP_OPTIONS.items() if option.panel == INPUT}
_OTHERS = {name: option for name, option in MAP_OPTIONS.items() if name not in _INPUT}


@with_options(_INPUT, before="stac")
@with_options(_OTHERS, before="dry_run")
def map_command(
    out: Annotated[
        str,
        typer.Option(
            help="Write products to OUT/SCENE_ID/; OUT is a folder, or s3://BUCKET/PREFIX."
        ),
    ],
    scenes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCENE...]",
            help="Rasters, folders of bands, SAFE products, STAC items, URLs of such (s3://, "
            "https://), patterns ('in/*.tif'), or @FILE with one per line.",
        ),
    ] = None,
    stac: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Search this STAC API or catalogue for scenes.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    collection: Annotated[
        str | None,
        typer.Option(
            help="With --stac: search this collection, or several separated by commas.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    bbox: Annotated[
        str | None,
        typer.Option(
            metavar="W,S,E,N",
            help="With --stac: search this box in degrees; or give an --aoi.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    period: Annotated[
        str | None,
        typer.Option(
            "--datetime",
            metavar="RANGE",
            help="With --stac: search this date or period, e.g. 2023-08-13 or 2023-06/2023-08.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    max_cloud: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            help="With --stac: skip scenes with more cloud cover than this.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what would be done; write nothing.",
            rich_help_panel=CHECKS,
        ),
    ] = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Map the forest of one or more scenes: mask, probability, polygons, report.

    A killed or interrupted run goes on where it was when the same command is given again.

    **Example:** `geoforest map T20LMR.tif --out maps --threshold 0.4`
    """
    for name, kind in _NUMBERS.items():
        if settings[name] is not None:
            settings[name] = _numbers(settings[name], kind, f"--{name}")
    asked = {"collection": collection, "bbox": bbox, "period": period, "max_cloud": max_cloud}
    with warnings_said():
        paths = _expanded(scenes or []) + _found(stac, settings["aoi"], asked, listed=dry_run)
        if settings["scene_id"] is None:
            paths = _newest(paths)
    if not paths:
        raise typer.BadParameter("scenes, or --stac to search for them", param_hint="SCENE")
    if dry_run:
        _dry_run(paths, settings, as_json=as_json)
        return
    from geoforest.pipeline.run import SceneFailure, map_scenes

    failures: list[SceneFailure] = []
    with progress_bars(len(paths)) as bars:
        for result in map_scenes(paths, out, progress=bars.begin, **settings):
            bars.scene_ended()
            if not isinstance(result, SceneFailure):
                _print_result(result, as_json=as_json, verbose=verbose)
            else:
                failures.append(result)
                _say_failure(result, len(paths), as_json=as_json)
    _end(failures, len(paths))


def _say_failure(failure: SceneFailure, n_scenes: int, *, as_json: bool) -> None:
    """Say why a scene of several failed; raise the error of the only one."""
    if n_scenes == 1:
        raise failure.error
    say(f"geoforest: {failure.error}")
    if as_json:
        print_json({"scene": failure.scene, "error": str(failure.error)})


def _end(failures: list[SceneFailure], n_scenes: int) -> None:
    if failures:
        say(f"geoforest: {len(failures)} of {n_scenes} scenes failed")
        raise typer.Exit(min(failure.error.exit_code for failure in failures))


def _print_result(result: MapResult, *, as_json: bool, verbose: bool) -> None:
    for warning in result.summary["warnings"]:
        say(f"warning: {warning}")
    for note in result.summary["notes"]:
        say(f"note: {note}")
    if as_json:
        print_json({"folder": str(result.folder), **result.summary})
    else:
        print(describe(result, verbose=verbose))


def describe(result: MapResult, *, verbose: bool = False) -> str:
    """Describe a map in a few lines for people; ``verbose`` adds seconds and memory."""
    s = result.summary
    share = "" if s["forest_percent"] is None else f", {s['forest_percent']:.1f} % of observed"
    rate = f" ({s['windows_per_second']:.2f} windows/s)" if s["windows_per_second"] else ""
    # Summaries that version 0.1.0 wrote lack it.
    planned = s.get("planned_windows", s["windows"])
    masked = s["cloud_masked_percent"]
    clouds = "" if masked is None else f", {masked:.1f} % masked as cloud"
    lines = [
        (
            f"{s['scene_id']}: {s['hectares']['forest']:,.1f} ha {s['label']}{share}; "
            f"{s['observed_percent']:.1f} % observed{clouds}"
        ),
        (
            f"  {s['windows']:,} of {planned:,} windows predicted in "
            f"{s['seconds']['total']:.1f} s{rate}"
        ),
    ]
    if verbose:
        spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in s["seconds"].items())
        lines.append(f"  seconds: {spent}; peak memory {s['peak_memory_mb']:,.0f} MB")
    if s["polygons"]:
        lines.append(
            f"  {s['polygons']['patches']:,} patches of at least {s['min_area_ha']:g} ha "
            f"in {s['polygons']['parts']:,} polygons"
        )
    if s["units"]:
        lines.append(f"  {len(s['units']):,} units")
    lines.append(paths_to_open(result.folder))
    return "\n".join(lines)


def _dry_run(scenes: list[str], settings: dict[str, Any], *, as_json: bool) -> None:
    from geoforest.pipeline.estimate import estimate
    from geoforest.pipeline.run import SceneFailure

    failures: list[SceneFailure] = []
    for plan in estimate(scenes, settings):
        if isinstance(plan, SceneFailure):
            failures.append(plan)
            _say_failure(plan, len(scenes), as_json=as_json)
            continue
        if as_json:
            print_json(plan)
            continue
        print(
            f"{plan['scene_id']}: {plan['windows']:,} windows of {plan['window']} px in "
            f"{plan['shards']:,} shards\n"
            f"  disk: at most {plan['disk_mb']:,.0f} MB while it runs\n"
            f"  time: about {plan['seconds'] / 60:,.1f} minutes of prediction "
            f"({plan['windows_per_second']:.2f} windows/s, measured now)"
        )
    _end(failures, len(scenes))


def _newest(paths: list[str]) -> list[str]:
    """Return the scenes without older processings of the same acquisitions."""
    if len(paths) < 2:
        return paths
    from geoforest.scenes.newest import newest_scenes

    return newest_scenes(paths)


def _expanded(scenes: list[str]) -> list[str]:
    """Return the scenes given, with patterns and lists of scenes expanded."""
    from geoforest.errors import InputError

    paths: list[str] = []
    for scene in scenes:
        if scene.startswith("@"):
            try:
                lines = Path(scene[1:]).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(
                    f"{scene[1:]}: is no list of scenes that can be read ({error})"
                ) from error
            named = [line.strip() for line in lines if line.strip()]
            if not named:
                raise InputError(f"{scene[1:]}: names no scene; one per line was wanted")
            paths += named
        # In a URL, `?` starts the query; it is not a wildcard.
        elif glob.has_magic(scene) and "://" not in scene and not Path(scene).exists():
            # Path.glob accepts no absolute pattern.
            found = sorted(glob.glob(scene))  # noqa: PTH207
            if not found:
                raise InputError(f"{scene}: nothing fits this pattern")
            paths += found
        else:
            paths.append(scene)
    return paths


def _found(stac: str | None, aoi: Path | None, asked: dict[str, Any], *, listed: bool) -> list[str]:
    """Return the locations that a search finds; none without --stac."""
    from geoforest.errors import InputError

    if stac is None:
        given = next((name for name, value in asked.items() if value is not None), None)
        if given is not None:
            option = "datetime" if given == "period" else given.replace("_", "-")
            raise InputError(f"--{option}: goes with --stac")
        return []
    from geoforest.scenes.stac.search import build_question, search, shown_area

    collection, bbox = asked["collection"], asked["bbox"]
    with warnings_said():
        question = build_question(
            collections=words(collection) if collection else (),
            bbox=_numbers(bbox, float, "--bbox") if bbox else None,
            aoi=None if bbox else aoi,
            period=asked["period"],
            max_cloud=asked["max_cloud"],
        )
    found = search(stac, question)
    say(f"{len(found)} {'scene' if len(found) == 1 else 'scenes'} found")
    for scene in found if listed else ():
        say(f"  {scene}")
    if question.area is not None:
        say(f"  the search was in {shown_area(question.area)}")
    return [scene.location for scene in found]


def _numbers(text: str, kind: type[int] | type[float], option: str) -> tuple[Any, ...]:
    from geoforest.errors import InputError

    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text!r}: numbers with commas between were wanted") from error
