"""Sweep over training settings with Optuna, without an account; a killed sweep resumes."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack
from urllib.parse import quote

from geoforest.errors import GeoforestError, OutputError
from geoforest.io.locks import locks_records
from geoforest.train.resume import setting_effect
from geoforest.train.trials import (
    DATABASE_NAME,
    SweepResult,
    Trial,
    locked_sweep_folder,
    prepare_sweep,
    rank_trials,
    train_trial,
    trial_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import optuna

    from geoforest.train.settings import TrainOptions
    from geoforest.train.sweep_config import SweepConfig

# Name of the attribute that holds the error of a failed trial.
_ERROR: Final = "error"

_Effects = dict[str, list[tuple[Any, Any]]]
"""Values of each parameter that is not a range, with their effects.

A study stores effects, so that a file of weights may move between runs.
"""


def run_sweep(
    config: SweepConfig,
    data: str | Path,
    out: str | Path,
    *,
    on_trial: Callable[[Trial], None] = lambda _trial: None,
    **fixed: Unpack[TrainOptions],
) -> SweepResult:
    """Train every trial of a sweep that is not trained yet.

    A killed sweep resumes: finished trials are kept in ``out/sweep.db``, and the interrupted
    training goes on from its last epoch. Each call tries failed trials once more.

    Parameters
    ----------
    config
        Settings to vary, and how.
    data
        Folder of labelled chips, local or on S3.
    out
        Folder to create: one bundle per trial in ``trials``, ``sweep.db``, ``sweep.json``,
        ``trials.csv``, ``trials.png``.
    on_trial
        Called with each trial as it ends.
    **fixed
        Settings of :class:`geoforest.train.settings.TrainSettings` for every trial.

    Raises
    ------
    InputError
        When a setting cannot be used, or is both fixed and varied; when ``out`` holds another
        sweep, or a sweep on other data.
    DataError
        When the chips cannot be used.
    OutputError
        When ``out`` cannot be written to, or another run is using it.
    GeoforestError
        When no trial succeeded.
    """
    from optuna.trial import TrialState

    out = Path(out)
    chips, identity = prepare_sweep(config, data, fixed)
    effects = _effects_by_parameter(config)
    with locked_sweep_folder(out, identity), _open_storage(out) as storage:
        study = _open_study(config, effects, storage)
        failed = 0
        while len(study.get_trials(states=[TrialState.COMPLETE])) + failed < config.n_trials:
            # Seeded by the number of the trial, so that an interruption changes no draw.
            study.sampler = _sampler(config, seed=len(study.trials))
            trial = study.ask()
            parameters = _suggest_parameters(config, effects, trial)
            bundle = trial_folder(out, parameters)
            try:
                value = train_trial(chips, bundle, {**fixed, **parameters})
            # Any failure is recorded, a bug is raised after that. KeyboardInterrupt is not caught:
            # the trial stays in the state RUNNING, and the next call resumes it.
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
        return rank_trials(out, _trials_of_study(study, config, effects, out))


def _effects_by_parameter(config: SweepConfig) -> _Effects:
    return {
        name: [(value, setting_effect(name, value)) for value in one.choices]
        for name, one in config.parameters.items()
        if one.choices is not None
    }


@contextmanager
def _open_storage(out: Path) -> Iterator[optuna.storages.RDBStorage]:
    """Open the database of a folder, and close its connections, which Optuna does not do.

    Raises
    ------
    OutputError
        When the database is damaged or cannot be written to.
    GeoforestError
        When it fails later: a full disk, a lock of another program.
    """
    import optuna
    import sqlalchemy.exc

    path = out / DATABASE_NAME
    storage = None
    try:
        storage = optuna.storages.RDBStorage(_database_url(out))
        yield storage
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise _storage_error(path, error) from error
    except (AssertionError, KeyError, RuntimeError) as error:
        # How Optuna and its migrations report tables of another kind.
        if storage is None:
            raise _storage_error(path, error) from error
        raise
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


def _storage_error(path: Path, error: Exception) -> GeoforestError:
    """Return our error for one of the database: damage can be mended by hand, other causes pass."""
    # The text of SQLAlchemy's own errors holds the statement; that of SQLite's is one phrase.
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    reason = " ".join(str(cause).split())[:200] or type(cause).__name__
    if any(word in reason for word in ("full", "locked", "disk I/O")):
        return GeoforestError(f"{path}: cannot be used now ({reason}); trained trials are kept")
    return OutputError(
        f"{path}: cannot be used as the database of a sweep ({reason}); make it writable, or move "
        "it away: trials that are trained are found again"
    )


def _database_url(out: Path) -> str:
    if locks_records(out):
        return f"sqlite:///{out / DATABASE_NAME}"
    # The folder itself is locked, so nobody else writes there.
    return f"sqlite:///file:{quote(str((out / DATABASE_NAME).absolute()))}?nolock=1&uri=true"


def _open_study(
    config: SweepConfig, effects: _Effects, storage: optuna.storages.RDBStorage
) -> optuna.Study:
    """Open the study of a database, and enqueue all known trials that are not finished."""
    import optuna
    from optuna.trial import TrialState

    # Failed trials are reported here, so Optuna's warnings are not needed.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=storage, study_name=config.name, direction="minimize", load_if_exists=True
    )
    study_id = storage.get_study_id_from_name(config.name)
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        # This process holds the folder, so the process that ran the trial is dead. A trial that
        # is enqueued again keeps its parameters.
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
    # A grid is enqueued in full, so this sampler is never asked.
    return optuna.samplers.RandomSampler(seed=seed)


def _suggest_parameters(
    config: SweepConfig, effects: _Effects, trial: optuna.Trial
) -> dict[str, Any]:
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
    """Return the values whose effects a study stores, in the order of the configuration."""
    return {
        name: next(value for value, meant in effects[name] if meant == known[name])
        if name in effects
        else known[name]
        for name in config.parameters
    }


def _trials_of_study(
    study: optuna.Study, config: SweepConfig, effects: _Effects, out: Path
) -> list[Trial]:
    """Return one trial per set of parameters: one that succeeded, if any did."""
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
