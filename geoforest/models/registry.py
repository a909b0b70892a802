"""Where models come from: a reference is turned into an opened bundle."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from geoforest.errors import BundleError
from geoforest.models.bundle import Bundle, load_bundle

if TYPE_CHECKING:
    from geoforest.models.torch_runtime import TorchPredictor

BUNDLED = "bundled"


def bundled_path() -> Path:
    """Folder of the starter bundle that ships with the package."""
    return Path(str(files("geoforest") / "bundled" / "starter"))


def open_model(reference: str | os.PathLike[str] = BUNDLED) -> Bundle:
    """Open the bundle a reference names.

    Parameters
    ----------
    reference
        ``"bundled"``, or the path of a bundle folder or zip file.

    Raises
    ------
    BundleError
        When nothing usable is there.
    """
    if isinstance(reference, str):
        if reference == BUNDLED:
            return load_bundle(bundled_path())
        scheme, separator, _ = reference.partition(":")
        if separator and len(scheme) > 1 and not Path(reference).exists():
            raise BundleError(
                f"{reference}: references of kind {scheme!r} are not supported yet; "
                "give `bundled`, a bundle folder or a .zip"
            )
    return load_bundle(reference)


def load_model(
    reference: str | os.PathLike[str] = BUNDLED, *, device: str = "auto"
) -> TorchPredictor:
    """Load a model for use in a program of one's own.

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
    BundleError
        When nothing usable is there.

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
