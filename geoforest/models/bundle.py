"""A model bundle: ``model.safetensors`` and ``model.json`` in a folder or a zip file.

Nothing in a bundle is ever executed: weights are safetensors, the card is JSON. A pickle is
refused under any file name.
"""

from __future__ import annotations

import hashlib
import lzma
import math
import os
import re
import stat
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geoforest.arrays.reflectance import fold_normalisation
from geoforest.errors import BundleError
from geoforest.io.publication import new_folder
from geoforest.models.architectures import Encoder
from geoforest.models.weights import (
    PREFIX_BYTES,
    Header,
    Shapes,
    layout_fault,
    parse_object,
    read_header,
    read_numbers,
    shape_fault,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from geoforest.types import Factor

FORMAT_VERSION: Final = 1
WEIGHTS_NAME: Final = "model.safetensors"
CARD_NAME: Final = "model.json"
_PICKLE_SUFFIXES = {".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt"}
# A U-Net with a large encoder has 150 M parameters: 600 MB in fp32.
MAX_WEIGHTS_BYTES: Final = 4 << 30
# Larger weights are compared with the card's architecture before they are read.
_LARGE_WEIGHTS_BYTES = 512 << 20
MAX_CARD_BYTES: Final = 16 << 20
# What may lie beside the weights and goes along with them: a licence, a text, a table, a picture.
# Plain names that are not hidden: names in a zip may also point outside the folder.
_EXTRA_NAME = re.compile(
    r"(licen[cs]e|copying|notice|readme|citation|authors|changelog)([ ._-][\w .-]*)?"
    r"|[\w-][\w .-]*\.(txt|md|csv|cff|bib|pdf|png|jpe?g)",
    re.IGNORECASE,
)
_MAX_EXTRA_BYTES = 16 << 20
_MAX_EXTRAS = 32
MAX_BUNDLE_BYTES: Final = MAX_WEIGHTS_BYTES + MAX_CARD_BYTES + _MAX_EXTRAS * _MAX_EXTRA_BYTES
# Other compressions take minutes for what a few kilobytes may hold.
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


class ThresholdPoint(BaseModel):
    """One row of the precision-recall curve of the forest class."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
        _refuse_no_number(self.training)
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

        Files beside them are licences, texts, tables and pictures, by their names, up to 32 of up
        to 16 MB each. Only regular files: no link is followed, except from the weights and the
        card, which are checked whole.

        Raises
        ------
        BundleError
            When the bundle can no longer be read.
        """
        for name, limit in ((WEIGHTS_NAME, MAX_WEIGHTS_BYTES), (CARD_NAME, MAX_CARD_BYTES)):
            with _opened(self.path, name, limit) as (stream, size):
                # A file may grow while it is read.
                yield name, stream.read(size)
        for name in self._extras()[0]:
            with _opened(self.path, name, _MAX_EXTRA_BYTES, follow=False) as (stream, size):
                yield name, stream.read(size)

    def left_out(self) -> list[str]:
        """Return names beside the weights that :meth:`files` leaves out, except hidden ones."""
        return self._extras()[1]

    def _extras(self) -> tuple[list[str], list[str]]:
        """Return the names of files beside weights and card that go along, and of the others."""
        taken: list[str] = []
        others: list[str] = []
        with _zip_errors(self.path):
            for name, mode, size in sorted(_entries(self.path)):
                if name in (WEIGHTS_NAME, CARD_NAME) or name.startswith(".") or stat.S_ISDIR(mode):
                    continue
                fits = stat.S_ISREG(mode) and size <= _MAX_EXTRA_BYTES
                named = _EXTRA_NAME.fullmatch(name) is not None
                is_taken = fits and named and len(taken) < _MAX_EXTRAS
                (taken if is_taken else others).append(name)
        return taken, others

    def check_shapes(self, wanted: Shapes) -> None:
        """Compare the tensors that the weights' header lists with those of a network.

        Nothing but the header is read.

        Raises
        ------
        BundleError
            When they are not the same.
        """
        with _opened(self.path, WEIGHTS_NAME, MAX_WEIGHTS_BYTES) as (stream, size):
            header = _checked_header(self.path, stream, size)
        _refuse_other_shapes(self.path, self.card, header, wanted)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Load the weights by name, on the CPU, in the dtype that is stored.

        Raises
        ------
        BundleError
            When the weights are truncated, not safetensors, or changed since the bundle was opened.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        with _opened(self.path, WEIGHTS_NAME, MAX_WEIGHTS_BYTES) as (stream, _):
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
        When a file is missing, damaged or unsafe, the format version is another one, or a number
        in the weights or the card is NaN or infinite.
    """
    path = Path(path)
    if not path.exists():
        raise BundleError(f"{path}: no such model bundle")
    _refuse_pickles(path)
    with _opened(path, CARD_NAME, MAX_CARD_BYTES) as (stream, _):
        card = _parse_card(path, stream.read())
    with _opened(path, WEIGHTS_NAME, MAX_WEIGHTS_BYTES) as (stream, size):
        sha256 = _checked_weights(path, stream, size, card)
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
    BundleError
        When a weight is NaN or infinite; nothing is written then.
    """
    from safetensors.torch import save

    path = Path(path)
    with new_folder(path, mark=CARD_NAME, what="model bundle") as folder:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
        (folder / WEIGHTS_NAME).write_bytes(save(tensors))
        (folder / CARD_NAME).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
        try:
            saved = load_bundle(folder)
        except BundleError as error:
            # The message names a temporary folder, which means nothing to the user.
            raise BundleError(str(error).replace(str(folder), str(path))) from error
    return replace(saved, path=path)


def _parse_card(path: Path, data: bytes) -> ModelCard:
    raw = parse_object(data)
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


def _refuse_no_number(value: Any) -> None:
    """Refuse NaN and infinity anywhere in a free part of a card; JSON has no such numbers."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, float) and not math.isfinite(one):
            raise ValueError(f"training holds {one}, which is no number")
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one


def _entries(path: Path) -> Iterable[tuple[str, int, int]]:
    """Yield name, mode and size of each entry of a folder or zip; links are not followed."""
    if path.is_dir():
        for item in path.iterdir():
            status = item.lstat()
            yield item.name, status.st_mode, status.st_size
        return
    with zipfile.ZipFile(path) as archive:
        top = _top_folder(path, archive.namelist())
        for info in archive.infolist():
            name = info.filename.removeprefix(top)
            if info.filename.startswith(top) and name and "/" not in name:
                # Zips from other systems record no type of file.
                mode = info.external_attr >> 16
                yield name, mode if stat.S_IFMT(mode) else mode | stat.S_IFREG, info.file_size


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
def _opened(
    path: Path, name: str, limit: int, *, follow: bool = True
) -> Iterator[tuple[IO[bytes], int]]:
    """Open one regular file of a folder or zip, and yield its stream and its size in bytes."""
    if path.is_dir():
        member = path / name
        if not member.exists():
            raise BundleError(f"{path}: {name} is missing")
        # A pipe, or a link to one, would be waited for without end.
        flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        with _zip_errors(path), os.fdopen(os.open(member, flags), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{path}: {name} is no regular file")
            yield stream, _checked_size(path, name, status.st_size, limit)
        return
    with _zip_errors(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        member_name = _top_folder(path, names) + name
        if member_name not in names:
            raise BundleError(f"{path}: {name} is missing")
        info = archive.getinfo(member_name)
        if info.compress_type not in _COMPRESSIONS:
            kind = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}.get(info.compress_type)
            raise BundleError(
                f"{path}: {name} is compressed by {kind or info.compress_type}; stored or "
                "deflated was wanted"
            )
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


def _checked_header(path: Path, stream: IO[bytes], size: int) -> Header:
    """Read the header of weights, and check that the file has the size and layout it tells."""
    prefix = stream.read(PREFIX_BYTES)
    header = read_header(prefix, stream, size)
    if header is None:
        pickled = prefix[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK")
        kind = "a pickle in disguise and is not loaded" if pickled else "no safetensors file"
        raise BundleError(f"{path}: {WEIGHTS_NAME} is {kind}")
    if size != header.end:
        raise BundleError(f"{path}: {WEIGHTS_NAME} is truncated ({size} of {header.end} bytes)")
    if (fault := layout_fault(header)) is not None:
        raise BundleError(f"{path}: {WEIGHTS_NAME} is damaged ({fault})")
    return header


def _checked_weights(path: Path, stream: IO[bytes], size: int, card: ModelCard) -> str:
    """Check format, size and numbers of the weights, and return their SHA-256."""
    header = _checked_header(path, stream, size)
    if size > _LARGE_WEIGHTS_BYTES:
        from geoforest.models.unet import network_shapes

        wanted = network_shapes(card.encoder, card.in_channels, card.architecture)
        _refuse_other_shapes(path, card, header, wanted)
    digest = hashlib.sha256(header.data)
    wrong = read_numbers(header, stream, digest.update)
    if wrong is not None:
        raise BundleError(
            f"{path}: {WEIGHTS_NAME}: {wrong} holds NaN or infinite values; "
            "a model was wanted that gives numbers"
        )
    return digest.hexdigest()


def _refuse_other_shapes(path: Path, card: ModelCard, header: Header, wanted: Shapes) -> None:
    if (fault := shape_fault(header.shapes, wanted)) is not None:
        raise BundleError(
            f"{path}: weights do not fit {card.architecture} of {card.encoder!r} with "
            f"{card.in_channels} channels: {fault}"
        )
