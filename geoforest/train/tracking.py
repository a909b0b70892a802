"""Where a training's numbers go besides the model card: nowhere, or to Weights & Biases."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geoforest.errors import GeoforestWarning, InputError
from geoforest.models.references import checked_name
from geoforest.models.wandb_client import (
    error_text,
    model_artifact,
    run_settings,
    silence_wandb,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wandb.sdk.wandb_run import Run

    from geoforest.models.bundle import Bundle


class Tracker:
    """Is told how one training goes, and records nothing.

    Others record what they are told; whatever happens to them, the training goes on.
    """

    def start(
        self, config: Mapping[str, Any], *, name: str | None = None, job_type: str = "train"
    ) -> None:
        """Begin a run with these settings; one that has begun gets them added.

        Each start wants its finish, so that a sweep can begin the run that a training goes on with.
        """

    def log_epoch(self, values: Mapping[str, object]) -> None:
        """Add one row to the history; ``epoch`` is its abscissa."""

    def log_summary(self, values: Mapping[str, object]) -> None:
        """Set what the run is to be judged by."""

    def log_bundle(self, bundle: Bundle, name: str) -> None:
        """Store a model as a new version of ``name``."""

    def finish(self, *, failed: bool = False) -> None:
        """End the run, when it was started once; what is told after it is not recorded."""


@contextmanager
def tracked(
    tracker: Tracker,
    config: Mapping[str, Any],
    *,
    name: str | None = None,
    job_type: str = "train",
) -> Iterator[None]:
    """Start a tracker, and finish it however the block ends."""
    tracker.start(config, name=name, job_type=job_type)
    try:
        yield
    except BaseException:
        tracker.finish(failed=True)
        raise
    tracker.finish()


class WandbTracker(Tracker):
    """Makes a run in Weights & Biases, in the folder ``wandb`` of the current one.

    With ``WANDB_MODE=offline``, or where the server cannot be reached, the run is recorded whole
    there, and ``wandb sync`` sends it later. Any other failure is a warning, once.

    Parameters
    ----------
    project
        Name of the project.
    entity
        User or team; by default that of the key.
    target
        Collection of a registry to link models to, such as ``wandb-registry-model/forest``;
        possible online only.

    Raises
    ------
    InputError
        When wandb is not installed.
    """

    def __init__(
        self,
        project: str,
        *,
        entity: str | None = None,
        target: str | None = None,
    ) -> None:
        silence_wandb()
        self._project = project
        self._entity = entity
        self._target = target
        self._run: Run | None = None
        self._starts = 0
        self._warned = False

    @property
    def parameters(self) -> dict[str, Any]:
        """Settings of the run, those that a sweep chose for it included."""
        return {} if self._run is None else dict(self._run.config)

    def start(
        self, config: Mapping[str, Any], *, name: str | None = None, job_type: str = "train"
    ) -> None:
        """Begin a run, here when the server cannot be reached, or add settings to it.

        Raises
        ------
        InputError
            When there is no key, or ``name`` is no name for the model that is to come.
        """
        if name is not None:
            checked_name(name)
        if self._run is None:
            self._run = self._begun(name, job_type)
        self._starts += 1
        self._try(lambda run: run.config.update(dict(config), allow_val_change=True))

    def log_epoch(self, values: Mapping[str, object]) -> None:
        """Log a row."""
        self._try(lambda run: run.log(dict(values)))

    def log_summary(self, values: Mapping[str, object]) -> None:
        """Update the run's summary."""
        self._try(lambda run: run.summary.update(dict(values)))

    def log_bundle(self, bundle: Bundle, name: str) -> None:
        """Log an artifact with what is essential in the card, and link it to the target."""

        def log(run: Run) -> None:
            logged = run.log_artifact(model_artifact(run, bundle, checked_name(name), None))
            if self._target is not None and run.offline:
                self._warn(f"{name} is not linked to {self._target}, which is possible online only")
            elif self._target is not None:
                run.link_artifact(logged, self._target)

        self._try(log)

    def finish(self, *, failed: bool = False) -> None:
        """End the run with the last of its starts."""
        self._starts -= 1
        if self._starts == 0:
            self._try(lambda run: run.finish(exit_code=int(failed)))
            self._run = None

    def _begun(self, name: str | None, job_type: str) -> Run | None:
        import wandb

        def begin(mode: Literal["offline"] | None = None) -> Run:
            run = wandb.init(
                project=self._project,
                entity=self._entity,
                mode=mode,
                settings=run_settings(),
                name=name,
                job_type=job_type,
            )
            run.define_metric("*", step_metric="epoch")
            return run

        try:
            return begin()
        except wandb.errors.UsageError as error:
            raise InputError(f"W&B: {error_text(error)}; or set WANDB_API_KEY") from error
        except Exception as error:  # wandb raises many kinds
            reason = error_text(error)
        try:
            run = begin("offline")
        except Exception as error:  # wandb raises many kinds
            self._warn(f"nothing is recorded ({error_text(error)})")
            return None
        self._warn(f"{reason}; the run is recorded in {_folder(run)}, `wandb sync` sends it")
        return run

    def _try(self, call: Callable[[Run], object]) -> None:
        if self._run is None:
            return
        try:
            call(self._run)
        except Exception as error:  # wandb raises many kinds
            self._warn(
                f"{error_text(error)}; `wandb sync {_folder(self._run)}` may send what is missing"
            )

    def _warn(self, text: str) -> None:
        if not self._warned:
            warnings.warn(f"W&B: {text}", GeoforestWarning, stacklevel=3)
        self._warned = True


def _folder(run: Run) -> Path:
    return Path(run.dir).parent
