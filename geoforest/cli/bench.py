"""``geoforest bench``: measure the speed of this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from geoforest.cli._shared import AsJson, print_json, progress_bar, with_options
from geoforest.pipeline.descriptions import MAP_OPTIONS, Option


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench_command)


_OPTIONS = {
    "model": Option("Model to time, in place of one with random weights.", kind=str),
    **{
        name: MAP_OPTIONS[name]
        for name in ("window", "halo", "shard", "batch_size", "workers", "device")
    },
    "runtime": replace(MAP_OPTIONS["runtime"], default="torch"),
    "precision": MAP_OPTIONS["precision"],
}


@with_options(_OPTIONS, before="as_json")
def bench_command(
    size: Annotated[
        int, typer.Option(min=64, help="Side of the generated scene, in pixels.")
    ] = 4480,
    encoder: Annotated[
        str,
        typer.Option(
            help="Encoder of a U-Net with random weights, which is as fast as a trained one."
        ),
    ] = "se_resnet50",
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Map a generated scene; print seconds per stage, and the share of the network alone.

    Machines are noisy: compare ratios of one run, not seconds of two.

    **Example:** `geoforest bench --encoder resnet50 --json`
    """
    from geoforest.pipeline.bench import run_bench

    with progress_bar("bench") as progress:
        found = run_bench(
            size=size,
            encoder=encoder,
            progress=progress,
            **{name: value for name, value in settings.items() if value is not None},
        )
    if as_json:
        print_json(found)
        return
    spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in found["seconds"].items())
    print(
        f"{found['model']}: {found['windows']:,} windows of a scene of {size} x {size} px, "
        f"{found['machine']['cores']} cores, {found['machine']['processor']}\n"
        f"  seconds: {spent}\n"
        f"  network alone: {found['forward_seconds']:.1f} s, "
        f"{found['forward_windows_per_second']:.2f} windows/s\n"
        f"  whole job without polygons: {found['windows_per_second']:.2f} windows/s, "
        f"{found['overhead_ratio']:.3f} x the network alone\n"
        f"  peak memory {found['peak_memory_mb']:,.0f} MB"
    )
