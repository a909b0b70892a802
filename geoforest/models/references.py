"""References that name models, and the protocol of a model registry.

A reference is one of:

- ``bundled``: the starter model that ships with the package.
- ``models/mine`` or ``mine.zip``: the path of a bundle folder or zip file.
- ``folder:PATH/NAME:VERSION``: a model in the folder registry at PATH.
- ``wandb:ENTITY/PROJECT/NAME:VERSION``: a model artifact in Weights & Biases.
- ``s3://BUCKET/mine.zip``, ``https://...``: a URL that fsspec opens, of a zip file or of a folder.

VERSION is ``v0``, ``v1`` ... or an alias such as ``best_model``. Without ``:VERSION`` it is
``latest``, the version pushed last. ``folder:PATH`` and ``wandb:ENTITY/PROJECT`` name registries.
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
# Valid as the name of a W&B artifact and as the name of a folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"v(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Entry:
    """One version of a model in a registry.

    Attributes
    ----------
    reference
        Full reference, such as ``folder:models/unet:v0``.
    name, version
        Name of the model in its registry, and the version, such as ``v0``.
    aliases
        Other names of this version, in alphabetical order.
    model
        Name and hash of the weights, as :attr:`Bundle.model_id`; empty when not recorded.
    created
        Time of the push, ISO 8601 in UTC.
    metadata
        Values from the model card, with W&B; empty for a folder.
    """

    reference: str
    name: str
    version: str
    aliases: tuple[str, ...]
    model: str
    created: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Registry(Protocol):
    """Named models in versions that never change, with aliases that can move.

    A model is named ``NAME`` or ``NAME:VERSION``. Methods raise
    :class:`~geoforest.errors.InputError` for mistakes that the user can correct, and
    :class:`~geoforest.errors.RegistryError` for failures of the registry.
    """

    def push(self, bundle: Bundle, name: str, aliases: Sequence[str] = ()) -> str:
        """Store a bundle as a new version, move the aliases to it, and return its reference.

        A bundle that is already stored gets no new version. ``latest`` always moves.
        """
        ...

    def open(self, model: str) -> Bundle:
        """Open a version in the registry or the cache; callers must not change its files."""
        ...

    def entries(self) -> list[Entry]:
        """List all versions of all models, by name, oldest first."""
        ...


def split_reference(reference: str) -> tuple[str, str] | None:
    """Split the reference of a model in a registry.

    Returns
    -------
    tuple of str, or None
        Registry and model, such as ``("folder:models", "unet:v0")``; None for other references.

    Raises
    ------
    InputError
        When ``reference`` names a registry but no model in it.
    """
    kind, _, rest = reference.partition(":")
    if kind not in _REGISTRIES:
        return None
    place, _, model = rest.rpartition("/")
    if not place or not model or (kind == "wandb" and place.count("/") != 1):
        raise InputError(f"{reference}: {_REGISTRIES[kind]} was wanted, or with :VERSION after it")
    return f"{kind}:{place}", model


def join_reference(registry: str, name: str, version: str) -> str:
    """Return the reference of a version: the inverse of :func:`split_reference`."""
    return f"{registry}/{name}:{version}"


def split_model(model: str) -> tuple[str, str]:
    """Split ``NAME:VERSION`` into its checked parts; the default version is ``latest``.

    Raises
    ------
    InputError
        When a part is not a valid name.
    """
    name, separator, version = model.partition(":")
    return checked_name(name), checked_name(version) if separator else LATEST


def checked_name(name: str) -> str:
    """Return ``name`` when it can name both a folder and a W&B artifact.

    Raises
    ------
    InputError
        When it is not a valid name.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r}: no name for a model; letters, digits, '.', '_' and '-' were wanted, "
            "a letter or digit first"
        )
    return name


def checked_aliases(aliases: Sequence[str]) -> list[str]:
    """Return the aliases without repeats, ``latest`` first.

    Raises
    ------
    InputError
        When one is not a valid name, or looks like a version.
    """
    for alias in aliases:
        if is_version(checked_name(alias)):
            raise InputError(f"{alias!r}: no alias, because versions are named so")
    return list(dict.fromkeys((LATEST, *aliases)))


def is_version(name: str) -> bool:
    """Return whether a name is a version, ``v0``, ``v1`` ..., and not an alias."""
    return _VERSION.fullmatch(name) is not None
