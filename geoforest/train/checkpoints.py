"""Checkpoints of a training on disk: whole or not there, each with the one before it."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from lightning_fabric.plugins import TorchCheckpointIO

from geoforest.errors import GeoforestWarning, WriteError
from geoforest.io.storage import write_durably

if TYPE_CHECKING:
    from collections.abc import Sequence

LAST_NAME: Final = "last.ckpt"
BEST_NAME: Final = "best.ckpt"


class CheckpointFiles(TorchCheckpointIO):
    """Writer of checkpoints: beside their place, flushed, then renamed; the one before is kept.

    Lightning's own are made in the system's folder of temporary files and moved, which is a copy
    where that is another file system.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ARG002 - Lightning's interface
    ) -> None:
        """Write a checkpoint.

        Raises
        ------
        WriteError
            When the disk is full or cannot be written to. The one before is untouched.
        """
        path, content = Path(path), io.BytesIO()
        torch.save(checkpoint, content)
        new = path.with_name(f"{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(new, content.getvalue())
            if path.exists():
                path.replace(_before(path))
            new.replace(path)
        except OSError as error:
            raise WriteError(
                f"{path}: cannot be written ({error.strerror or error}); the same command goes on "
                "from the last whole checkpoint"
            ) from error


def has_checkpoint(folder: Path) -> bool:
    """Return whether a folder has a checkpoint to resume from, whole or not."""
    return any(path.exists() for path in _both(folder / LAST_NAME))


def recover(folder: Path, history_key: str) -> None:
    """Make a folder ready to resume: replace damaged checkpoints by the ones before them.

    Parameters
    ----------
    folder
        Folder of the checkpoints. Without a whole pair of last and best one it is emptied of them,
        and a warning says so.
    history_key
        Key of the callback that holds the epochs.
    """
    had = has_checkpoint(folder)
    for last in _both(folder / LAST_NAME):
        epochs = _epochs(last, history_key)
        if not epochs:
            continue
        best = _best_of(folder, epochs)
        if best is not None:
            for found, name in ((last, LAST_NAME), (best, BEST_NAME)):
                if found != folder / name:
                    found.replace(folder / name)
            return
    remove_checkpoints(folder)
    if had:
        warnings.warn(
            f"{folder}: its checkpoints are damaged, so the training begins again",
            GeoforestWarning,
            stacklevel=2,
        )


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a folder."""
    for name in (LAST_NAME, BEST_NAME):
        for path in _both(folder / name):
            path.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint; tensors are mapped, so that unused ones are not read."""
    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return loaded


def _best_of(folder: Path, epochs: Sequence[dict[str, Any]]) -> Path | None:
    """Return the whole checkpoint of the best of these epochs, or None."""
    losses = np.array([epoch["val_loss"] for epoch in epochs], np.float64)
    # One that is no number counts as the worst; where all are, none is asked for later.
    wanted = int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))
    for path in _both(folder / BEST_NAME):
        if is_whole(path) and load_checkpoint(path)["epoch"] == wanted:
            return path
    return None


def _epochs(path: Path, history_key: str) -> list[dict[str, Any]]:
    """Return the epochs that a checkpoint tells of; none where it is damaged."""
    if not is_whole(path):
        return []
    callbacks = load_checkpoint(path).get("callbacks", {})
    epochs: list[dict[str, Any]] = callbacks.get(history_key, {}).get("epochs", [])
    return epochs


def is_whole(path: Path) -> bool:
    """Check the checksum of each part of a checkpoint, which is a zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    # A damaged archive can promise what zipfile does not know.
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, NotImplementedError):
        return False


def _both(path: Path) -> tuple[Path, Path]:
    """Return the names of a checkpoint and of the one before it."""
    return path, _before(path)


def _before(path: Path) -> Path:
    return path.with_name(f"{path.stem}-before{path.suffix}")
