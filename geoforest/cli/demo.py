"""``geoforest demo``: the whole job on a synthetic scene and the bundled model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoforest.cli._shared import AsJson, Verbose, print_json, progress_bar, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo_command)


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the scene and its map.")] = Path(
        "geoforest-demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the synthetic scene.")] = 7,
    size: Annotated[int, typer.Option(min=256, help="Side of the scene, in pixels.")] = 2304,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Generate a synthetic Rondonia-like scene, map it, and compare with its known truth.

    **Example:** `geoforest demo --out demo`
    """
    from geoforest.cli.map_ import describe
    from geoforest.pipeline.demo import run_demo

    say("A synthetic scene, made by code: no satellite saw it.")
    with progress_bar("demo") as progress:
        demo = run_demo(out, seed=seed, size=size, progress=progress)
    if as_json:
        print_json({**demo.result.summary, "agreement": demo.agreement, "folder": str(out)})
        return
    print(
        f"agreement with the known truth: accuracy {demo.agreement['accuracy']:.3f}, "
        f"forest F1 {demo.agreement['f1']:.3f}"
    )
    if verbose:
        print(f"  scene generated in {demo.seconds:.1f} s")
    print(describe(demo.result, verbose=verbose))
    print(f"  open {demo.quicklook} for a picture")
