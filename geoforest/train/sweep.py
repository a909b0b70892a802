"""A sweep over training settings, without any account: Optuna, resumable, best model promoted.

The configuration is that of a Weights & Biases sweep, so that the same file drives both.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geoforest.config import TrainSettings, checked
from geoforest.errors import GeoforestError, InputError, OutputError
from geoforest.models.bundle import CARD_NAME, Bundle, load_bundle
from geoforest.storage import exclusive_lock, read_json, write_durably
from geoforest.train.figures import sweep_figure
from geoforest.train.fit import lowest_loss, read_chips, train
from geoforest.train.resume import chips_digest, weights_digest
from geoforest.train.tracking import Tracker

if TYPE_CHECKING:
    import optuna

METRIC: Final = "val_loss"
_DATABASE_NAME: Final = "sweep.db"
_IDENTITY_NAME: Final = "sweep.json"
# Attribute of a trial that failed.
_ERROR: Final = "error"
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
        if self.min is not None and self.max is not None:
            self._check_range(self.min, self.max)
        return self

    def _check_range(self, low: _Number, high: _Number) -> None:
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"min {low}, max {high}: numbers in this order were wanted")
        if self.distribution == "log_uniform_values" and low <= 0:
            raise ValueError(f"min {low}: log_uniform_values wants one above 0")
        if self.distribution == "int_uniform" and not self.is_whole:
            raise ValueError(f"min {low}, max {high}: int_uniform wants whole numbers")

    @property
    def is_whole(self) -> bool:
        """Whether a range has whole numbers for its ends, and so for its values by default."""
        return isinstance(self.min, int) and isinstance(self.max, int)

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


# Of a configuration for Weights & Biases: where and how its own agent would train.
_AGENTS_KEYS: Final = {"program", "command", "project", "entity"}


class SweepConfig(BaseModel):
    """Configuration of a sweep, as of Weights & Biases.

    ``program``, ``command``, ``project`` and ``entity`` may stand in it and say nothing here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    description: str = ""
    method: Literal["grid", "random", "bayes"] = "grid"
    metric: SweepMetric = SweepMetric()
    parameters: dict[str, SweepParameter] = Field(min_length=1)
    run_cap: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _without_agents_keys(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        return {name: value for name, value in raw.items() if name not in _AGENTS_KEYS}

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
        if self.method != "grid":
            assert self.run_cap is not None
            return self.run_cap
        return len(self.grid())

    def for_wandb(self) -> dict[str, Any]:
        """Plain data for its server, which has no defaults for method and metric."""
        given = self.model_dump(mode="json", exclude_unset=True)
        return {**given, "method": self.method, "metric": self.metric.model_dump()}

    def grid(self) -> list[dict[str, Any]]:
        """List the settings of each trial of a grid, the last parameter varying fastest."""
        choices = [one.choices or () for one in self.parameters.values()]
        points = itertools.islice(itertools.product(*choices), self.run_cap)
        return [dict(zip(self.parameters, point, strict=True)) for point in points]


@dataclass(frozen=True)
class Trial:
    """One training of a sweep; where it failed, ``value`` is None and ``error`` says why."""

    parameters: dict[str, Any]
    value: float | None
    bundle: Path
    error: str = ""


@dataclass(frozen=True)
class SweepResult:
    """All trials, best first, those that failed last."""

    trials: list[Trial]

    @property
    def best(self) -> Trial:
        """The trial of lowest validation loss."""
        return self.trials[0]

    @property
    def failed(self) -> list[Trial]:
        """Those without a value: while there are any, nobody knows which is best."""
        return [trial for trial in self.trials if trial.value is None]


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
    training that was interrupted resumes from its last epoch. Trials that failed are tried once
    more in each call.

    Parameters
    ----------
    config
        What to vary.
    data
        Labelled chips.
    out
        Folder: a bundle a trial in ``trials``, ``sweep.db``, ``sweep.json``, ``trials.csv``,
        ``trials.png``.
    on_trial
        Told of each trial as it ends.
    **fixed
        Settings of :class:`geoforest.config.TrainSettings` for every trial.

    Raises
    ------
    InputError
        When a setting cannot be used, or is fixed and varied at once; when ``out`` holds another
        sweep, or one on other data.
    DataError
        When the chips cannot be used.
    OutputError
        When ``out`` cannot be written to, or another run is at it.
    GeoforestError
        When no trial succeeded.
    """
    from optuna.trial import TrialState

    out = Path(out)
    with _claimed(out, _identity(config, data, fixed)):
        study = _open_study(config, out)
        failed = 0
        while len(study.get_trials(states=[TrialState.COMPLETE])) + failed < config.n_trials:
            # By its number, a trial draws what it would have drawn without an interruption.
            study.sampler = _sampler(config, seed=len(study.trials))
            trial = study.ask()
            parameters = _suggested(config, trial)
            bundle = trial_folder(out, parameters)
            try:
                value = train_trial(data, bundle, {**fixed, **parameters})
            # Whoever interrupts the sweep leaves the trial as one that runs, to be resumed.
            except Exception as error:
                trial.set_user_attr(_ERROR, str(error))
                study.tell(trial, state=TrialState.FAIL)
                if not isinstance(error, GeoforestError):
                    raise
                failed += 1
                on_trial(Trial(parameters, None, bundle, str(error)))
            else:
                study.tell(trial, value)
                on_trial(Trial(parameters, value, bundle))
        return _finished(out, _trials(study, config, out))


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
    InputError, DataError, OutputError
        As for :func:`run_sweep`; or when there is no key.
    RegistryError
        When the server cannot be reached, or refuses.
    GeoforestError
        When no trial succeeded.
    """
    from geoforest.train.wandb_sweeps import sweep_with_wandb

    out = Path(out)
    trials: list[Trial] = []

    def train_one(chosen: dict[str, Any], tracker: Tracker) -> float:
        parameters = {name: chosen[name] for name in config.parameters}
        bundle = trial_folder(out, parameters)

        def tell(trial: Trial) -> None:
            trials.append(trial)
            on_trial(trial)

        try:
            value = train_trial(data, bundle, {**fixed, **parameters}, tracker)
        except Exception as error:
            tell(Trial(parameters, None, bundle, str(error)))
            raise
        tell(Trial(parameters, value, bundle))
        return value

    with _claimed(out, _identity(config, data, fixed)):
        sweep_with_wandb(
            config.for_wandb(),
            train_one,
            project=project,
            entity=entity,
            count=config.run_cap,
        )
        return _finished(out, trials)


def _identity(config: SweepConfig, data: str | Path, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """All that changes a trial: settings, initial weights and chips, both by their content.

    What would fail in every trial is refused here.
    """
    checked(TrainSettings, dict(fixed))
    if twice := sorted(fixed.keys() & config.parameters.keys()):
        raise InputError(f"{twice[0]}: is given for all trials and varied by the sweep")
    values = {name: one.choices or (one.min,) for name, one in config.parameters.items()}
    first = checked(TrainSettings, {**fixed, **{name: some[0] for name, some in values.items()}})
    chips, _ = read_chips(data, first.bands)
    weights = values.get("encoder_weights", (first.encoder_weights,))
    return {
        "config": config.model_dump(mode="json"),
        "fixed": dict(fixed),
        "encoder_weights": [weights_digest(one) for one in weights],
        "chips": {split: chips_digest(items) for split, items in chips.items()},
    }


@contextmanager
def _claimed(out: Path, identity: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder of a sweep, which is new or holds this very one."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written to ({error.strerror or error})") from error
    text = json.dumps(identity, indent=2, sort_keys=True, default=str)
    with exclusive_lock(out):
        recorded = read_json(out / _IDENTITY_NAME)
        if recorded is None and not (out / _DATABASE_NAME).exists():
            write_durably(out / _IDENTITY_NAME, text.encode())
        elif recorded != json.loads(text):
            raise InputError(
                f"{out}: holds another sweep, or this one on other data; choose another --out"
            )
        yield


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
    # Also a name for a model.
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", words).lstrip("._-")[:60] or "trial"
    return out / "trials" / f"{safe}-{digest[:8]}"


def best_bundle(result: SweepResult) -> Bundle:
    """Open the bundle of the best trial."""
    return load_bundle(result.best.bundle)


def _open_study(config: SweepConfig, out: Path) -> optuna.Study:
    """Open the study of a folder; all trials that are known and not finished are in its queue."""
    import optuna
    from optuna.trial import TrialState

    # Of a trial that fails we tell ourselves.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(f"sqlite:///{out / _DATABASE_NAME}")
    study = optuna.create_study(
        storage=storage, study_name=config.name, direction="minimize", load_if_exists=True
    )
    study_id = storage.get_study_id_from_name(config.name)
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        # We hold the folder: whoever ran it is dead. Back in the queue it keeps its parameters.
        number = storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        storage.set_trial_state_values(number, TrialState.WAITING)
    known = [
        trial.system_attrs.get("fixed_params", trial.params)
        for trial in study.get_trials(states=[TrialState.COMPLETE, TrialState.WAITING])
    ]
    if config.method == "grid":
        wanted = config.grid()
    else:
        wanted = [trial.params for trial in study.get_trials(states=[TrialState.FAIL])]
    for parameters in wanted:
        if parameters not in known:
            study.enqueue_trial(parameters)
            known.append(parameters)
    return study


def _sampler(config: SweepConfig, *, seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    if config.method == "bayes":
        return optuna.samplers.TPESampler(seed=seed)
    # Of a grid all trials are in the queue.
    return optuna.samplers.RandomSampler(seed=seed)


def _suggested(config: SweepConfig, trial: optuna.Trial) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, one in config.parameters.items():
        if one.choices is not None:
            values[name] = trial.suggest_categorical(name, list(one.choices))
        elif one.distribution == "int_uniform" or (one.distribution is None and one.is_whole):
            values[name] = trial.suggest_int(name, int(one.min or 0), int(one.max or 0))
        else:
            log = one.distribution == "log_uniform_values"
            low, high = float(one.min or 0), float(one.max or 0)
            values[name] = trial.suggest_float(name, low, high, log=log)
    return values


def _trials(study: optuna.Study, config: SweepConfig, out: Path) -> list[Trial]:
    """Trials of a study, one for each set of parameters: the one that succeeded, if any did."""
    trials: dict[str, Trial] = {}
    for trial in study.get_trials():
        if trial.params.keys() != config.parameters.keys():
            continue
        parameters = {name: trial.params[name] for name in config.parameters}
        key = json.dumps(parameters)
        if key not in trials or trials[key].value is None:
            value = trial.value if trial.state.name == "COMPLETE" else None
            error = "" if value is not None else trial.user_attrs.get(_ERROR, "")
            trials[key] = Trial(parameters, value, trial_folder(out, parameters), error)
    return list(trials.values())


def _finished(out: Path, trials: Sequence[Trial]) -> SweepResult:
    """Rank the trials and write their tables."""
    ranked = sorted(trials, key=lambda trial: (trial.value is None, trial.value or 0.0))
    if not ranked:
        raise GeoforestError(f"{out}: there was no trial to train")
    result = SweepResult(ranked)
    _write_tables(out, result)
    if result.best.value is None:
        raise GeoforestError(f"{out}: no trial succeeded ({result.best.error})")
    return result


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
