"""A model registry in Weights & Biases: artifacts of type ``model`` in one project."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from geoforest.errors import BundleError, GeoforestWarning, InputError
from geoforest.models.bundle import CARD_NAME, WEIGHTS_NAME, Bundle
from geoforest.models.copies import cached_bundle, save_copy
from geoforest.models.references import (
    LATEST,
    Entry,
    checked_aliases,
    checked_name,
    split_model,
)
from geoforest.models.wandb_client import (
    MODEL_TYPE,
    connect,
    is_offline,
    model_artifact,
    one_sentence,
    run_settings,
    silence_wandb,
)

if TYPE_CHECKING:
    import wandb

# What a state dict that the reference system published ends with.
_PUBLISHED_SUFFIX = "_weights.pt"


class WandbRegistry:
    """A :class:`~geoforest.models.references.Registry` in a project of Weights & Biases.

    Parameters
    ----------
    project
        ``ENTITY/PROJECT``; a registry of an organisation is ``ORGANISATION/wandb-registry-NAME``.

    Raises
    ------
    InputError
        When it is no such path, or wandb is not installed.
    """

    def __init__(self, project: str) -> None:
        self.entity, separator, self.project = project.partition("/")
        if not separator or not all(map(_is_plain, (self.entity, self.project))):
            raise InputError(f"wandb:{project}: wandb:ENTITY/PROJECT was wanted")
        silence_wandb()

    def push(
        self,
        bundle: Bundle,
        name: str,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Store a bundle as a new version, move the aliases to it, and return its reference.

        With ``WANDB_MODE=offline`` it is stored in a run folder, from where ``wandb sync`` sends
        it; the reference is then that of the latest version, and a warning names the folder.

        Parameters
        ----------
        bundle
            To be stored; when a version holds the same files, it gets no new one.
        name
            Of the model.
        aliases
            To be moved to this version, besides ``latest``.
        metadata
            Stored with the version, added to what is essential in the card; plain JSON.

        Raises
        ------
        InputError
            When a name is none, or there is no key.
        RegistryError
            When the server cannot be reached, or refuses.
        """
        import wandb

        moved = checked_aliases(aliases)
        reference = self._reference(checked_name(name), LATEST)
        if not is_offline():
            # A key that is refused shows itself here at once; a run would try again and again.
            connect(reference)
        with one_sentence(reference), tempfile.TemporaryDirectory() as folder:
            run = wandb.init(
                entity=self.entity,
                project=self.project,
                job_type="push",
                mode="offline" if is_offline() else "online",
                dir=None if is_offline() else folder,
                settings=run_settings(),
            )
            with run:
                artifact = model_artifact(run, bundle, name, metadata)
                logged = run.log_artifact(artifact, aliases=moved)
                if not run.offline:
                    return self._reference(name, logged.wait().version)
        warnings.warn(
            f"{reference}: stored offline; `wandb sync {Path(run.dir).parent}` sends it",
            GeoforestWarning,
            stacklevel=2,
        )
        return reference

    def open(self, model: str) -> Bundle:
        """Open a version; it is downloaded when the cache does not have it.

        An artifact that is no bundle, but one of the reference system's published models, is made
        a bundle.

        Parameters
        ----------
        model
            ``NAME`` or ``NAME:VERSION``.

        Raises
        ------
        BundleError
            When the artifact is not there, or is neither.
        InputError
            When a name is none, there is no key, or wandb is offline.
        RegistryError
            When the server cannot be reached, or refuses.
        """
        reference = self._reference(*split_model(model))
        api = connect(reference)
        with one_sentence(reference):
            artifact = api.artifact(reference.removeprefix("wandb:"))
            found = self._reference(split_model(model)[0], artifact.version)
            key = (api.settings["base_url"], found, artifact.digest)

        def make(folder: Path) -> None:
            with one_sentence(found):
                _make_bundle(artifact, found, folder)

        return cached_bundle(key, make, shown=found)

    def pull(self, model: str, out: str | os.PathLike[str]) -> Bundle:
        """Copy a version into a bundle folder of one's own.

        Raises
        ------
        InputError, RegistryError
            As for :meth:`open`.
        OutputError
            When ``out`` holds something other than a bundle.
        """
        return save_copy(self.open(model), out)

    def entries(self) -> list[Entry]:
        """All versions of all models, by name, oldest first.

        Raises
        ------
        InputError
            When there is no key, or wandb is offline.
        BundleError
            When the project is not there.
        RegistryError
            When the server cannot be reached, or refuses.
        """
        shown = f"wandb:{self.entity}/{self.project}"
        project = shown.removeprefix("wandb:")
        api = connect(shown)
        with one_sentence(shown):
            try:
                kinds = [kind.name for kind in api.artifact_types(project)]
            except ValueError as error:
                raise BundleError(f"{shown}: no such project") from error
            if MODEL_TYPE not in kinds:
                return []
            names = sorted(one.name for one in api.artifact_collections(project, MODEL_TYPE))
            return [
                self._entry(name, artifact)
                for name in names
                for artifact in sorted(
                    api.artifacts(MODEL_TYPE, f"{project}/{name}"),
                    key=lambda artifact: int(artifact.version[1:]),
                )
            ]

    def _entry(self, name: str, artifact: wandb.Artifact) -> Entry:
        return Entry(
            reference=self._reference(name, artifact.version),
            name=name,
            version=artifact.version,
            aliases=tuple(sorted(artifact.aliases)),
            model=str(artifact.metadata.get("model", "")),
            created=artifact.created_at,
            metadata=artifact.metadata,
        )

    def _reference(self, name: str, version: str) -> str:
        return f"wandb:{self.entity}/{self.project}/{name}:{version}"


def _make_bundle(artifact: wandb.Artifact, reference: str, folder: Path) -> None:
    """Download an artifact that is a bundle, or can be made one, into a bundle folder."""
    names = [str(entry.path) for entry in artifact.manifest.entries.values()]
    published = [name for name in names if name.endswith(_PUBLISHED_SUFFIX)]
    is_bundle = {CARD_NAME, WEIGHTS_NAME} <= set(names)
    if not is_bundle and (CARD_NAME in names or len(published) != 1):
        raise BundleError(
            f"{reference}: neither a model bundle nor one published state dict "
            f"(it holds {', '.join(sorted(names)[:5]) or 'nothing'})"
        )
    _refuse_elsewhere(artifact, reference)
    if is_bundle:
        artifact.download(root=str(folder), skip_cache=True)
        artifact.verify(root=str(folder))
        return
    from geoforest.models.published import import_published

    download = folder.with_name("download")
    artifact.download(root=str(download), skip_cache=True)
    artifact.verify(root=str(download))
    import_published(
        download / published[0],
        folder,
        name=artifact.name.partition(":")[0],
        reference=reference,
        digest=artifact.digest,
    )


def _refuse_elsewhere(artifact: wandb.Artifact, reference: str) -> None:
    """Let no artifact name files of this machine, or of another server, or write outside."""
    for entry in artifact.manifest.entries.values():
        path = PurePosixPath(entry.path)
        if entry.ref is not None or path.is_absolute() or ".." in path.parts:
            raise BundleError(f"{reference}: {entry.path} is not stored in the artifact")


def _is_plain(name: str) -> bool:
    return bool(name) and not set(name) & set("/:?#")
