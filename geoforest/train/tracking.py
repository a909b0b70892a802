"""Trackers, which record a training besides the model card: none, or Weights & Biases."""

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
    """Tracker of one training that records nothing, and base of those that do.

    A failing tracker does not stop the training.
    """

    def start(
        self, config: Mapping[str, Any], *, name: str | None = None, job_type: str = "train"
    ) -> None:
        """Start a run with these settings, or add them to the run that was started.

        Each start needs its own finish, so that a sweep can start a run that a training continues.
        """

    def log_epoch(self, values: Mapping[str, object]) -> None:
        """Add one row to the history; ``epoch`` is the x axis."""

    def log_summary(self, values: Mapping[str, object]) -> None:
        """Set the final scores of the run."""

    def log_bundle(self, bundle: Bundle, name: str) -> None:
        """Store a model as a new version of ``name``."""

    def finish(self, *, failed: bool = False) -> None:
        """End the run when every start has its finish; later values are not recorded."""


@contextmanager
def tracked(
    tracker: Tracker,
    config: Mapping[str, Any],
    *,
    name: str | None = None,
    job_type: str = "train",
) -> Iterator[None]:
    """Start a tracker, and finish it when the block ends or fails."""
    tracker.start(config, name=name, job_type=job_type)
    try:
        yield
    except BaseException:
        tracker.finish(failed=True)
        raise
    tracker.finish()


class WandbTracker(Tracker):
    """Tracker that records a run in Weights & Biases; local files lie in ``./wandb``.

    With ``WANDB_MODE=offline``, or when the server cannot be reached, the whole run is recorded
    there, and ``wandb sync`` sends it later. The first other failure is a warning.

    Parameters
    ----------
    project
        Name of the project.
    entity
        User or team; by default the one of the key.
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
        """Settings of the run, including those that a sweep chose for it."""
        return {} if self._run is None else dict(self._run.config)

    def start(
        self, config: Mapping[str, Any], *, name: str | None = None, job_type: str = "train"
    ) -> None:
        """Start a run, offline when the server cannot be reached, or add settings to it.

        Raises
        ------
        InputError
            When there is no key, or ``name`` is not a valid name of a model.
        """
        if name is not None:
            checked_name(name)
        if self._run is None:
            self._run = self._start_run(name, job_type)
        self._starts += 1
        self._try(
            lambda run: run.config.update(  # type: ignore[no-untyped-call]  # wandb leaves it untyped
                dict(config), allow_val_change=True
            )
        )

    def log_epoch(self, values: Mapping[str, object]) -> None:
        """Log one row of the history."""
        self._try(lambda run: run.log(dict(values)))

    def log_summary(self, values: Mapping[str, object]) -> None:
        """Set the summary values of the run."""
        self._try(lambda run: run.summary.update(dict(values)))

    def log_bundle(self, bundle: Bundle, name: str) -> None:
        """Log an artifact with the main fields of the card, and link it to the target."""

        def log(run: Run) -> None:
            logged = run.log_artifact(model_artifact(run, bundle, checked_name(name), None))
            if self._target is not None and run.offline:
                self._warn(f"{name} is not linked to {self._target}, which is possible online only")
            elif self._target is not None:
                run.link_artifact(logged, self._target)

        self._try(log)

    def finish(self, *, failed: bool = False) -> None:
        """End the run when every start has its finish."""
        self._starts -= 1
        if self._starts == 0:
            self._try(lambda run: run.finish(exit_code=int(failed)))
            self._run = None

    def _start_run(self, name: str | None, job_type: str) -> Run | None:
        import wandb

        def init(mode: Literal["offline"] | None = None) -> Run:
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
            return init()
        except wandb.errors.UsageError as error:
            raise InputError(f"W&B: {error_text(error)}; or set WANDB_API_KEY") from error
        except Exception as error:  # noqa: BLE001  (wandb raises many types; training goes on)
            reason = error_text(error)
        try:
            run = init("offline")
        except Exception as error:  # noqa: BLE001  (wandb raises many types; training goes on)
            self._warn(f"nothing is recorded ({error_text(error)})")
            return None
        self._warn(f"{reason}; the run is recorded in {_folder(run)}, `wandb sync` sends it")
        return run

    def _try(self, call: Callable[[Run], object]) -> None:
        if self._run is None:
            return
        try:
            call(self._run)
        except Exception as error:  # noqa: BLE001  (wandb raises many types; training goes on)
            self._warn(
                f"{error_text(error)}; `wandb sync {_folder(self._run)}` may send what is missing"
            )

    def _warn(self, text: str) -> None:
        if not self._warned:
            warnings.warn(f"W&B: {text}", GeoforestWarning, stacklevel=3)
        self._warned = True


def _folder(run: Run) -> Path:
    return Path(run.dir).parent
