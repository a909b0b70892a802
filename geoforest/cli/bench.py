"""``geoforest bench``: how fast is this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from geoforest.cli._shared import AsJson, print_json, progress_bar


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench_command)


def bench_command(
    size: Annotated[int, typer.Option(min=64, help="Side of the generated scene, px.")] = 4480,
    encoder: Annotated[
        str, typer.Option(help="Of a U-Net with random weights, as fast as a trained one.")
    ] = "se_resnet50",
    model: Annotated[str | None, typer.Option(help="Reference of a model to take instead.")] = None,
    window: Annotated[int | None, typer.Option(help="Pixels the network reads.")] = None,
    halo: Annotated[int, typer.Option(help="Context ring that is not kept, px.")] = 32,
    shard: Annotated[int | None, typer.Option(help="Unit of work and resume, px.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows a call.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0 computes in this one.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    runtime: Annotated[str, typer.Option(help="auto, torch, openvino.")] = "torch",
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16, float16, int8.")] = None,
    as_json: AsJson = False,
) -> None:
    """Map a generated scene; seconds by stage, and the share of the network alone.

    Machines are noisy: compare ratios of one run, not seconds of two.

    **Example:** `geoforest bench --encoder resnet50 --json`
    """
    from geoforest.pipeline.bench import run_bench

    with progress_bar("bench") as progress:
        found = run_bench(
            size=size,
            encoder=encoder,
            model=model,
            progress=progress,
            window=window,
            halo=halo,
            shard=shard,
            batch_size=batch_size,
            workers=workers,
            device=device,
            runtime=runtime,
            precision=precision,
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
