"""Convert the weights of a checkpoint into a bundle without unpickling arbitrary objects."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from geoforest._version import __version__
from geoforest.errors import BundleError, InputError
from geoforest.models.bundle import Bundle, ModelCard, save_bundle
from geoforest.models.checkpoints import Found, Tensors, find_weights, read_checkpoint
from geoforest.models.recognise import fault_of_network, matching_encoder
from geoforest.models.unet import build_unet, shapes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from geoforest.models.weights import Shapes

_DTYPES = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32}
_WANTED_DTYPES = "floating-point numbers of 16 to 64 bits were"
_PUBLISHED_NAME = re.compile(
    r"(?P<encoder>.+)_batch(?P<batch>\d+)_lr(?P<lr>\d+(\.\d+)?(e[+-]?\d+)?)_weights"
)


def import_weights(
    path: str | Path,
    out: str | Path,
    *,
    bands: list[str],
    mean: list[float],
    std: list[float],
    encoder: str | None = None,
    threshold: float = 0.5,
    window: int = 512,
    name: str | None = None,
    training_data: str = "not stated",
    weights_license: str = "not stated",
    notes: str = "",
    origin: Mapping[str, str] | None = None,
    on_note: Callable[[str], None] = lambda _note: None,
) -> Bundle:
    """Convert the weights of a U-Net into a bundle.

    Parameters
    ----------
    path
        A ``.safetensors`` file, or what ``torch.save`` writes, which is loaded with
        ``weights_only=True``, so that no code in it can run: a state dict, or a checkpoint with
        one in it, such as Lightning's. Prefixes of wrappers before the names are stripped, and
        weights of losses are dropped.
    out
        Bundle folder to write.
    bands, mean, std
        Bands of the network's input, with their mean and standard deviation, reflectance x 10000.
    encoder
        Name in segmentation-models-pytorch; by default taken from a file name such as
        ``se_resnet50_batch4_lr1.0e-04_weights.pt``.
    threshold, window, name, training_data, weights_license, notes
        Written to the model card.
    origin
        Where the file comes from; added to the card's ``training``.
    on_note
        Called with a sentence for each thing that was deduced, stripped or dropped.

    Raises
    ------
    BundleError
        When the file holds no state dict, one that does not fit the architecture, or a weight
        that is NaN or infinite.
    InputError
        When the encoder is neither given nor in the file name, or the numbers do not fit the bands.
    """
    path = Path(path)
    published = _PUBLISHED_NAME.fullmatch(path.stem)
    if encoder is None and published is not None:
        encoder = published["encoder"]
    loaded = read_checkpoint(path)
    if encoder is None:
        hint = _hint(path, loaded)
        raise InputError(f"{path}: its name does not tell the encoder; give --encoder{hint}")
    wanted = shapes_of(build_unet(encoder, len(bands)))
    found = find_weights(path, loaded, wanted)
    if (fault := fault_of_network(_shapes(found.tensors), encoder, wanted, bands)) is not None:
        raise BundleError(f"{path}: does not fit a Unet of {encoder}: {fault}")
    state_dict = _checked_numbers(path, found)
    for note in _notes(found, bands):
        on_note(note)
    training: dict[str, Any] = {"imported_from": path.name, **(origin or {})}
    if published is not None:
        training |= {
            "batch_size": int(published["batch"]),
            "learning_rate": float(published["lr"]),
        }
    try:
        card = ModelCard(
            name=name or path.stem,
            encoder=encoder,
            in_channels=len(bands),
            bands=tuple(bands),
            mean=tuple(mean),
            std=tuple(std),
            threshold=threshold,
            window=window,
            training_data=training_data,
            license=weights_license,
            notes=notes,
            versions={"geoforest": __version__, "torch": torch.__version__},
            created=datetime.now(UTC).date().isoformat(),
            training=training,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{'.'.join(map(str, first['loc'])) or 'card'}: {first['msg']}") from error
    return save_bundle(out, state_dict, card)


def _hint(path: Path, loaded: Any) -> str:
    """Name the encoder that tensors fit, for the end of a sentence; empty when none is found."""
    # Any encoder will do to find the names of a U-Net behind their prefix.
    try:
        found = find_weights(path, loaded, shapes_of(build_unet("resnet18", 4)))
    except BundleError:
        return ""
    encoder = matching_encoder(_shapes(found.tensors))
    return f" {encoder}, which its tensors fit" if encoder else ""


def _shapes(tensors: Tensors) -> Shapes:
    return {name: tuple(value.shape) for name, value in tensors.items()}


def _checked_numbers(path: Path, found: Found) -> Tensors:
    """Return copies of the tensors, which may be views of a mapped file; all must be numbers."""
    state_dict: Tensors = {}
    for name, value in found.tensors.items():
        if value.layout != torch.strided or value.dtype not in _DTYPES:
            raise BundleError(f"{path}: {name} is of type {value.dtype}; {_WANTED_DTYPES} wanted")
        if not torch.isfinite(value).all():
            raise BundleError(
                f"{path}: {name} holds NaN or infinite values; the training diverged, or the file "
                "is damaged; an earlier checkpoint was wanted"
            )
        kept = torch.float32 if value.dtype == torch.float64 else value.dtype
        state_dict[name] = value.detach().to(kept, copy=True)
    return state_dict


def _notes(found: Found, bands: Sequence[str]) -> list[str]:
    """Say what was done to the file, and what its weights tell about the network."""
    stored = sorted(
        {str(value.dtype).removeprefix("torch.") for value in found.tensors.values()}
        & {"float16", "bfloat16", "float64"}
    )
    kept = {"float64": "float32"}
    return [
        *found.notes,
        *(f"weights of {name} are kept as {kept.get(name, name)}" for name in stored),
        f"takes {len(bands)} bands ({', '.join(bands)}) and gives one class, forest",
    ]
