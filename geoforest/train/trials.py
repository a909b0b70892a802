"""The trials of a sweep in its folder: trained or found there, ranked, and written to tables."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from geoforest.config import TrainSettings, checked
from geoforest.errors import GeoforestError, InputError, OutputError
from geoforest.models.bundle import CARD_NAME, Bundle, load_bundle
from geoforest.storage import exclusive_lock, read_json, write_durably
from geoforest.train.figures import sweep_figure
from geoforest.train.fit import lowest_loss, read_chips, train
from geoforest.train.resume import chips_digest, weights_digest
from geoforest.train.sweep_config import METRIC, SweepConfig
from geoforest.train.tracking import Tracker

DATABASE_NAME: Final = "sweep.db"
_IDENTITY_NAME: Final = "sweep.json"


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


def sweep_identity(
    config: SweepConfig, data: str | Path, fixed: Mapping[str, Any]
) -> dict[str, Any]:
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
def claimed(out: Path, identity: Mapping[str, Any]) -> Iterator[None]:
    """Hold the folder of a sweep, which is new or holds this very one."""
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


def finished(out: Path, trials: Sequence[Trial]) -> SweepResult:
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
