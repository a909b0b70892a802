"""How models are named, and what a registry of them can do.

A reference is one of:

- ``bundled``: the starter that ships with the package.
- ``models/mine`` or ``mine.zip``: the path of a bundle folder or zip file.
- ``folder:PATH/NAME:VERSION``: a model in the folder registry at PATH.
- ``wandb:ENTITY/PROJECT/NAME:VERSION``: a model artifact in Weights & Biases.
- ``s3://BUCKET/mine.zip``, ``https://...``: a URL that fsspec opens, of a zip file or of a folder.

VERSION is ``v0``, ``v1`` ... or an alias such as ``best_model``; without ``:VERSION`` it is
``latest``, the last version that was pushed. ``folder:PATH`` and ``wandb:ENTITY/PROJECT`` name
registries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from geoforest.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geoforest.models.bundle import Bundle

BUNDLED: Final = "bundled"
LATEST: Final = "latest"
_REGISTRIES = {"folder": "folder:PATH/NAME", "wandb": "wandb:ENTITY/PROJECT/NAME"}
# Also a W&B artifact's name, and safe as the name of a folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"v(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Entry:
    """One version of a model in a registry.

    Attributes
    ----------
    reference
        In full, such as ``folder:models/unet:v0``.
    name, version
        Of the model in its registry.
    aliases
        Other names of this version, in alphabetical order.
    model
        Name and hash of the weights; empty where the registry does not tell.
    created
        When it was pushed, ISO 8601 in UTC.
    metadata
        What else the registry tells of it; of a folder nothing, of W&B what the card says.
    """

    reference: str
    name: str
    version: str
    aliases: tuple[str, ...]
    model: str
    created: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Registry(Protocol):
    """Models under names, each in versions that never change, with aliases that move.

    A model is named ``NAME`` or ``NAME:VERSION``. What a user can cause is an
    :class:`~geoforest.errors.InputError`, what is not their doing a :class:`RegistryError`.
    """

    def push(self, bundle: Bundle, name: str, aliases: Sequence[str] = ()) -> str:
        """Store a bundle as a new version, move the aliases to it, and return its reference.

        A bundle that is there already gets no new version. ``latest`` moves always.
        """
        ...

    def open(self, model: str) -> Bundle:
        """Open a version where the registry or the cache has it; not to be changed there."""
        ...

    def entries(self) -> list[Entry]:
        """All versions of all models, by name, oldest first."""
        ...


def split_reference(reference: str) -> tuple[str, str] | None:
    """Split the reference of a model in a registry.

    Returns
    -------
    tuple of str, or None
        Registry and model, ``("folder:models", "unet:v0")``; None for other references.

    Raises
    ------
    InputError
        When it names a registry but no model in it.
    """
    kind, _, rest = reference.partition(":")
    if kind not in _REGISTRIES:
        return None
    place, _, model = rest.rpartition("/")
    if not place or not model or (kind == "wandb" and place.count("/") != 1):
        raise InputError(f"{reference}: {_REGISTRIES[kind]} was wanted, or with :VERSION after it")
    return f"{kind}:{place}", model


def join_reference(registry: str, name: str, version: str) -> str:
    """Give the reference of a version: what :func:`split_reference` takes apart."""
    return f"{registry}/{name}:{version}"


def split_model(model: str) -> tuple[str, str]:
    """Split ``NAME:VERSION`` into its checked parts; without a version it is the latest.

    Raises
    ------
    InputError
        When a part has characters that have no place in a name.
    """
    name, separator, version = model.partition(":")
    return checked_name(name), checked_name(version) if separator else LATEST


def checked_name(name: str) -> str:
    """Return a name that can be one folder and one W&B artifact, whatever was given.

    Raises
    ------
    InputError
        When it cannot.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r}: no name for a model; letters, digits, '.', '_' and '-' were wanted, "
            "a letter or digit first"
        )
    return name


def checked_aliases(aliases: Sequence[str]) -> list[str]:
    """Aliases without repeats, ``latest`` first.

    Raises
    ------
    InputError
        When one is no name, or would be taken for a version.
    """
    for alias in aliases:
        if is_version(checked_name(alias)):
            raise InputError(f"{alias!r}: no alias, because versions are named so")
    return list(dict.fromkeys((LATEST, *aliases)))


def is_version(name: str) -> bool:
    """Whether a name is that of a version, ``v0``, ``v1`` ..., and no alias."""
    return _VERSION.fullmatch(name) is not None
