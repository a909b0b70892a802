"""Open and push models by reference.

:mod:`geoforest.models.references` lists the forms of a reference.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from geoforest.errors import InputError
from geoforest.models.bundle import Bundle, load_bundle
from geoforest.models.references import BUNDLED, Registry, checked_name, split_reference

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from geoforest.models.torch_runtime import TorchPredictor

__all__ = ["BUNDLED", "bundled_path", "load_model", "open_model", "open_registry", "push_model"]


def bundled_path() -> Path:
    """Return the folder of the starter bundle that ships with the package."""
    return Path(str(files("geoforest") / "models" / "bundled" / "starter"))


def open_model(reference: str | os.PathLike[str] = BUNDLED) -> Bundle:
    """Open the bundle that a reference names; remote bundles are downloaded into a cache.

    Parameters
    ----------
    reference
        ``"bundled"``, the path of a bundle folder or zip file, ``"folder:PATH/NAME:VERSION"``,
        ``"wandb:ENTITY/PROJECT/NAME:VERSION"``, or a URL; see
        :mod:`geoforest.models.references`.

    Raises
    ------
    InputError
        When there is no valid bundle, or the reference is not valid.
    RegistryError
        When the bundle cannot be fetched.
    """
    if isinstance(reference, str):
        if reference == BUNDLED:
            return load_bundle(bundled_path())
        if "://" in reference:
            from geoforest.models.download import fetch_bundle

            return fetch_bundle(reference)
        named = split_reference(reference)
        if named is not None:
            registry, model = named
            return open_registry(registry).open(model)
    return load_bundle(reference)


def open_registry(reference: str) -> Registry:
    """Open a model registry, without reading anything yet.

    Parameters
    ----------
    reference
        ``"folder:PATH"`` or ``"wandb:ENTITY/PROJECT"``.

    Raises
    ------
    InputError
        When the reference has another form, or wandb is needed and not installed.

    Examples
    --------
    >>> registry = open_registry("folder:models")
    >>> registry.open("unet:best_model")  # doctest: +SKIP
    """
    kind, _, place = reference.partition(":")
    if kind == "folder" and place:
        from geoforest.models.folder_registry import FolderRegistry

        return FolderRegistry(place)
    if kind == "wandb" and place:
        from geoforest.models.wandb_registry import WandbRegistry

        return WandbRegistry(place)
    raise InputError(f"{reference}: folder:PATH or wandb:ENTITY/PROJECT was wanted")


def push_model(bundle: Bundle, reference: str, aliases: Sequence[str] = ()) -> str:
    """Store a bundle in a registry as a new version of a model.

    Parameters
    ----------
    bundle
        The bundle to store, a folder or a zip file.
    reference
        ``"folder:PATH/NAME"`` or ``"wandb:ENTITY/PROJECT/NAME"``, without a version.
    aliases
        Aliases to move to this version, besides ``latest``.

    Returns
    -------
    str
        Reference of the new version.

    Raises
    ------
    InputError
        When the reference is not valid, or the W&B key is missing.
    RegistryError
        When the server cannot be reached, or refuses.
    """
    registry, name = open_push_registry(reference)
    return registry.push(bundle, name, aliases)


def open_push_registry(reference: str) -> tuple[Registry, str]:
    """Open the registry of a reference to push to, and return it with the model's name.

    Raises
    ------
    InputError
        When ``reference`` does not name a model in a registry, or has a version.
    """
    named = split_reference(reference)
    if named is None:
        raise InputError(f"{reference}: folder:PATH/NAME or wandb:ENTITY/PROJECT/NAME was wanted")
    registry, name = named
    return open_registry(registry), checked_name(name)


def load_model(
    reference: str | os.PathLike[str] = BUNDLED, *, device: str = "auto"
) -> TorchPredictor:
    """Load a model as a predictor that can be called from Python.

    Parameters
    ----------
    reference
        As for :func:`open_model`.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ...

    Returns
    -------
    TorchPredictor
        Call it with raw numbers ``(n, band, row, col)``; read ``.card`` for bands and threshold.

    Raises
    ------
    InputError
        When there is no valid bundle, or the reference or device is not valid.
    RegistryError
        When the bundle cannot be fetched.

    Examples
    --------
    >>> import geoforest, numpy as np
    >>> predictor = geoforest.load_model("bundled", device="cpu")
    >>> dn = np.full((1, 4, 64, 64), 500, np.uint16)
    >>> predictor(dn, scale=1e-4).shape
    (1, 64, 64)
    """
    from geoforest.models.torch_runtime import TorchPredictor, best_device

    bundle = open_model(reference)
    return TorchPredictor(bundle, device=best_device() if device == "auto" else device)
