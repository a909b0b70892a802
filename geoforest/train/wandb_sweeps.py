"""Sweeps in which Weights & Biases chooses the settings, and trials train here."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from geoforest.errors import GeoforestError, GeoforestWarning
from geoforest.models.wandb_client import connect, silence_wandb, wandb_errors
from geoforest.train.tracking import Tracker, WandbTracker, tracked
from geoforest.train.trials import (
    SweepResult,
    Trial,
    locked_sweep_folder,
    prepare_sweep,
    rank_trials,
    train_trial,
    trial_folder,
)

if TYPE_CHECKING:
    from geoforest.train.settings import TrainOptions
    from geoforest.train.sweep_config import SweepConfig

TrainOne = Callable[[dict[str, Any], Tracker], float]
"""Trains with the settings of a trial and a tracker; returns the lowest validation loss."""


def run_wandb_sweep(
    config: SweepConfig,
    data: str | Path,
    out: str | Path,
    *,
    project: str,
    entity: str | None = None,
    on_trial: Callable[[Trial], None] = lambda _trial: None,
    **fixed: Unpack[TrainOptions],
) -> SweepResult:
    """Train and track trials here with settings that Weights & Biases chooses.

    Each call creates a new sweep on the server. When the server chooses settings that a killed
    sweep had trained into ``out``, that bundle is reused; an interrupted training resumes.

    Parameters
    ----------
    config, data, out, on_trial, **fixed
        As for :func:`geoforest.train.sweep.run_sweep`; the server keeps the study, not ``out``.
    project, entity
        Project and entity of the sweep; by default the entity of the key.

    Raises
    ------
    InputError, DataError, OutputError
        As for :func:`geoforest.train.sweep.run_sweep`; or when there is no key.
    RegistryError
        When the server cannot be reached, or refuses.
    GeoforestError
        When no trial succeeded.
    """
    out = Path(out)
    chips, identity = prepare_sweep(config, data, fixed)
    trials: list[Trial] = []

    def train_one(chosen: dict[str, Any], tracker: Tracker) -> float:
        parameters = {name: chosen[name] for name in config.parameters}
        bundle = trial_folder(out, parameters)

        def record(trial: Trial) -> None:
            trials.append(trial)
            on_trial(trial)

        try:
            value = train_trial(chips, bundle, {**fixed, **parameters}, tracker)
        # Any failure is recorded as a failed trial, and raised again.
        except Exception as error:
            record(Trial(parameters, None, bundle, str(error)))
            raise
        record(Trial(parameters, value, bundle))
        return value

    with locked_sweep_folder(out, identity):
        sweep_with_wandb(
            config.for_wandb(),
            train_one,
            project=project,
            entity=entity,
            count=config.run_cap,
        )
        return rank_trials(out, trials)


def sweep_with_wandb(
    sweep: Mapping[str, Any],
    train_one: TrainOne,
    *,
    project: str,
    entity: str | None = None,
    count: int | None = None,
) -> str:
    """Create a sweep, and train its trials in this process until none is left.

    Parameters
    ----------
    sweep
        Configuration in the format of Weights & Biases.
    train_one
        Trains one trial. Its tracker has already started a run.
    project, entity
        Project and entity of the sweep; by default the entity of the key.
    count
        Maximum number of trials to train here.

    Returns
    -------
    str
        Id of the sweep on the server.

    Raises
    ------
    InputError
        When there is no key, or wandb is offline.
    RegistryError
        When the server cannot be reached, or refuses.
    GeoforestError
        When no trial succeeded.
    """
    silence_wandb()
    import wandb

    # A missing key or server fails here, before the first trial.
    connect("wandb sweep")
    failures: list[Exception] = []
    losses: list[float] = []

    def trial() -> None:
        tracker = WandbTracker(project, entity=entity)
        try:
            with tracked(tracker, {}, job_type="sweep"):
                loss = train_one(tracker.parameters, tracker)
                tracker.log_summary({"val_loss": loss})
        # One failed trial must not end the sweep, and the caller needs every reason.
        except Exception as error:
            failures.append(error)
            if not isinstance(error, GeoforestError):
                # A bug: wandb's agent prints the traceback, and stops after a few.
                raise
            warnings.warn(f"a trial failed: {error}", GeoforestWarning, stacklevel=2)
        else:
            losses.append(loss)

    with _environment_kept(), redirect_stdout(sys.stderr), wandb_errors("wandb sweep"):
        os.environ["WANDB_SILENT"] = "true"
        sweep_id = wandb.sweep(dict(sweep), entity=entity, project=project)
        wandb.agent(sweep_id, trial, entity=entity, project=project, count=count)
    if failures and not losses:
        raise GeoforestError(f"wandb sweep {sweep_id}: no trial succeeded ({failures[0]})")
    return sweep_id


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Restore the environment variables that wandb's agent changes."""
    before = _wandb_variables()
    try:
        yield
    finally:
        for name in _wandb_variables():
            del os.environ[name]
        os.environ.update(before)


def _wandb_variables() -> dict[str, str]:
    """Return the WANDB_ variables, without the address of wandb's own process."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("WANDB_") and name != "WANDB_SERVICE"
    }
