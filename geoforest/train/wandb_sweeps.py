"""Sweeps that Weights & Biases drives: it chooses the settings, and trials here train with them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoforest.errors import GeoforestError, GeoforestWarning
from geoforest.models.wandb_client import connect, silence_wandb, wandb_errors
from geoforest.train.tracking import Tracker, WandbTracker, tracked
from geoforest.train.trials import (
    SweepResult,
    Trial,
    claimed,
    finished,
    prepared,
    train_trial,
    trial_folder,
)

if TYPE_CHECKING:
    from geoforest.train.sweep_config import SweepConfig

TrainOne = Callable[[dict[str, Any], Tracker], float]
"""Settings of a trial, and the tracker to train with, to the lowest validation loss."""


def run_wandb_sweep(
    config: SweepConfig,
    data: str | Path,
    out: str | Path,
    *,
    project: str,
    entity: str | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    **fixed: Any,
) -> SweepResult:
    """Let Weights & Biases choose the settings of each trial; train and track them here.

    Each call makes a new sweep there. What a killed one had trained into ``out`` is found again
    where the server chooses the same settings, and the training that was interrupted resumes.

    Parameters
    ----------
    config, data, out, on_trial, **fixed
        As for :func:`geoforest.train.sweep.run_sweep`; the server keeps the study, not ``out``.
    project, entity
        Of the sweep; the entity is by default that of the key.

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
    chips, identity = prepared(config, data, fixed)
    trials: list[Trial] = []

    def train_one(chosen: dict[str, Any], tracker: Tracker) -> float:
        parameters = {name: chosen[name] for name in config.parameters}
        bundle = trial_folder(out, parameters)

        def tell(trial: Trial) -> None:
            trials.append(trial)
            on_trial(trial)

        try:
            value = train_trial(chips, bundle, {**fixed, **parameters}, tracker)
        except Exception as error:
            tell(Trial(parameters, None, bundle, str(error)))
            raise
        tell(Trial(parameters, value, bundle))
        return value

    with claimed(out, identity):
        sweep_with_wandb(
            config.for_wandb(),
            train_one,
            project=project,
            entity=entity,
            count=config.run_cap,
        )
        return finished(out, trials)


def sweep_with_wandb(
    sweep: Mapping[str, Any],
    train_one: TrainOne,
    *,
    project: str,
    entity: str | None = None,
    count: int | None = None,
) -> str:
    """Create a sweep, and train its trials in this process until it has no more.

    Parameters
    ----------
    sweep
        Configuration.
    train_one
        Trains one trial. Its tracker has begun a run already.
    project, entity
        Of the sweep; the entity is by default that of the key.
    count
        Trials to train here, at most.

    Returns
    -------
    str
        Id of the sweep.

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

    # What cannot work shows itself here at once.
    connect("wandb sweep")
    failures: list[Exception] = []
    losses: list[float] = []

    def trial() -> None:
        tracker = WandbTracker(project, entity=entity)
        try:
            with tracked(tracker, {}, job_type="sweep"):
                loss = train_one(tracker.parameters, tracker)
                tracker.log_summary({"val_loss": loss})
        except Exception as error:
            failures.append(error)
            if not isinstance(error, GeoforestError):
                # A bug: wandb's agent shows where, and gives up after a few.
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
    """Undo what wandb's agent does to the environment."""
    before = _settings()
    try:
        yield
    finally:
        for name in _settings():
            del os.environ[name]
        os.environ.update(before)


def _settings() -> dict[str, str]:
    """Read what the environment tells wandb, but not where wandb's own process listens."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("WANDB_") and name != "WANDB_SERVICE"
    }
