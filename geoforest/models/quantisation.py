"""Post-training quantisation to int8 of as many layers as keep the masks right."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from geoforest.models.agreement import CALIBRATION_SEED, make_model_chips

if TYPE_CHECKING:
    from geoforest.models.bundle import ModelCard

# Calibration chips of this size are enough to estimate value ranges and agreement.
_WINDOW_PX = 256
# Stricter than the 99.5 % of a job, because these chips were used for calibration.
_ENOUGH: Final = 0.997
_FIRST_KEPT, _LAST_KEPT = 2, 3

Images = NDArray[np.float32]
Infer = Callable[[Any, Images], Images]
"""A function from ``(model, images (n, band, row, col))`` to logits ``(n, row, col)``."""


def quantise_int8(nncf: Any, model: Any, card: ModelCard, infer: Infer) -> Any:
    """Quantise a network to int8, calibrated on synthetic chips.

    Three recipes are tried, each more accurate and slower than the one before: every layer;
    without element-wise operations; and also without depthwise convolutions,
    squeeze-and-excitation and the first and last layers. The first one whose masks agree with
    the float32 network's on 99.7 % of the pixels is taken, otherwise the last.

    Parameters
    ----------
    nncf
        The imported module ``nncf``.
    model
        OpenVINO model from normalised bands to logits; not changed.
    card
        The model's card.
    infer
        Runs a model on images.

    Returns
    -------
    openvino.Model
        The quantised copy of ``model``.
    """
    nncf.set_log_level(logging.ERROR)
    images, valid = _calibration_images(card)
    threshold = np.log(card.threshold / (1 - card.threshold)) if 0 < card.threshold < 1 else 0.0
    level = threshold * card.temperature
    wanted = (infer(model, images) >= level)[valid]
    for settings in _recipes(nncf, model, images.shape):
        quantised = nncf.quantize(
            model.clone(),
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            **settings,
        )
        if ((infer(quantised, images) >= level)[valid] == wanted).mean() >= _ENOUGH:
            break
    return quantised


def _calibration_images(card: ModelCard) -> tuple[Images, NDArray[np.bool_]]:
    chips = make_model_chips(card, _WINDOW_PX, seed=CALIBRATION_SEED)
    gain, bias = card.folded(chips.scale, offset=0.0)
    images = chips.dn * gain[:, None, None] + bias[:, None, None]
    return np.where(chips.valid[:, None], images, np.float32(0)), chips.valid


def _recipes(nncf: Any, model: Any, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    transformer = {"model_type": nncf.ModelType.TRANSFORMER}  # leaves element-wise operations
    sensitive = nncf.IgnoredScope(names=_sensitive_layers(model, shape))
    return [{}, transformer, {**transformer, "ignored_scope": sensitive}]


def _sensitive_layers(model: Any, shape: tuple[int, ...]) -> list[str]:
    sized = model.clone()
    sized.reshape([1, *shape[1:]])
    kinds = {"Convolution", "GroupConvolution"}
    layers = [op for op in sized.get_ordered_ops() if op.get_type_name() in kinds]
    sensitive = {op.get_friendly_name() for op in layers[:_FIRST_KEPT] + layers[-_LAST_KEPT:]}
    for op in layers:
        is_depthwise = op.get_type_name() == "GroupConvolution"
        # Squeeze-and-excitation has one value per channel.
        is_gate = list(op.get_output_shape(0))[2:] == [1, 1]
        if is_depthwise or is_gate:
            sensitive.add(op.get_friendly_name())
    return sorted(sensitive)
