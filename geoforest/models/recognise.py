"""Recognise the network that a file of weights belongs to, by the names and shapes of tensors."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import segmentation_models_pytorch as smp
import torch

from geoforest.models.unet import UnetFullResolution, shapes_of
from geoforest.models.weights import shape_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from geoforest.models.weights import Shapes

_ENCODER: Final = "encoder."
_HEAD: Final = "segmentation_head."
# Architectures of segmentation-models-pytorch whose encoders have the names of a U-Net's.
_ARCHITECTURES: Final = (
    *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus"),
    *("PAN", "UPerNet", "Segformer"),
)


def fault_of_network(
    found: Shapes, encoder: str, wanted: Shapes, bands: Sequence[str]
) -> str | None:
    """Say in what weights differ from those of a U-Net with one class; None when in nothing.

    Parameters
    ----------
    found
        Shapes of the weights.
    encoder, bands
        Encoder and bands of the U-Net.
    wanted
        Shapes of its weights.
    """
    if (fault := shape_fault(found, wanted)) is None:
        return None
    if not any(name.startswith(_ENCODER) for name in found):
        return (
            "its names are not those of segmentation-models-pytorch (encoder., decoder., "
            f"segmentation_head.), but such as {next(iter(found))[:100]}"
        )
    other = {name for name in found.keys() & wanted.keys() if found[name] != wanted[name]}
    of_head = {name for name in other if name.startswith(_HEAD)}
    of_bands = {name for name in other if _is_for_bands(found[name], wanted[name], len(bands))}
    explained = {name: wanted[name] for name in of_head | of_bands}
    if explained and shape_fault({**found, **explained}, wanted) is None:
        facts = [
            f"it takes {found[name][1]} bands, and {len(bands)} are named ({', '.join(bands)})"
            for name in of_bands
        ]
        facts += [
            f"it gives {found[name][0]} classes, and one was wanted, forest"
            for name in sorted(of_head)[:1]
        ]
        return "; ".join(facts)
    network = _network_of(found, encoder)
    return fault if network is None else f"it is {network}"


def matching_encoder(found: Shapes) -> str | None:
    """Return the encoder of segmentation-models-pytorch that weights fit; None when none does."""
    of_encoder = {
        name.removeprefix(_ENCODER): shape
        for name, shape in found.items()
        if name.startswith(_ENCODER)
    }
    if not of_encoder:
        return None
    for name in smp.encoders.encoders:
        shapes = _shapes_on_no_device(
            partial(smp.encoders.get_encoder, name, in_channels=3, weights=None)
        )
        if shapes is not None and _are_same(of_encoder, shapes):
            return str(name)
    return None


def _network_of(found: Shapes, encoder: str) -> str | None:
    """Name architecture and encoder of weights, as far as they are recognised."""
    actual = matching_encoder(found) or encoder
    for name in _ARCHITECTURES:
        shapes = _shapes_on_no_device(
            partial(getattr(smp, name), actual, encoder_weights=None, in_channels=3, classes=1)
        )
        if shapes is not None and _are_same(found, shapes):
            if name != "Unet":
                return f"a {name} of {actual}, and a Unet was wanted"
            return f"a Unet of {actual}; give --encoder {actual}"
    shapes = _shapes_on_no_device(partial(UnetFullResolution, actual, 3))
    if shapes is not None and _are_same(found, shapes):
        return f"a UnetFullResolution of {actual}, and a Unet was wanted"
    if actual != encoder:
        return f"no Unet of {encoder}: its encoder is {actual}, and its decoder is of another kind"
    return None


def _shapes_on_no_device(build: Callable[[], nn.Module]) -> Shapes | None:
    """Return the shapes of a network that is built without weights; None when it cannot be."""
    try:
        with torch.device("meta"):
            return shapes_of(build())
    except Exception:  # noqa: BLE001  (smp and timm raise many kinds; then it is none of these)
        return None


def _are_same(found: Shapes, shapes: Shapes) -> bool:
    """Return whether a network is one that was built for three bands, whatever its own.

    The numbers of bands and of classes, and counters of batches do not count.
    """
    names, wanted = (
        {name for name in one if not name.endswith("num_batches_tracked")}
        for one in (found, shapes)
    )
    return names == wanted and all(
        found[name] == shapes[name]
        or name.startswith(_HEAD)
        or _is_for_bands(found[name], shapes[name], 3)
        for name in names
    )


def _is_for_bands(found: tuple[int, ...], wanted: tuple[int, ...], n_bands: int) -> bool:
    """Return whether a tensor is that of the first layer, for another number of bands."""
    return (
        len(found) == len(wanted) == 4
        and wanted[1] == n_bands
        and (found[0], *found[2:]) == (wanted[0], *wanted[2:])
    )
