"""The weights that a training begins with."""

from __future__ import annotations

import torch

from geoforest.config import TrainSettings
from geoforest.errors import InputError
from geoforest.models.unet import build_unet, encoder_of


def initial_network(settings: TrainSettings) -> torch.nn.Module:
    """Build the network of a training; what no file gives is random, from the seed.

    Raises
    ------
    InputError
        When the initial weights cannot be had or are of another network.
    BundleError
        When there is no such architecture or encoder.
    """
    torch.manual_seed(settings.seed)
    network = build_unet(settings.encoder, len(settings.bands), settings.architecture)
    if settings.encoder_weights == "imagenet":
        _load_imagenet(network, settings.encoder, len(settings.bands))
    elif settings.encoder_weights is not None:
        _load_file(network, settings.encoder, settings.encoder_weights)
    return network


def _load_imagenet(network: torch.nn.Module, encoder: str, in_channels: int) -> None:
    import segmentation_models_pytorch as smp

    try:
        pretrained = smp.encoders.get_encoder(encoder, in_channels=in_channels, weights="imagenet")
    except Exception as error:  # the hub's client raises many kinds
        raise InputError(
            f"ImageNet weights of {encoder} cannot be fetched ({type(error).__name__}); "
            "give a .safetensors file, or none"
        ) from error
    encoder_of(network).load_state_dict(pretrained.state_dict())


def _load_file(network: torch.nn.Module, encoder: str, path: str) -> None:
    """Take what fits, of the whole network or of its encoder."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        loaded = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    expected = network.state_dict()
    fitting = {
        key: value
        for key, value in loaded.items()
        if key in expected and expected[key].shape == value.shape
    }
    if not any(key.startswith("encoder.") for key in fitting):
        raise InputError(f"{path}: holds no weights of Unet({encoder!r})'s encoder")
    network.load_state_dict(fitting, strict=False)
