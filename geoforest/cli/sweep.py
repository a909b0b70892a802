"""``geoforest sweep``: train with many settings, and promote the best model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geoforest.cli._shared import AsJson, Wandb, print_json, say, split_project, warnings_said

if TYPE_CHECKING:
    from geoforest.train.trials import Trial


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep", no_args_is_help=True)(sweep_command)


def sweep_command(
    config: Annotated[
        Path, typer.Argument(help="YAML file, in the format of a Weights & Biases sweep.")
    ],
    data: Annotated[str, typer.Argument(help="Folder of labelled chips, local or s3://.")],
    out: Annotated[Path, typer.Option(help="Folder for the trials, their table and their figure.")],
    registry: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model to promote the best trial to, as `best_model`; "
            "`folder:OUT/registry/<sweep name>` by default.",
        ),
    ] = None,
    wandb: Wandb = None,
    as_json: AsJson = False,
) -> None:
    """Train a U-Net for each set of settings; the lowest validation loss wins.

    Settings with one `value` are the same for all trials. Optuna chooses the trials; a killed sweep
    goes on where it was when the same command is given again, and tries again what failed. Nothing
    is promoted while a trial is missing. With `--wandb` the server chooses the trials, of a new
    sweep in each call, and the best is promoted there by default.

    **Example:** `geoforest sweep sweep.yaml data/amazon --out sweep`
    """
    from geoforest.models.registry import open_push_registry
    from geoforest.train.sweep import run_sweep
    from geoforest.train.sweep_config import read_sweep
    from geoforest.train.trials import best_bundle
    from geoforest.train.wandb_sweeps import run_wandb_sweep

    def on_trial(trial: Trial) -> None:
        say(describe(trial))

    chosen = read_sweep(config)
    place = f"folder:{out}/registry" if wandb is None else f"wandb:{wandb}"
    target = registry or f"{place}/{chosen.name}"
    with warnings_said():
        # Before the trainings, not after them.
        models, name = open_push_registry(target)
        if wandb is None:
            result = run_sweep(chosen, data, out, on_trial=on_trial)
        else:
            entity, project = split_project(wandb)
            result = run_wandb_sweep(
                chosen, data, out, project=project, entity=entity, on_trial=on_trial
            )
        promoted = None
        if not result.failed:
            promoted = models.push(best_bundle(result), name, ["best_model"])
    if as_json:
        trials = [{"parameters": t.parameters, "val_loss": t.value} for t in result.trials]
        print_json({"out": str(out), "trials": trials, "best": promoted})
    else:
        for trial in result.trials:
            print(describe(trial))
    if promoted is None:
        again = "tries them again" if wandb is None else "begins a new sweep"
        say(
            f"geoforest: {len(result.failed)} of {len(result.trials)} trials failed, nothing was "
            f"promoted; the same command {again}, and `geoforest model push "
            f"{result.best.bundle} {target} --alias best_model` promotes the best of the others"
        )
        raise typer.Exit(1)
    if not as_json:
        print(f"best: {promoted}, alias best_model")


def describe(trial: Trial) -> str:
    """Describe a trial in one line."""
    parameters = ", ".join(f"{name} {value}" for name, value in trial.parameters.items())
    if trial.value is None:
        return f"{parameters}: failed ({trial.error})"
    return f"{parameters}: validation loss {trial.value:.4f}"
