"""Build the network of a training with its initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from geoforest.errors import InputError
from geoforest.models.unet import build_unet, encoder_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geoforest.train.settings import TrainSettings


def initial_network(settings: TrainSettings) -> torch.nn.Module:
    """Build the network of a training; weights that no file gives are random, from the seed.

    A file must hold the whole encoder; its first convolution may have other bands.

    Raises
    ------
    InputError
        When the initial weights cannot be loaded or belong to another network.
    BundleError
        When the architecture or encoder does not exist.
    """
    torch.manual_seed(settings.seed)
    network = build_unet(settings.encoder, len(settings.bands), settings.architecture)
    if settings.encoder_weights == "imagenet":
        _load_imagenet(network, settings.encoder, len(settings.bands))
    elif settings.encoder_weights is not None:
        _load_file(network, settings.encoder, len(settings.bands), settings.encoder_weights)
    return network


def _load_imagenet(network: torch.nn.Module, encoder: str, in_channels: int) -> None:
    import segmentation_models_pytorch as smp

    try:
        pretrained = smp.encoders.get_encoder(encoder, in_channels=in_channels, weights="imagenet")
    except Exception as error:  # the hub's client raises many unrelated types
        raise InputError(
            f"ImageNet weights of {encoder} cannot be fetched ({type(error).__name__}); "
            "give a .safetensors file, or none"
        ) from error
    encoder_of(network).load_state_dict(pretrained.state_dict())


def _load_file(network: torch.nn.Module, encoder: str, in_channels: int, path: str) -> None:
    """Load the whole encoder, and of the other layers those that fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if Path(path).exists() and not Path(path).is_file():
        # A pipe would be waited for without end.
        raise InputError(f"{path}: is no regular file; a safetensors file was wanted")
    try:
        loaded = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    for name, value in loaded.items():
        if not torch.isfinite(value).all():
            raise InputError(f"{path}: {name} holds NaN or infinite values")
    expected = network.state_dict()
    _spread_over_bands(loaded, expected)
    fitting = {
        key: value
        for key, value in loaded.items()
        if key in expected and expected[key].shape == value.shape
    }
    needed = _used_by_encoder(network, in_channels)
    given = {key for key in loaded if key.startswith("encoder.")}
    if wrong := sorted((needed | given) - fitting.keys()):
        raise InputError(
            f"{path}: holds {len(needed & fitting.keys())} of the {len(needed)} tensors of the "
            f"encoder {encoder!r}, and {len(given - fitting.keys())} that do not fit it; the "
            f"first that is missing or does not fit is {wrong[0]}"
        )
    network.load_state_dict(fitting, strict=False)


def _spread_over_bands(
    loaded: dict[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    """Convert the first convolution to another number of bands, as smp does with ImageNet's."""
    others = [
        key
        for key in loaded.keys() & expected.keys()
        if key.startswith("encoder.") and loaded[key].shape != expected[key].shape
    ]
    if len(others) != 1:
        return
    (key,) = others
    first, wanted = loaded[key], expected[key].shape
    if first.ndim == len(wanted) == 4 and first[:, 0].shape == expected[key][:, 0].shape:
        n_given, n_wanted = first.shape[1], wanted[1]
        loaded[key] = first[:, torch.arange(n_wanted) % n_given] * (n_given / n_wanted)


def _used_by_encoder(network: torch.nn.Module, in_channels: int) -> set[str]:
    """Return the names of the tensors from which the encoder computes features.

    Files may lack classifier layers, which some encoders have and never call, and counters of
    batches, which are not used.
    """
    encoder = encoder_of(network)
    called: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
        for name, module in encoder.named_modules()
    ]
    training = encoder.training
    with torch.inference_mode():
        encoder.eval()(torch.zeros(1, in_channels, 64, 64))
    encoder.train(training)
    for hook in hooks:
        hook.remove()
    return {
        f"encoder.{name}"
        for name in encoder.state_dict()
        if name.rpartition(".")[0] in called and not name.endswith("num_batches_tracked")
    }
