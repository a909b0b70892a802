"""``geoforest map``: scene in, forest map out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoforest.cli._shared import AsJson, MaxVertices, MinAreaHa, print_json, progress_bar, say

if TYPE_CHECKING:
    from geoforest.pipeline import MapResult


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("map", no_args_is_help=True)(map_command)


def map_command(
    scenes: Annotated[
        list[str], typer.Argument(metavar="SCENE...", help="Raster(s), or folder(s) of bands.")
    ],
    out: Annotated[Path, typer.Option(help="Products go to OUT/SCENE_ID/.")],
    model: Annotated[
        str, typer.Option(help="`bundled`, a bundle folder or .zip, or any other model reference.")
    ] = "bundled",
    threshold: Annotated[
        float | None, typer.Option(help="Forest at or above; the model's own by default.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Band numbers in the model's band order, e.g. 3,2,1,4.")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="Reflectance = DN x scale + offset; one number or one a band.")
    ] = "1e-4",
    offset: Annotated[str, typer.Option(help="See --scale; e.g. -0.1.")] = "0",
    nodata: Annotated[
        float | None, typer.Option(help="Unobserved value; replaces the file's own.")
    ] = None,
    aoi: Annotated[Path | None, typer.Option(help="Vector file: map inside, 255 outside.")] = None,
    min_area_ha: MinAreaHa = 0.5,
    max_vertices: MaxVertices = 100_000,
    products: Annotated[
        str, typer.Option(help="Which to keep.")
    ] = "mask,probability,polygons,report",
    scene_id: Annotated[
        str | None, typer.Option(help="Replaces the file's stem; for one scene.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Pixels the network reads, halo included.")
    ] = None,
    halo: Annotated[int, typer.Option(help="Context ring that is not kept, px.")] = 32,
    shard: Annotated[int, typer.Option(help="Unit of work and resume, px.")] = 1792,
    batch_size: Annotated[int | None, typer.Option(help="Windows a call.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    runtime: Annotated[
        str, typer.Option(help="auto (the fastest with the same mask), torch, openvino.")
    ] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16, float16, int8; the runtime's best by default."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the outputs of another job.")
    ] = False,
    keep_work: Annotated[
        bool, typer.Option("--keep-work", help="Keep the shard store after success.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Map the forest of one or more scenes: mask, probability, polygons, report.

    A killed or interrupted run goes on where it was when the same command is given again.

    **Example:** `geoforest map T20LMR.tif --out maps --threshold 0.4`
    """
    from geoforest.errors import GeoforestError, InputError

    settings: dict[str, Any] = {
        "model": model,
        "threshold": threshold,
        "bands": _numbers(bands, int, "--bands") if bands else None,
        "scale": _numbers(scale, float, "--scale"),
        "offset": _numbers(offset, float, "--offset"),
        "nodata": nodata,
        "aoi": aoi,
        "min_area_ha": min_area_ha,
        "max_vertices": max_vertices,
        "products": frozenset(name.strip() for name in products.split(",") if name.strip()),
        "scene_id": scene_id,
        "window": window,
        "halo": halo,
        "shard": shard,
        "batch_size": batch_size,
        "device": device,
        "runtime": runtime,
        "precision": precision,
        "overwrite": overwrite,
        "keep_work": keep_work,
    }
    names = [scene_id or _identity(scene) for scene in scenes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"scene id {twice[0]!r} is there twice; rename it, or use --scene-id")
    worst: GeoforestError | None = None
    for scene in scenes:
        try:
            if dry_run:
                _dry_run(scene, settings, as_json=as_json)
            else:
                _map(scene, out, settings, as_json=as_json)
        except GeoforestError as error:
            if len(scenes) == 1:
                raise
            say(f"geoforest: {error}")
            worst = error if worst is None or error.exit_code < worst.exit_code else worst
    if worst is not None:
        raise typer.Exit(worst.exit_code)


def _map(scene: str, out: Path, settings: dict[str, Any], *, as_json: bool) -> None:
    from geoforest.pipeline import map_scene

    with progress_bar(Path(scene).name) as progress:
        result = map_scene(scene, out, progress=progress, **settings)
    for warning in result.summary["warnings"]:
        say(f"warning: {warning}")
    for note in result.summary["notes"]:
        say(f"note: {note}")
    if as_json:
        print_json({"folder": str(result.folder), **result.summary})
    else:
        print(describe(result))


def describe(result: MapResult) -> str:
    """Tell a map in a few lines for people."""
    s = result.summary
    share = "" if s["forest_percent"] is None else f", {s['forest_percent']:.1f} % of observed"
    rate = f" ({s['windows_per_second']:.2f} windows/s)" if s["windows_per_second"] else ""
    lines = [
        f"{s['scene_id']}: {s['hectares']['forest']:,.1f} ha {s['label']}{share}; "
        f"{s['observed_percent']:.1f} % observed",
        f"  {s['windows']:,} windows in {s['seconds']['total']:.1f} s{rate}, "
        f"peak memory {s['peak_memory_mb']:,.0f} MB",
    ]
    if s["polygons"]:
        lines.append(
            f"  {s['polygons']['patches']:,} patches of at least {s['min_area_ha']:g} ha "
            f"in {s['polygons']['parts']:,} polygons"
        )
    lines.append(f"  {result.folder}")
    return "\n".join(lines)


def _dry_run(scene: str, settings: dict[str, Any], *, as_json: bool) -> None:
    from geoforest.estimate import estimate

    plan = estimate(scene, settings)
    if as_json:
        print_json(plan)
        return
    print(
        f"{plan['scene_id']}: {plan['windows']:,} windows of {plan['window']} px in "
        f"{plan['shards']:,} shards\n"
        f"  disk: at most {plan['disk_mb']:,.0f} MB while it runs\n"
        f"  time: about {plan['seconds'] / 60:,.1f} minutes of prediction "
        f"({plan['windows_per_second']:.2f} windows/s, measured now)"
    )


def _identity(scene: str) -> str:
    path = Path(scene)
    return path.resolve().name if path.is_dir() else path.stem


def _numbers(text: str, kind: type[int] | type[float], option: str) -> tuple[Any, ...]:
    from geoforest.errors import InputError

    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text!r}: numbers with commas between were wanted") from error
