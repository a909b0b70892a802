"""A sweep over training settings, without any account: Optuna, resumable, best model promoted.

The configuration is that of a Weights & Biases sweep, so that the same file drives both.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geoforest.config import TrainSettings, checked
from geoforest.errors import GeoforestError, InputError
from geoforest.models.bundle import CARD_NAME, Bundle, load_bundle
from geoforest.storage import exclusive_lock, write_durably
from geoforest.train.figures import sweep_figure
from geoforest.train.fit import lowest_loss, train
from geoforest.train.tracking import Tracker

if TYPE_CHECKING:
    import optuna

METRIC: Final = "val_loss"
_DATABASE_NAME: Final = "sweep.db"
_Number = int | float


class SweepParameter(BaseModel):
    """Values of one training setting: one, several, or a range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Any = None
    values: tuple[Any, ...] | None = None
    min: _Number | None = None
    max: _Number | None = None
    distribution: (
        Literal["constant", "categorical", "int_uniform", "uniform", "log_uniform_values"] | None
    ) = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> SweepParameter:
        given = {"value", "values", "min"} & self.model_fields_set
        if len(given) != 1 or (self.min is None) != (self.max is None):
            raise ValueError("one of value, values, or min and max was wanted")
        if self.values is not None and not self.values:
            raise ValueError("values is empty")
        return self

    @property
    def choices(self) -> tuple[Any, ...] | None:
        """All values, or None for a range."""
        if self.min is not None:
            return None
        return self.values if self.values is not None else (self.value,)


class SweepMetric(BaseModel):
    """What is to be minimised: the validation loss of the best epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["val_loss"] = METRIC
    goal: Literal["minimize"] = "minimize"


class SweepConfig(BaseModel):
    """Configuration of a sweep, as of Weights & Biases."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    description: str = ""
    method: Literal["grid", "random", "bayes"] = "grid"
    metric: SweepMetric = SweepMetric()
    parameters: dict[str, SweepParameter] = Field(min_length=1)
    run_cap: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _method_fits(self) -> SweepConfig:
        if self.method == "grid":
            ranges = [name for name, one in self.parameters.items() if one.choices is None]
            if ranges:
                raise ValueError(f"a grid needs values, and {ranges[0]} is a range")
        elif self.run_cap is None:
            raise ValueError(f"method {self.method} needs a run_cap")
        return self

    @property
    def n_trials(self) -> int:
        """Trials of the whole sweep."""
        grid = math.prod(len(one.choices or ()) for one in self.parameters.values())
        if self.method != "grid":
            assert self.run_cap is not None
            return self.run_cap
        return min(grid, self.run_cap or grid)


@dataclass(frozen=True)
class Trial:
    """One training of a sweep; ``value`` is None where it failed."""

    parameters: dict[str, Any]
    value: float | None
    bundle: Path


@dataclass(frozen=True)
class SweepResult:
    """All trials, best first, those that failed last."""

    trials: list[Trial]

    @property
    def best(self) -> Trial:
        """The trial of lowest validation loss."""
        return self.trials[0]


def read_sweep(path: str | Path) -> SweepConfig:
    """Read and check a configuration file (YAML or JSON).

    Raises
    ------
    InputError
        With the first thing that cannot be used.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is no YAML ({' '.join(str(error).split())})") from error
    try:
        config = SweepConfig.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "sweep"
        raise InputError(f"{path}: {where}: {first['msg']}") from error
    for name, parameter in config.parameters.items():
        for value in parameter.choices or (parameter.min, parameter.max):
            checked(TrainSettings, {name: value})
    return config


def run_sweep(
    config: SweepConfig,
    data: str | Path,
    out: str | Path,
    *,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    **fixed: Any,
) -> SweepResult:
    """Train every trial of a sweep that is not trained yet.

    A killed sweep goes on where it was: finished trials are kept in ``out/sweep.db``, and the
    training that was interrupted resumes from its last epoch.

    Parameters
    ----------
    config
        What to vary.
    data
        Labelled chips.
    out
        Folder: a bundle a trial in ``trials``, ``sweep.db``, ``trials.csv``, ``trials.png``.
    on_trial
        Told of each trial as it ends.
    **fixed
        Settings of :class:`geoforest.config.TrainSettings` for every trial.

    Raises
    ------
    InputError
        When a setting cannot be used, or is fixed and varied at once.
    GeoforestError
        When no trial succeeded.
    """
    import optuna

    out = _prepared(config, Path(out), fixed)
    reasons: list[str] = []

    def objective(trial: optuna.Trial) -> float:
        parameters = _suggested(config, trial)
        bundle = trial_folder(out, parameters)
        try:
            value = train_trial(data, bundle, {**fixed, **parameters})
        except GeoforestError as error:
            reasons.append(str(error))
            on_trial(Trial(parameters, None, bundle))
            raise
        on_trial(Trial(parameters, value, bundle))
        return value

    with exclusive_lock(out):
        study = _open_study(config, out, fixed)
        done = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
        if done < config.n_trials:
            study.optimize(objective, n_trials=config.n_trials - done, catch=(GeoforestError,))
        result = SweepResult(_ranked(study, config, out))
        _write_tables(out, result)
    if result.best.value is None:
        raise GeoforestError(f"{out}: no trial succeeded ({reasons[0]})")
    return result


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

    Parameters
    ----------
    config, data, out, on_trial, **fixed
        As for :func:`run_sweep`; the study is kept by the server and not in ``out``.
    project, entity
        Of the sweep; the entity is by default that of the key.

    Raises
    ------
    InputError
        When a setting cannot be used, or there is no key.
    RegistryError
        When the server cannot be reached, or refuses.
    GeoforestError
        When no trial succeeded.
    """
    from geoforest.train.wandb_sweeps import sweep_with_wandb

    out = _prepared(config, Path(out), fixed)
    trials: list[Trial] = []

    def train_one(chosen: dict[str, Any], tracker: Tracker) -> float:
        parameters = {name: chosen[name] for name in config.parameters}
        bundle = trial_folder(out, parameters)
        value = train_trial(data, bundle, {**fixed, **parameters}, tracker)
        trials.append(Trial(parameters, value, bundle))
        on_trial(trials[-1])
        return value

    with exclusive_lock(out):
        sweep_with_wandb(
            config.model_dump(mode="json", exclude_unset=True),
            train_one,
            project=project,
            entity=entity,
            count=config.run_cap,
        )
        result = SweepResult(sorted(trials, key=lambda trial: trial.value or 0.0))
        _write_tables(out, result)
    return result


