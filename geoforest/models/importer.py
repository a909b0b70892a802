"""Convert a state dict into a bundle without unpickling arbitrary objects."""

from __future__ import annotations

import pickle
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from geoforest._version import __version__
from geoforest.errors import BundleError, InputError
from geoforest.models.bundle import Bundle, ModelCard, save_bundle
from geoforest.models.unet import build_unet

if TYPE_CHECKING:
    from collections.abc import Mapping

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
) -> Bundle:
    """Convert the weights of a U-Net into a bundle.

    Parameters
    ----------
    path
        A state dict: ``.safetensors``, or ``.pt``/``.pth`` which is loaded with
        ``weights_only=True``, so that no code in it can run.
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

    Raises
    ------
    BundleError
        When the file is not a state dict, or does not fit the architecture.
    InputError
        When the encoder is neither given nor in the file name, or the numbers do not fit the bands.
    """
    path = Path(path)
    published = _PUBLISHED_NAME.fullmatch(path.stem)
    if encoder is None:
        if published is None:
            raise InputError(f"{path}: its name does not tell the encoder; give --encoder")
        encoder = published["encoder"]
    state_dict = _read_state_dict(path)
    network = build_unet(encoder, len(bands))
    try:
        network.load_state_dict(state_dict)
    except RuntimeError as error:
        raise BundleError(
            f"{path}: does not fit Unet({encoder!r}, in_channels={len(bands)}): "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
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


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise BundleError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: Any = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BundleError(
            f"{path}: holds objects other than tensors, which could run code; a plain state dict "
            "was wanted"
        ) from error
    except Exception as error:  # torch and safetensors raise many kinds for damaged files
        raise BundleError(f"{path}: cannot be read as a state dict ({error})") from error
    if not isinstance(loaded, dict) or not all(
        isinstance(value, torch.Tensor) for value in loaded.values()
    ):
        raise BundleError(f"{path}: holds {type(loaded).__name__}, a plain state dict was wanted")
    return loaded
