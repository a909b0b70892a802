"""``geoforest evaluate``: score a model on labelled chips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoforest.cli._shared import AsJson, print_json, say, warnings_said, words


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate", no_args_is_help=True)(evaluate_command)


def evaluate_command(
    model: Annotated[str, typer.Argument(help="Reference of a model bundle.")],
    data: Annotated[str, typer.Argument(help="Folder of labelled chips, local or s3://.")],
    out: Annotated[Path, typer.Option(help="Folder for scores, curves, figures and report.")],
    splits: Annotated[
        str, typer.Option(help="Splits to score, separated by commas.")
    ] = "validation",
    threshold: Annotated[
        float | None, typer.Option(help="Threshold, 0 to 1. By default the model's own.")
    ] = None,
    chips: Annotated[
        int, typer.Option(min=-1, help="Best and worst chips to draw; -1 draws all.")
    ] = 6,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda, or cuda:1.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Score a model: metrics, precision-recall curve, calibration, errors at edges, figures.

    The threshold is the model's own unless one is given, the same for every split; `train` chooses
    it on validation.

    **Example:** `geoforest evaluate models/amazon data/amazon --splits validation,test
    --out evaluation`
    """
    from geoforest.train.evaluation import evaluate_model

    with warnings_said():
        metrics = evaluate_model(
            model,
            data,
            out,
            splits=words(splits),
            threshold=threshold,
            n_chips=None if chips < 0 else chips,
            device=device,
            progress=say,
        )
    if as_json:
        print_json({"out": str(out), **metrics})
        return
    for name, split in metrics["splits"].items():
        print(f"{name}: {split['chips']} chips, threshold {split['threshold']:g}")
        for score, value in split["scores"].items():
            print(f"  {score} {value:.4f}")
    print(f"  open {out}/report.html in a browser")
