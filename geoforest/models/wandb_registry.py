"""A model registry in Weights & Biases: artifacts of type ``model`` in one project."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from geoforest.errors import BundleError, GeoforestWarning, InputError
from geoforest.io.storage import writable
from geoforest.models.bundle import CARD_NAME, WEIGHTS_NAME, Bundle, load_bundle
from geoforest.models.copies import cached_bundle
from geoforest.models.references import (
    LATEST,
    Entry,
    checked_aliases,
    checked_name,
    join_reference,
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
    from collections.abc import Sequence

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
        self.reference = f"wandb:{project}"
        self.entity, separator, self.project = project.partition("/")
        if not separator or not all(map(_is_plain, (self.entity, self.project))):
            raise InputError(f"{self.reference}: wandb:ENTITY/PROJECT was wanted")
        silence_wandb()

    def push(self, bundle: Bundle, name: str, aliases: Sequence[str] = ()) -> str:
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

        Raises
        ------
        InputError
            When a name is none, or there is no key.
        OutputError
            When the disk is full.
        RegistryError
            When the server cannot be reached, or refuses.
        """
        import wandb

        moved = checked_aliases(aliases)
        reference = join_reference(self.reference, checked_name(name), LATEST)
        if not is_offline():
            # A key that is refused shows itself here at once; a run would try again and again.
            connect(reference)
        home = Path.cwd() if is_offline() else Path(tempfile.gettempdir())
        with writable(home), one_sentence(reference), tempfile.TemporaryDirectory() as folder:
            run = wandb.init(
                entity=self.entity,
                project=self.project,
                job_type="push",
                mode="offline" if is_offline() else "online",
                dir=None if is_offline() else folder,
                settings=run_settings(),
            )
            with run:
                artifact = model_artifact(run, bundle, name)
                logged = run.log_artifact(artifact, aliases=moved)
                if not run.offline:
                    return join_reference(self.reference, name, logged.wait().version)
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
        name, version = split_model(model)
        reference = join_reference(self.reference, name, version)
        api = connect(reference)
        with one_sentence(reference):
            artifact = api.artifact(reference.removeprefix("wandb:"))
            found = join_reference(self.reference, name, artifact.version)
            key = (api.settings["base_url"], found, artifact.digest)

        def make(folder: Path) -> Bundle:
            with one_sentence(found):
                return _make_bundle(artifact, found, folder)

        return cached_bundle(key, make, shown=found)

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
        project = f"{self.entity}/{self.project}"
        api = connect(self.reference)
        with one_sentence(self.reference):
            try:
                kinds = [kind.name for kind in api.artifact_types(project)]
            except ValueError as error:
                raise BundleError(f"{self.reference}: no such project") from error
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
            reference=join_reference(self.reference, name, artifact.version),
            name=name,
            version=artifact.version,
            aliases=tuple(sorted(artifact.aliases)),
            model=str(artifact.metadata.get("model", "")),
            created=artifact.created_at,
            metadata=artifact.metadata,
        )


def _make_bundle(artifact: wandb.Artifact, reference: str, folder: Path) -> Bundle:
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
        return load_bundle(folder)
    from geoforest.models.published import import_published

    download = folder.with_name("download")
    artifact.download(root=str(download), skip_cache=True)
    artifact.verify(root=str(download))
    return import_published(
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
