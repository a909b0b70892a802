"""Train, find and rank the trials of a sweep in its folder, and write them to tables."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from geoforest.errors import GeoforestError, InputError, OutputError, checked
from geoforest.io.storage import exclusive_lock, read_json, write_durably
from geoforest.io.tables import csv_text
from geoforest.models.bundle import CARD_NAME, Bundle, load_bundle
from geoforest.train.figures import sweep_figure
from geoforest.train.fit import TrainingChips, lowest_loss, read_chips, train_chips
from geoforest.train.resume import setting_effect, training_identity
from geoforest.train.settings import TrainSettings
from geoforest.train.sweep_config import METRIC, SweepConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from geoforest.train.tracking import Tracker

DATABASE_NAME: Final = "sweep.db"
_IDENTITY_NAME: Final = "sweep.json"


@dataclass(frozen=True)
class Trial:
    """One training of a sweep and its lowest validation loss.

    For a failed trial, ``value`` is None and ``error`` gives the reason.
    """

    parameters: dict[str, Any]
    value: float | None
    bundle: Path
    error: str = ""


@dataclass(frozen=True)
class SweepResult:
    """All trials of a sweep, best first and failed ones last."""

    trials: list[Trial]

    @property
    def best(self) -> Trial:
        """Trial of lowest validation loss."""
        return self.trials[0]

    @property
    def failed(self) -> list[Trial]:
        """Failed trials; as long as there are any, the best trial is not certain."""
        return [trial for trial in self.trials if trial.value is None]


def prepare_sweep(
    config: SweepConfig, data: str | Path, fixed: Mapping[str, Any]
) -> tuple[TrainingChips, dict[str, Any]]:
    """Read the chips of a sweep, and return them with the identity of the sweep.

    The identity holds all that changes a weight. Trials may be added, and files of weights and
    data may move.

    Raises
    ------
    InputError, DataError
        When every trial would fail.
    """
    checked(TrainSettings, dict(fixed))
    if twice := sorted(fixed.keys() & config.parameters.keys()):
        raise InputError(f"{twice[0]}: is given for all trials and varied by the sweep")
    values = {name: one.choices or (one.min,) for name, one in config.parameters.items()}
    first = checked(TrainSettings, {**fixed, **{name: some[0] for name, some in values.items()}})
    chips = read_chips(data, first.bands, first.scale)
    identity = {
        "name": config.name,
        "method": config.method,
        "parameters": {
            name: one.model_dump(mode="json", include={"min", "max", "distribution"})
            if one.choices is None
            else [setting_effect(name, value) for value in one.choices]
            for name, one in config.parameters.items()
        },
        "first": training_identity(first, chips.splits),
    }
    return chips, identity


@contextmanager
def locked_sweep_folder(out: Path, identity: Mapping[str, Any]) -> Iterator[None]:
    """Lock the folder of a sweep; it must be new or hold the same sweep."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written to ({error.strerror or error})") from error
    text = json.dumps(identity, indent=2, sort_keys=True, default=str)
    with exclusive_lock(out):
        recorded = read_json(out / _IDENTITY_NAME)
        if recorded is None and not (out / DATABASE_NAME).exists():
            write_durably(out / _IDENTITY_NAME, text.encode())
        elif recorded != json.loads(text):
            raise InputError(
                f"{out}: holds another sweep, or this one on other data; choose another --out"
            )
        yield


def train_trial(
    chips: TrainingChips,
    bundle: Path,
    settings: Mapping[str, Any],
    tracker: Tracker | None = None,
) -> float:
    """Train one trial, unless it is trained already, and return its lowest validation loss."""
    if (bundle / CARD_NAME).is_file():
        return lowest_loss(load_bundle(bundle).card)
    chosen = checked(TrainSettings, dict(settings))
    if (chosen.bands, chosen.scale) != (chips.bands, chips.scale):
        chips = read_chips(chips.data, chosen.bands, chosen.scale)
    return lowest_loss(train_chips(chips, bundle, chosen, tracker=tracker))


def trial_folder(out: Path, parameters: Mapping[str, Any]) -> Path:
    """Return the folder of a trial's bundle, named by its settings to be found again."""
    effects = {name: setting_effect(name, value) for name, value in parameters.items()}
    digest = hashlib.sha256(json.dumps(effects, sort_keys=True).encode()).hexdigest()
    words = "_".join(str(value)[:30] for value in effects.values())
    # The folder's name becomes the name of the model.
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", words).lstrip("._-")[:60] or "trial"
    return out / "trials" / f"{safe}-{digest[:8]}"


def rank_bundles(bundles: Sequence[Path], out: Path, varied: Sequence[str]) -> SweepResult:
    """Rank bundles that were trained one by one, like the trials of a sweep.

    Parameters
    ----------
    bundles
        Folders below ``out``, trained on the same chips.
    out
        Folder for ``trials.csv`` and ``trials.png``.
    varied
        Names of the settings that differ, such as ``encoder`` and ``batch_size``.

    Raises
    ------
    BundleError
        When one cannot be opened.
    GeoforestError
        When there is no bundle.
    """
    trials = []
    for folder in bundles:
        card = load_bundle(folder).card
        known = {**card.training, "encoder": card.encoder, "architecture": card.architecture}
        parameters = {name: known[name] for name in varied}
        trials.append(Trial(parameters, lowest_loss(card), folder))
    return rank_trials(out, trials)


def best_bundle(result: SweepResult) -> Bundle:
    """Open the bundle of the best trial."""
    return load_bundle(result.best.bundle)


def rank_trials(out: Path, trials: Sequence[Trial]) -> SweepResult:
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
    table = [
        {**trial.parameters, METRIC: trial.value, "bundle": trial.bundle.relative_to(out)}
        for trial in result.trials
    ]
    write_durably(out / "trials.csv", csv_text(table).encode())
    rows = [{"parameters": t.parameters, "value": t.value} for t in result.trials]
    write_durably(out / "trials.png", sweep_figure(rows, metric=METRIC))
