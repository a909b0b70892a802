"""A model bundle: ``model.safetensors`` and ``model.json`` in a folder or a zip file.

Nothing in a bundle is ever executed: weights are safetensors, the card is JSON. A pickle is
refused, whatever its name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geoforest.errors import BundleError, OutputError

if TYPE_CHECKING:
    import torch

FORMAT_VERSION: Final = 1
WEIGHTS_NAME: Final = "model.safetensors"
CARD_NAME: Final = "model.json"
_PICKLE_SUFFIXES = {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"}
# A U-Net with a large encoder has 150 M parameters: 600 MB in fp32.
_MAX_WEIGHTS_BYTES = 4 << 30
_MAX_CARD_BYTES = 16 << 20


class ThresholdPoint(BaseModel):
    """One row of the precision-recall curve of the forest class."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(ge=0, le=1)
    precision: float
    recall: float
    f1: float


class ModelCard(BaseModel):
    """What a reader of a map must know of the model behind it.

    ``mean`` and ``std`` are in units of ``reflectance_scale``: with the default 1e-4, a mean of
    622.59 is a reflectance of 0.062259.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int = FORMAT_VERSION
    name: str = Field(min_length=1, max_length=200)
    architecture: str = "Unet"
    encoder: str
    in_channels: int = Field(ge=1, le=64)
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reflectance_scale: float = Field(default=1e-4, gt=0)
    gsd_m: float = Field(default=10.0, gt=0)
    processing_level: str = "L2A"
    window: int = Field(default=512, ge=32, multiple_of=32)
    threshold: float = Field(default=0.5, ge=0, le=1)
    threshold_curve: tuple[ThresholdPoint, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict)
    metrics_definition: str = ""
    training_data: str = ""
    license: str = ""
    notes: str = ""
    seed: int | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    created: str = ""
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _lengths_agree(self) -> ModelCard:
        lengths = {len(self.bands), len(self.mean), len(self.std)}
        if lengths != {self.in_channels}:
            raise ValueError("bands, mean and std must have one entry per input channel")
        if len(set(self.bands)) != len(self.bands):
            raise ValueError("a band is named twice")
        if min(self.std) <= 0:
            raise ValueError("std must be positive")
        return self


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. ``weights`` stays on disk or in the zip until it is asked for.

    Attributes
    ----------
    path
        Folder or zip file.
    card
        The checked model card.
    sha256
        Hash of the weights file: together with the card's numbers, the identity of the model.
    """

    path: Path
    card: ModelCard
    sha256: str

    @property
    def model_id(self) -> str:
        """Name and the first twelve hex digits of the weights' hash."""
        return f"{self.card.name}@{self.sha256[:12]}"

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Weights by name, as stored (fp16 weights stay fp16), on the CPU.

        Raises
        ------
        BundleError
            When the weights are truncated, no safetensors, or changed since the bundle was opened.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        data = _read_member(self.path, WEIGHTS_NAME, _MAX_WEIGHTS_BYTES)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise BundleError(f"{self.path}: {WEIGHTS_NAME} changed while it was in use")
        try:
            return load(data)
        except SafetensorError as error:
            raise BundleError(
                f"{self.path}: {WEIGHTS_NAME} is damaged or no safetensors file ({error})"
            ) from error


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open and check a bundle without loading its weights into torch.

    Raises
    ------
    BundleError
        When a part is missing, damaged, unsafe, or of another format version.
    """
    path = Path(path)
    if not path.exists():
        raise BundleError(f"{path}: no such model bundle")
    _refuse_pickles(path)
    card = _parse_card(path, _read_member(path, CARD_NAME, _MAX_CARD_BYTES))
    weights = _read_member(path, WEIGHTS_NAME, _MAX_WEIGHTS_BYTES)
    _check_safetensors_header(path, weights)
    return Bundle(path=path, card=card, sha256=hashlib.sha256(weights).hexdigest())


def save_bundle(
    path: str | os.PathLike[str], state_dict: dict[str, torch.Tensor], card: ModelCard
) -> Bundle:
    """Write a bundle folder in one step: a reader sees all of it or nothing.

    Parameters
    ----------
    path
        Folder to make. A bundle that is there already is replaced, anything else is refused.
    state_dict
        Tensors by name; they are stored in the dtype they have.
    card
        The model card.

    Raises
    ------
    OutputError
        When ``path`` holds something other than a bundle.
    """
    from safetensors.torch import save

    path = Path(path)
    if path.exists() and not (path / CARD_NAME).is_file():
        raise OutputError(f"{path}: exists and is no model bundle; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
        (partial / WEIGHTS_NAME).write_bytes(save(tensors))
        (partial / CARD_NAME).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load_bundle(path)


def _parse_card(path: Path, data: bytes) -> ModelCard:
    import json

    try:
        raw = json.loads(data)
    except ValueError as error:
        raise BundleError(f"{path}: {CARD_NAME} is no JSON ({error})") from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path}: bundle format version {version!r}, this geoforest reads {FORMAT_VERSION}"
        )
    try:
        return ModelCard.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "card"
        raise BundleError(f"{path}: {CARD_NAME}: {where}: {first['msg']}") from error


def _refuse_pickles(path: Path) -> None:
    if path.is_dir():
        names = [item.name for item in path.iterdir()]
    elif zipfile.is_zipfile(path) and path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    else:
        names = [path.name]
        if path.suffix.lower() not in _PICKLE_SUFFIXES:
            raise BundleError(f"{path}: is no model bundle (a folder or .zip was wanted)")
    pickles = sorted(name for name in names if Path(name).suffix.lower() in _PICKLE_SUFFIXES)
    if pickles:
        raise BundleError(
            f"{path}: holds {pickles[0]}, a pickle, which could run code and is not loaded; "
            "`geoforest model import` turns a state dict into a bundle safely"
        )


def _read_member(path: Path, name: str, limit: int) -> bytes:
    """Bytes of one member of a folder or zip; names in a zip are matched, never extracted."""
    try:
        if path.is_dir():
            member = path / name
            if member.stat().st_size > limit:
                raise BundleError(f"{path}: {name} has more than {limit} bytes")
            return member.read_bytes()
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(name)
            if info.file_size > limit:
                raise BundleError(f"{path}: {name} has more than {limit} bytes")
            with archive.open(info) as stream:
                # The declared size may lie: never inflate past it.
                data = stream.read(info.file_size + 1)
            if len(data) != info.file_size:
                raise BundleError(f"{path}: {name} does not have its declared size")
            return data
    except (FileNotFoundError, KeyError) as error:
        raise BundleError(f"{path}: {name} is missing") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: {name} cannot be read ({error})") from error


def _check_safetensors_header(path: Path, data: bytes) -> None:
    """Find truncation and foreign formats before a job starts, without torch."""
    import json

    if data[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"):
        raise BundleError(f"{path}: {WEIGHTS_NAME} is a pickle in disguise and is not loaded")
    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        end = max(v["data_offsets"][1] for k, v in header.items() if k != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: {WEIGHTS_NAME} is no safetensors file") from error
    if len(data) != 8 + size + end:
        raise BundleError(
            f"{path}: {WEIGHTS_NAME} is truncated ({len(data)} of {8 + size + end} bytes)"
        )
