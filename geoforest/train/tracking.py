"""Where a training's numbers go besides the model card: nowhere, or to Weights & Biases."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from geoforest.errors import GeoforestWarning, InputError
from geoforest.models.bundle import Bundle
from geoforest.models.references import checked_aliases, checked_name
from geoforest.models.wandb_client import (
    model_artifact,
    run_settings,
    silence_wandb,
    told,
)

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

Mode = Literal["online", "offline"]


class Tracker(Protocol):
    """Is told how one training goes. Whatever happens to it, the training goes on."""

    def start(
        self,
        config: Mapping[str, Any],
        *,
        name: str | None = None,
        job_type: str = "train",
        group: str | None = None,
    ) -> None:
        """Begin a run with these settings; one that has begun gets them added.

        Each start wants its finish, so that a sweep can begin the run that a training goes on with.
        """
        ...

    def log_epoch(self, values: Mapping[str, object]) -> None:
        """Add one row to the history; ``epoch`` is its abscissa."""
        ...

    def log_summary(self, values: Mapping[str, object]) -> None:
        """Set what the run is to be judged by."""
        ...

    def log_bundle(
        self,
        bundle: Bundle,
        name: str,
        *,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a model as a version of ``name``, with aliases besides ``latest``."""
        ...

    def finish(self, *, failed: bool = False) -> None:
        """End the run, when it was started once; what is told after it is not recorded."""
        ...


@contextmanager
def tracked(
    tracker: Tracker,
    config: Mapping[str, Any],
    *,
    name: str | None = None,
    job_type: str = "train",
    group: str | None = None,
) -> Iterator[None]:
    """Start a tracker, and finish it however the block ends."""
    tracker.start(config, name=name, job_type=job_type, group=group)
    try:
        yield
    except BaseException:
        tracker.finish(failed=True)
        raise
    tracker.finish()


class NoTracker:
    """A :class:`Tracker` that records nothing."""

    def start(
        self,
        config: Mapping[str, Any],
        *,
        name: str | None = None,
        job_type: str = "train",
        group: str | None = None,
    ) -> None:
        """Record nothing."""

    def log_epoch(self, values: Mapping[str, object]) -> None:
        """Record nothing."""

    def log_summary(self, values: Mapping[str, object]) -> None:
        """Record nothing."""

    def log_bundle(
        self,
        bundle: Bundle,
        name: str,
        *,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Record nothing."""

    def finish(self, *, failed: bool = False) -> None:
        """Record nothing."""


class WandbTracker:
    """A :class:`Tracker` that makes a run in Weights & Biases.

    Offline, or where the server cannot be reached, the run is recorded whole in a folder, which
    ``wandb sync`` sends later. Any other failure is a warning, once, and the training goes on.

    Parameters
    ----------
    project
        Name of the project.
    entity
        User or team; by default that of the key.
    mode
        By default what ``WANDB_MODE`` says, or else online.
    folder
        Where the run's folder goes; by default the current one.
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
        mode: Mode | None = None,
        folder: str | os.PathLike[str] | None = None,
        target: str | None = None,
    ) -> None:
        silence_wandb()
        self._project = project
        self._entity = entity
        self._mode = mode
        self._folder = folder
        self._target = target
        self._run: Run | None = None
        self._starts = 0
        self._warned = False

    @property
    def parameters(self) -> dict[str, Any]:
        """Settings of the run, those that a sweep chose for it included."""
        return {} if self._run is None else dict(self._run.config)

    def start(
        self,
        config: Mapping[str, Any],
        *,
        name: str | None = None,
        job_type: str = "train",
        group: str | None = None,
    ) -> None:
        """Begin a run with these settings; one that has begun gets them added.

        Raises
        ------
        InputError
            When there is no key, or ``name`` is no name for the model that is to come.
        """
        if name is not None:
            checked_name(name)
        if self._run is None:
            self._run = self._begun({"name": name, "job_type": job_type, "group": group})
        self._starts += 1
        self._try(lambda run: run.config.update(dict(config), allow_val_change=True))

    def log_epoch(self, values: Mapping[str, object]) -> None:
        """Add one row to the history; ``epoch`` is its abscissa."""
        self._try(lambda run: run.log(dict(values)))

    def log_summary(self, values: Mapping[str, object]) -> None:
        """Set what the run is to be judged by."""
        self._try(lambda run: run.summary.update(dict(values)))

    def log_bundle(
        self,
        bundle: Bundle,
        name: str,
        *,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a model as a version of ``name``, with aliases besides ``latest``.

        What is essential in the card goes with it, and ``metadata``, which has to be plain JSON.
        """

        def log(run: Run) -> None:
            artifact = model_artifact(run, bundle, checked_name(name), metadata)
            logged = run.log_artifact(artifact, aliases=checked_aliases(aliases))
            if self._target is not None and run.offline:
                self._warn(f"{name} is not linked to {self._target}, which is possible online only")
            elif self._target is not None:
                run.link_artifact(logged, self._target, aliases=list(aliases))

        self._try(log)

    def finish(self, *, failed: bool = False) -> None:
        """End the run, when it was started once; what is told after it is not recorded."""
        self._starts -= 1
        if self._starts == 0:
            self._try(lambda run: run.finish(exit_code=int(failed)))
            self._run = None

    def _begun(self, names: Mapping[str, Any]) -> Run | None:
        import wandb

        def begin(mode: Mode | None) -> Run:
            run = wandb.init(
                project=self._project,
                entity=self._entity,
                mode=mode,
                dir=self._folder,
                settings=run_settings(),
                **names,
            )
            run.define_metric("*", step_metric="epoch")
            return run

        try:
            return begin(self._mode)
        except wandb.errors.UsageError as error:
            raise InputError(f"W&B: {told(error)}; or set WANDB_API_KEY") from error
        except Exception as error:  # wandb raises many kinds
            reason = told(error)
        try:
            run = begin("offline")
        except Exception as error:  # wandb raises many kinds
            self._warn(f"nothing is recorded ({told(error)})")
            return None
        self._warn(f"{reason}; the run is recorded in {_folder(run)}, `wandb sync` sends it")
        return run

    def _try(self, call: Callable[[Run], object]) -> None:
        if self._run is None:
            return
        try:
            call(self._run)
        except Exception as error:  # wandb raises many kinds
            self._warn(f"{told(error)}; `wandb sync {_folder(self._run)}` may send what is missing")

    def _warn(self, text: str) -> None:
        if not self._warned:
            warnings.warn(f"W&B: {text}", GeoforestWarning, stacklevel=3)
        self._warned = True


def _folder(run: Run) -> Path:
    return Path(run.dir).parent
