"""Work folder of a training, with the checkpoints from which a killed run resumes."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from geoforest.io.locks import exclusive_lock
from geoforest.io.storage import read_json, writable, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from geoforest.train.chips import Chip
    from geoforest.train.settings import TrainSettings

_JOB_NAME: Final = "job.json"


def training_identity(
    settings: TrainSettings, chips: Mapping[str, Sequence[Chip]]
) -> dict[str, Any]:
    """Return all that determines the weights: settings, digests of initial weights and chips."""
    values = settings.model_dump(mode="json")
    return {
        "settings": {name: setting_effect(name, value) for name, value in values.items()},
        "chips": {split: chips_digest(items) for split, items in chips.items()},
    }


def setting_effect(setting: str, value: Any) -> Any:
    """Return what the value of a setting means for the trained weights.

    A file of weights is replaced by the digest of its content, so that it may move; a setting that
    changes no weight becomes None.
    """
    if setting == "encoder_weights" and isinstance(value, str):
        return weights_digest(value)
    return None if setting == "workers" else value


@contextmanager
def open_training(out: Path, identity: Mapping[str, Any]) -> Iterator[Path]:
    """Lock and yield the work folder beside a bundle that a training will create.

    Checkpoints of the same training are kept, those of another are removed. The folder is deleted
    after success, and after a failure before the first checkpoint.

    Parameters
    ----------
    out
        Folder of the bundle.
    identity
        Identity of the training; see :func:`training_identity`.

    Raises
    ------
    OutputError
        When the folder cannot be written to, or another run is training here.
    """
    folder = out.with_name(f".{out.name}.training")
    with writable(out):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lock").touch()
    with exclusive_lock(folder):
        if read_json(folder / _JOB_NAME) != identity:
            for item in folder.iterdir():
                if item.name != "lock":
                    shutil.rmtree(item) if item.is_dir() else item.unlink()
            write_json(folder / _JOB_NAME, dict(identity))
        try:
            yield folder
        except BaseException:
            if not any(folder.glob("*.ckpt")):
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


def weights_digest(weights: str | None) -> str | None:
    """Return the SHA-256 of a file of weights; ``imagenet`` and None are returned unchanged."""
    if weights in (None, "imagenet") or not Path(weights).is_file():
        return weights
    with Path(weights).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def chips_digest(chips: Sequence[Chip]) -> str:
    """Return the SHA-256 of names, pixels and labels of chips."""
    digest = hashlib.sha256()
    for chip in chips:
        digest.update(f"{chip.name}\0{chip.dn.shape}{chip.dn.dtype}\0".encode())
        digest.update(chip.dn.tobytes())
        digest.update(chip.mask.tobytes())
        digest.update(chip.observed.tobytes())
    return digest.hexdigest()
