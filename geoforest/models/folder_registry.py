"""A model registry in a folder: versions that never change, and a file with their aliases.

``NAME/v0`` is a bundle, ``NAME/v0.json`` records its hashes and when it was pushed, and
``NAME/aliases.json`` holds the version of each alias.
"""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from geoforest.errors import BundleError
from geoforest.io.locks import exclusive_lock
from geoforest.io.storage import read_json, writable, write_json
from geoforest.models.bundle import CARD_NAME, Bundle, load_bundle
from geoforest.models.copies import copy_bundle
from geoforest.models.references import (
    Entry,
    checked_aliases,
    checked_name,
    is_version,
    join_reference,
    split_model,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

ALIASES_NAME: Final = "aliases.json"
_RECORDED: Final = {"model", "weights_sha256", "card_sha256", "created"}


class FolderRegistry:
    """A :class:`~geoforest.models.references.Registry` in a local or shared folder.

    Pushes wait for each other. Readers never wait, and see each version whole or not at all.

    Parameters
    ----------
    root
        The folder; the first push creates it.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.reference = f"folder:{self.root}"

    def push(self, bundle: Bundle, name: str, aliases: Sequence[str] = ()) -> str:
        """Store a bundle as a new version, move the aliases to it, and return its reference.

        Parameters
        ----------
        bundle
            The bundle to store. When a version has the same weights and card, no new one is added.
        name
            Name of the model.
        aliases
            Aliases to move to this version, besides ``latest``.

        Raises
        ------
        InputError
            When the name or an alias is not valid.
        BundleError
            When the file of aliases is damaged.
        OutputError
            When the folder cannot be written to.
        """
        moved = checked_aliases(aliases)
        folder = self.root / checked_name(name)
        with writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with exclusive_lock(folder, wait=True):
                before = _aliases(folder)
                version = _find_version(folder, bundle) or _add_version(folder, bundle)
                write_json(folder / ALIASES_NAME, {**before, **dict.fromkeys(moved, version)})
        return join_reference(self.reference, name, version)

    def open(self, model: str) -> Bundle:
        """Open a version in place.

        Parameters
        ----------
        model
            ``NAME`` or ``NAME:VERSION``.

        Raises
        ------
        BundleError
            When there is no such version, or it changed since it was pushed.
        """
        name, version = split_model(model)
        folder = self.root / name
        if not is_version(version):
            version = _aliases(folder).get(version, version)
        if version not in _versions(folder):
            known = ", ".join([*_versions(folder), *sorted(_aliases(folder))])
            reference = join_reference(self.reference, name, version)
            raise BundleError(f"{reference}: not there; known: {known or 'none'}")
        bundle = load_bundle(folder / version)
        record = _record(folder / version)
        if bundle.sha256 != record["weights_sha256"]:
            raise BundleError(f"{bundle.path}: the weights are not those that were pushed")
        if _card_hash(bundle.path) != record["card_sha256"]:
            raise BundleError(f"{bundle.path}: the card is not the one that was pushed")
        return bundle

    def entries(self) -> list[Entry]:
        """List all versions of all models, by name, oldest first.

        Raises
        ------
        BundleError
            When the folder does not exist, or a file in it is damaged.
        """
        if not self.root.is_dir():
            raise BundleError(f"{self.root}: no such model registry")
        return [
            self._entry(folder, version, aliases)
            for folder in sorted(path for path in self.root.iterdir() if path.is_dir())
            for aliases in [_aliases(folder)]
            for version in _versions(folder)
        ]

    def _entry(self, folder: Path, version: str, aliases: Mapping[str, str]) -> Entry:
        record = _record(folder / version)
        return Entry(
            reference=join_reference(self.reference, folder.name, version),
            name=folder.name,
            version=version,
            aliases=tuple(sorted(name for name, target in aliases.items() if target == version)),
            model=record["model"],
            created=record["created"],
        )


def _find_version(folder: Path, bundle: Bundle) -> str | None:
    """Return the version that already holds this bundle, or None."""
    for version in _versions(folder):
        if _record(folder / version)["weights_sha256"] == bundle.sha256:
            stored = load_bundle(folder / version)
            if (stored.sha256, stored.card) == (bundle.sha256, bundle.card):
                return version
    return None


def _add_version(folder: Path, bundle: Bundle) -> str:
    versions = _versions(folder)
    version = f"v{int(versions[-1][1:]) + 1}" if versions else "v0"
    partial = folder / ".partial"
    # A killed push may have left it behind.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        copy_bundle(bundle, partial)
        record = {
            "model": bundle.model_id,
            "weights_sha256": bundle.sha256,
            "card_sha256": _card_hash(partial),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(_record_path(folder / version), record)
        partial.rename(folder / version)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return version


def _card_hash(folder: Path) -> str:
    return hashlib.sha256((folder / CARD_NAME).read_bytes()).hexdigest()


def _versions(folder: Path) -> list[str]:
    """List the versions of a model, oldest first."""
    if not folder.is_dir():
        return []
    names = [path.name for path in folder.iterdir() if is_version(path.name)]
    return sorted(names, key=lambda name: int(name[1:]))


def _record(folder: Path) -> dict[str, Any]:
    path = _record_path(folder)
    record = read_json(path)
    if record is None or not record.keys() >= _RECORDED:
        raise BundleError(f"{path}: missing or damaged")
    return record


def _record_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _aliases(folder: Path) -> dict[str, str]:
    path = folder / ALIASES_NAME
    if not path.exists():
        return {}
    aliases = read_json(path)
    if aliases is None or not all(
        isinstance(version, str) and is_version(version) for version in aliases.values()
    ):
        raise BundleError(
            f"{path}: damaged; the versions beside it are not: use one by its number, and push "
            "again after deleting this file"
        )
    return aliases
