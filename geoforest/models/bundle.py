"""A model bundle: ``model.safetensors`` and ``model.json`` in a folder or a zip file.

Nothing in a bundle is ever executed: weights are safetensors, the card is JSON. A pickle is
refused under any file name.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geoforest.arrays.reflectance import fold_normalisation
from geoforest.errors import BundleError
from geoforest.io.publication import new_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from geoforest.types import Factor

Architecture = Literal["Unet", "UnetFullResolution"]
Encoder = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=100)]
"""Name of an encoder in smp, without ``:`` and ``/``, which would load from hubs and folders."""

FORMAT_VERSION: Final = 1
WEIGHTS_NAME: Final = "model.safetensors"
CARD_NAME: Final = "model.json"
_PICKLE_SUFFIXES = {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"}
# A U-Net with a large encoder has 150 M parameters: 600 MB in fp32.
_MAX_WEIGHTS_BYTES = 4 << 30
_MAX_CARD_BYTES = 16 << 20
# A plain name that is not hidden: names in a zip may also point outside the folder.
_EXTRA_NAME = re.compile(r"[\w-][\w .-]*")
_MAX_EXTRA_BYTES = 16 << 20
# Limits of the safetensors format.
_PREFIX_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
_CHUNK_BYTES = 1 << 20


class ThresholdPoint(BaseModel):
    """One row of the precision-recall curve of the forest class."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(ge=0, le=1)
    precision: float
    recall: float
    f1: float


class ModelCard(BaseModel):
    """Describe a model: its input, threshold, scores and origin.

    ``mean`` and ``std`` are in units of ``reflectance_scale``: with the default 1e-4, a mean of
    622.59 is a reflectance of 0.062259. ``probability = sigmoid(logit / temperature)``; a pixel is
    forest where it is at least ``threshold``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format_version: int = FORMAT_VERSION
    name: str = Field(min_length=1, max_length=200)
    architecture: str = "Unet"
    encoder: Encoder
    in_channels: int = Field(ge=1, le=64)
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reflectance_scale: float = Field(default=1e-4, gt=0)
    gsd_m: float = Field(default=10.0, gt=0)
    processing_level: str = "L2A"
    window: int = Field(default=512, ge=32, le=8192, multiple_of=32)
    temperature: float = Field(default=1.0, gt=0)
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

    def folded(
        self, scale: Factor, offset: Factor
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the gain and bias of each band, float32 ``(band,)``, that normalise raw numbers.

        Reflectance is ``dn * scale + offset``; see
        :func:`geoforest.arrays.reflectance.fold_normalisation`.
        """
        return fold_normalisation(
            mean=self.mean,
            std=self.std,
            reflectance_scale=self.reflectance_scale,
            scale=scale,
            offset=offset,
        )


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; :meth:`state_dict` reads the weights when it is called.

    Attributes
    ----------
    path
        Folder or zip file.
    card
        The checked model card.
    sha256
        Hash of the weights file. Together with the card's numbers it identifies the model.
    """

    path: Path
    card: ModelCard
    sha256: str

    @property
    def model_id(self) -> str:
        """Name and the first twelve hex digits of the weights' hash."""
        return f"{self.card.name}@{self.sha256[:12]}"

    @property
    def weights_mb(self) -> float:
        """Size of the weights file, or of the zip that holds it, MB."""
        file = self.path / WEIGHTS_NAME if self.path.is_dir() else self.path
        return file.stat().st_size / 1e6

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and bytes of the weights, the card and the files beside them.

        Files beside them, such as a licence, are included up to 16 MB each; folders are not.

        Raises
        ------
        BundleError
            When the bundle can no longer be read.
        """
        with _zip_errors(self.path):
            if self.path.is_dir():
                for item in self.path.iterdir():
                    if item.is_file() and _is_bundle_file(item.name, item.stat().st_size):
                        yield item.name, item.read_bytes()
                return
            with zipfile.ZipFile(self.path) as archive:
                top = _top_folder(self.path, archive.namelist())
                for info in archive.infolist():
                    name = info.filename.removeprefix(top)
                    if info.filename.startswith(top) and _is_bundle_file(name, info.file_size):
                        yield name, archive.read(info)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Load the weights by name, on the CPU, in the dtype that is stored.

        Raises
        ------
        BundleError
            When the weights are truncated, not safetensors, or changed since the bundle was opened.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        with _opened(self.path, WEIGHTS_NAME, _MAX_WEIGHTS_BYTES) as (stream, _):
            data = stream.read()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise BundleError(f"{self.path}: {WEIGHTS_NAME} changed while it was in use")
        try:
            return load(data)
        except SafetensorError as error:
            raise BundleError(
                f"{self.path}: {WEIGHTS_NAME} is damaged or no safetensors file ({error})"
            ) from error


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open and check a bundle without loading its weights into memory.

    Raises
    ------
    BundleError
        When a file is missing, damaged or unsafe, or the format version is another one.
    """
    path = Path(path)
    if not path.exists():
        raise BundleError(f"{path}: no such model bundle")
    _refuse_pickles(path)
    with _opened(path, CARD_NAME, _MAX_CARD_BYTES) as (stream, _):
        card = _parse_card(path, stream.read())
    with _opened(path, WEIGHTS_NAME, _MAX_WEIGHTS_BYTES) as (stream, size):
        sha256 = _checked_weights(path, stream, size)
    return Bundle(path=path, card=card, sha256=sha256)


