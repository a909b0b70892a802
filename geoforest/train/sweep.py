"""A sweep over training settings, without any account: Optuna chooses, and a killed one goes on."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from geoforest.errors import GeoforestError
from geoforest.train.resume import effect
from geoforest.train.trials import (
    DATABASE_NAME,
    SweepResult,
    Trial,
    claimed,
    finished,
    prepared,
    train_trial,
    trial_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import optuna

    from geoforest.train.sweep_config import SweepConfig

# Attribute of a trial that failed.
_ERROR: Final = "error"

_Effects = dict[str, list[tuple[Any, Any]]]
"""Values of each parameter that is no range, with their effects, by which a study knows them.

So a file of weights may lie elsewhere the next time.
"""


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
        Settings of :class:`geoforest.train.settings.TrainSettings` for every trial.

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
    chips, identity = prepared(config, data, fixed)
    effects = _effects(config)
    with claimed(out, identity), _storage(out) as storage:
        study = _open_study(config, effects, storage)
        failed = 0
        while len(study.get_trials(states=[TrialState.COMPLETE])) + failed < config.n_trials:
            # By its number, a trial draws what it would have drawn without an interruption.
            study.sampler = _sampler(config, seed=len(study.trials))
            trial = study.ask()
            parameters = _suggested(config, effects, trial)
            bundle = trial_folder(out, parameters)
            try:
                value = train_trial(chips, bundle, {**fixed, **parameters})
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
        return finished(out, _trials(study, config, effects, out))


def _effects(config: SweepConfig) -> _Effects:
    return {
        name: [(value, effect(name, value)) for value in one.choices]
        for name, one in config.parameters.items()
        if one.choices is not None
    }


@contextmanager
def _storage(out: Path) -> Iterator[optuna.storages.RDBStorage]:
    """Open the database of a folder, and close it: Optuna leaves its connections to chance."""
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{out / DATABASE_NAME}")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _open_study(
    config: SweepConfig, effects: _Effects, storage: optuna.storages.RDBStorage
) -> optuna.Study:
    """Open the study of a database; all trials that are known and not finished are in its queue."""
    import optuna
    from optuna.trial import TrialState

    # Of a trial that fails we tell ourselves.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
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
        wanted = [
            {
                name: next(meant for choice, meant in effects[name] if choice == value)
                for name, value in point.items()
            }
            for point in config.grid()
        ]
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


def _suggested(config: SweepConfig, effects: _Effects, trial: optuna.Trial) -> dict[str, Any]:
    for name, one in config.parameters.items():
        if name in effects:
            trial.suggest_categorical(name, [meant for _, meant in effects[name]])
        elif one.distribution == "int_uniform" or (one.distribution is None and one.is_whole):
            trial.suggest_int(name, int(one.min or 0), int(one.max or 0))
        else:
            log = one.distribution == "log_uniform_values"
            low, high = float(one.min or 0), float(one.max or 0)
            trial.suggest_float(name, low, high, log=log)
    return _parameters(config, effects, trial.params)


def _parameters(config: SweepConfig, effects: _Effects, known: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values that a study knows by their effects, in the order of the configuration."""
    return {
        name: next(value for value, meant in effects[name] if meant == known[name])
        if name in effects
        else known[name]
        for name in config.parameters
    }


def _trials(study: optuna.Study, config: SweepConfig, effects: _Effects, out: Path) -> list[Trial]:
    """Trials of a study, one for each set of parameters: the one that succeeded, if any did."""
    trials: dict[str, Trial] = {}
    for trial in study.get_trials():
        if trial.params.keys() != config.parameters.keys():
            continue
        parameters = _parameters(config, effects, trial.params)
        key = json.dumps(parameters)
        if key not in trials or trials[key].value is None:
            value = trial.value if trial.state.name == "COMPLETE" else None
            error = "" if value is not None else trial.user_attrs.get(_ERROR, "")
            trials[key] = Trial(parameters, value, trial_folder(out, parameters), error)
    return list(trials.values())
