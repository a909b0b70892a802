"""A model registry in Weights & Biases: artifacts of type ``model`` in one project."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from geoforest.errors import BundleError, GeoforestWarning, InputError
from geoforest.io.storage import writable
from geoforest.models.bundle import (
    CARD_NAME,
    MAX_BUNDLE_BYTES,
    WEIGHTS_NAME,
    Bundle,
    load_bundle,
)
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
    run_settings,
    silence_wandb,
    wandb_errors,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import wandb

# How the file names of the reference system's published state dicts end.
_PUBLISHED_SUFFIX = "_weights.pt"


class WandbRegistry:
    """A :class:`~geoforest.models.references.Registry` in a Weights & Biases project.

    Parameters
    ----------
    project
        ``ENTITY/PROJECT``, or ``ORGANISATION/wandb-registry-NAME`` for an organisation's registry.

    Raises
    ------
    InputError
        When ``project`` has another form, or wandb is not installed.
    """

    def __init__(self, project: str) -> None:
        self.reference = f"wandb:{project}"
        self.entity, separator, self.project = project.partition("/")
        if not separator or not all(map(_is_plain, (self.entity, self.project))):
            raise InputError(f"{self.reference}: wandb:ENTITY/PROJECT was wanted")
        silence_wandb()

    def push(self, bundle: Bundle, name: str, aliases: Sequence[str] = ()) -> str:
        """Store a bundle as a new version, move the aliases to it, and return its reference.

        With ``WANDB_MODE=offline`` the bundle is stored in a run folder, which ``wandb sync``
        uploads later; a warning names the folder, and the reference is that of ``latest``.

        Parameters
        ----------
        bundle
            The bundle to store. When a version holds the same files, no new one is added.
        name
            Name of the model.
        aliases
            Aliases to move to this version, besides ``latest``.

        Raises
        ------
        InputError
            When the name or an alias is not valid, or the key is missing.
        OutputError
            When the disk is full.
        RegistryError
            When the server cannot be reached, or refuses.
        """
        import wandb

        moved = checked_aliases(aliases)
        reference = join_reference(self.reference, checked_name(name), LATEST)
        if not is_offline():
            # A refused key fails here at once; a run would retry for a long time.
            connect(reference)
        home = Path.cwd() if is_offline() else Path(tempfile.gettempdir())
        with writable(home), wandb_errors(reference), tempfile.TemporaryDirectory() as folder:
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
        """Open a version; download it when the cache does not hold it.

        One of the reference system's published models is converted into a bundle.

        Parameters
        ----------
        model
            ``NAME`` or ``NAME:VERSION``.

        Raises
        ------
        BundleError
            When there is no such artifact, or it is neither a bundle nor a published model.
        InputError
            When a name is not valid, the key is missing, or wandb is offline.
        RegistryError
            When the server cannot be reached, or refuses.
        """
        name, version = split_model(model)
        reference = join_reference(self.reference, name, version)
        api = connect(reference)
        with wandb_errors(reference):
            artifact = api.artifact(reference.removeprefix("wandb:"))
            found = join_reference(self.reference, name, artifact.version)
            key = (api.settings["base_url"], found, artifact.digest)

        def make(folder: Path) -> Bundle:
            with wandb_errors(found):
                return _make_bundle(artifact, found, folder)

        return cached_bundle(key, make, shown=found)

    def entries(self) -> list[Entry]:
        """List all versions of all models, by name, oldest first.

        Raises
        ------
        InputError
            When the key is missing, or wandb is offline.
        BundleError
            When there is no such project.
        RegistryError
            When the server cannot be reached, or refuses.
        """
        project = f"{self.entity}/{self.project}"
        api = connect(self.reference)
        with wandb_errors(self.reference):
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
    """Download an artifact into a bundle folder; a published state dict is converted."""
    names = [str(entry.path) for entry in artifact.manifest.entries.values()]
    published = [name for name in names if name.endswith(_PUBLISHED_SUFFIX)]
    is_bundle = {CARD_NAME, WEIGHTS_NAME} <= set(names)
    if not is_bundle and (CARD_NAME in names or len(published) != 1):
        raise BundleError(
            f"{reference}: neither a model bundle nor one published state dict "
            f"(it holds {', '.join(sorted(names)[:5]) or 'nothing'})"
        )
    _refuse_foreign_files(artifact, reference)
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


def _refuse_foreign_files(artifact: wandb.Artifact, reference: str) -> None:
    """Refuse an artifact with files elsewhere or outside its folder, or larger than a bundle."""
    if sum(entry.size or 0 for entry in artifact.manifest.entries.values()) > MAX_BUNDLE_BYTES:
        raise BundleError(f"{reference}: has more than {MAX_BUNDLE_BYTES} bytes")
    for entry in artifact.manifest.entries.values():
        path = PurePosixPath(entry.path)
        if entry.ref is not None or path.is_absolute() or ".." in path.parts:
            raise BundleError(f"{reference}: {entry.path} is not stored in the artifact")


def _is_plain(name: str) -> bool:
    return bool(name) and not set(name) & set("/:?#")
