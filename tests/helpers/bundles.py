"""Bundles for tests that move them about and never predict with them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

from geoforest.models.bundle import Bundle, save_bundle
from tests.helpers import synthetic


def small_bundle(folder: Path, threshold: float = 0.5) -> Bundle:
    """One weight, and a card."""
    card = synthetic.card().model_copy(update={"threshold": threshold})
    return save_bundle(folder, {"a": torch.zeros(1)}, card)


def same(one: Bundle, another: Bundle) -> bool:
    """Whether two bundles are the same model."""
    return (one.sha256, one.card) == (another.sha256, another.card)


def zipped(folder: Path, target: Path, *, inside: str = "") -> Path:
    """Zip the files of a folder; their names begin with ``inside``."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, inside + path.name)
    return target