def save_bundle(
    path: str | os.PathLike[str], state_dict: dict[str, torch.Tensor], card: ModelCard
) -> Bundle:
    """Write a bundle folder atomically: a reader sees all of it or nothing.

    Parameters
    ----------
    path
        Folder to write. An existing bundle there is replaced, anything else is refused.
    state_dict
        Tensors by name; their dtypes are kept.
    card
        The model card.

    Raises
    ------
    OutputError
        When ``path`` holds something other than a bundle, or cannot be written to.
    """
    from safetensors.torch import save

    path = Path(path)
    with new_folder(path, mark=CARD_NAME, what="model bundle") as folder:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
        (folder / WEIGHTS_NAME).write_bytes(save(tensors))
        (folder / CARD_NAME).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return load_bundle(path)


def _parse_card(path: Path, data: bytes) -> ModelCard:
    raw = _parse_json(data)
    if raw is None:
        raise BundleError(f"{path}: {CARD_NAME} is no JSON object")
    version = raw.get("format_version")
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


def _parse_json(data: bytes) -> dict[str, Any] | None:
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def _is_bundle_file(name: str, size: int) -> bool:
    is_part = name in (WEIGHTS_NAME, CARD_NAME)
    return is_part or (_EXTRA_NAME.fullmatch(name) is not None and size <= _MAX_EXTRA_BYTES)


def _refuse_pickles(path: Path) -> None:
    if path.is_dir():
        with _zip_errors(path):
            names = [item.name for item in path.iterdir()]
    elif path.suffix.lower() == ".zip":
        with _zip_errors(path), zipfile.ZipFile(path) as archive:
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


@contextmanager
def _opened(path: Path, name: str, limit: int) -> Iterator[tuple[IO[bytes], int]]:
    """Open one file of a folder or zip, and yield its stream and its size in bytes."""
    if path.is_dir():
        member = path / name
        if not member.exists():
            raise BundleError(f"{path}: {name} is missing")
        if not member.is_file():
            raise BundleError(f"{path}: {name} is no regular file")
        with _zip_errors(path), member.open("rb") as stream:
            yield stream, _checked_size(path, name, member.stat().st_size, limit)
        return
    with _zip_errors(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        member_name = _top_folder(path, names) + name
        if member_name not in names:
            raise BundleError(f"{path}: {name} is missing")
        info = archive.getinfo(member_name)
        size = _checked_size(path, name, info.file_size, limit)
        with archive.open(info) as stream:
            # zipfile never inflates past the declared size, and checks it and the CRC at the end.
            yield stream, size


def _checked_size(path: Path, name: str, size: int, limit: int) -> int:
    if size > limit:
        raise BundleError(f"{path}: {name} has more than {limit} bytes")
    return size


def _top_folder(path: Path, names: list[str]) -> str:
    """Return the prefix of all names in a zipped bundle: empty, or a folder with ``/``."""
    if CARD_NAME in names:
        return ""
    nested = [name for name in names if name.count("/") == 1 and name.endswith(f"/{CARD_NAME}")]
    if len(nested) != 1:
        raise BundleError(f"{path}: {CARD_NAME} is missing")
    return nested[0].removesuffix(CARD_NAME)


@contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    """Turn every way of failing to read a folder or zip into one BundleError."""
    try:
        yield
    except (
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        RuntimeError,  # the zip is encrypted
        NotImplementedError,  # Python lacks the zip's compression
    ) as error:
        raise BundleError(f"{path}: cannot be read ({error})") from error


def _checked_weights(path: Path, stream: IO[bytes], size: int) -> str:
    """Check the format and size of the weights without torch, and return their SHA-256."""
    digest = hashlib.sha256()
    prefix = stream.read(_PREFIX_BYTES)
    digest.update(prefix)
    header_size = int.from_bytes(prefix, "little")
    end = None
    if header_size <= min(_MAX_HEADER_BYTES, size):
        header = stream.read(header_size)
        digest.update(header)
        end = _end_of_tensors(header)
    if end is None:
        pickled = prefix[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")
        kind = "a pickle in disguise and is not loaded" if pickled else "no safetensors file"
        raise BundleError(f"{path}: {WEIGHTS_NAME} is {kind}")
    if size != _PREFIX_BYTES + header_size + end:
        raise BundleError(
            f"{path}: {WEIGHTS_NAME} is truncated "
            f"({size} of {_PREFIX_BYTES + header_size + end} bytes)"
        )
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _end_of_tensors(header: bytes) -> int | None:
    """Return the bytes of all tensors by a safetensors header; None when it is not valid."""
    raw = _parse_json(header)
    if raw is None:
        return None
    try:
        ends = [int(raw[key]["data_offsets"][1]) for key in raw if key != "__metadata__"]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return max(ends, default=None)