def _prepared(config: SweepConfig, out: Path, fixed: Mapping[str, Any]) -> Path:
    checked(TrainSettings, dict(fixed))
    if twice := sorted(fixed.keys() & config.parameters.keys()):
        raise InputError(f"{twice[0]}: is given for all trials and varied by the sweep")
    out.mkdir(parents=True, exist_ok=True)
    return out


def train_trial(
    data: str | Path, bundle: Path, settings: Mapping[str, Any], tracker: Tracker | None = None
) -> float:
    """Train one trial, or find it trained; its value is the lowest validation loss."""
    card = load_bundle(bundle).card if (bundle / CARD_NAME).is_file() else None
    if card is None:
        card = train(data, bundle, tracker=tracker, **settings)
    return lowest_loss(card)


def trial_folder(out: Path, parameters: Mapping[str, Any]) -> Path:
    """Folder of a trial's bundle: named by what it varies, so that a repetition finds it."""
    digest = hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode()).hexdigest()
    words = "_".join(str(value) for value in parameters.values())
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in words)[:60]
    return out / "trials" / f"{safe}-{digest[:8]}"


def best_bundle(result: SweepResult) -> Bundle:
    """Open the bundle of the best trial."""
    return load_bundle(result.best.bundle)


def _open_study(config: SweepConfig, out: Path, fixed: Mapping[str, Any]) -> optuna.Study:
    """Open the study of a folder; trials that a killed run left behind are queued again."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    identity = {"config": config.model_dump(mode="json"), "fixed": dict(fixed)}
    storage = optuna.storages.RDBStorage(f"sqlite:///{out / _DATABASE_NAME}")
    study = optuna.create_study(
        storage=storage,
        study_name=config.name,
        sampler=_sampler(config),
        direction="minimize",
        load_if_exists=True,
    )
    recorded = study.user_attrs.get("identity")
    if recorded is None:
        study.set_user_attr("identity", json.dumps(identity, sort_keys=True))
    elif recorded != json.dumps(identity, sort_keys=True):
        raise InputError(f"{out}: holds another sweep; choose another --out")
    study_id = storage.get_study_id_from_name(config.name)
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        # We hold the folder: whoever ran it is dead. Back in the queue it keeps its parameters and
        # its place in the grid, which a new trial of the same parameters would not have.
        number = storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        storage.set_trial_state_values(number, optuna.trial.TrialState.WAITING)
    return study


def _sampler(config: SweepConfig) -> optuna.samplers.BaseSampler:
    import optuna

    if config.method == "grid":
        grid = {name: list(one.choices or ()) for name, one in config.parameters.items()}
        return optuna.samplers.GridSampler(grid, seed=0)
    if config.method == "random":
        return optuna.samplers.RandomSampler(seed=0)
    return optuna.samplers.TPESampler(seed=0)


def _suggested(config: SweepConfig, trial: optuna.Trial) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, one in config.parameters.items():
        if one.choices is not None:
            values[name] = trial.suggest_categorical(name, list(one.choices))
        elif one.distribution == "int_uniform" or (
            one.distribution is None and isinstance(one.min, int) and isinstance(one.max, int)
        ):
            values[name] = trial.suggest_int(name, int(one.min or 0), int(one.max or 0))
        else:
            log = one.distribution == "log_uniform_values"
            low, high = float(one.min or 0), float(one.max or 0)
            values[name] = trial.suggest_float(name, low, high, log=log)
    return values


def _ranked(study: optuna.Study, config: SweepConfig, out: Path) -> list[Trial]:
    trials: dict[str, Trial] = {}
    for trial in study.get_trials():
        if trial.params.keys() != config.parameters.keys():
            continue
        key = json.dumps(trial.params, sort_keys=True)
        value = trial.value if trial.state.name == "COMPLETE" else None
        if key not in trials or trials[key].value is None:
            folder = trial_folder(out, {name: trial.params[name] for name in config.parameters})
            trials[key] = Trial(dict(trial.params), value, folder)
    return sorted(trials.values(), key=lambda t: (t.value is None, t.value or 0.0))


def _write_tables(out: Path, result: SweepResult) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*result.trials[0].parameters, METRIC, "bundle"])
    for trial in result.trials:
        value = "" if trial.value is None else repr(trial.value)
        writer.writerow([*trial.parameters.values(), value, trial.bundle.relative_to(out)])
    write_durably(out / "trials.csv", stream.getvalue().encode())
    rows = [{"parameters": t.parameters, "value": t.value} for t in result.trials]
    write_durably(out / "trials.png", sweep_figure(rows, metric=METRIC))
