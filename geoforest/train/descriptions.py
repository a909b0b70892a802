"""What settings are and mean, for Python and for the command line.

Nothing is imported here: the command line starts with these words, long before any work.
"""

from __future__ import annotations

from typing import Final

TRAIN_SETTINGS: Final = {
    "architecture": "`Unet`, or `UnetFullResolution` with a skip from the image",
    "encoder": "any encoder of smp",
    "encoder_weights": "`imagenet` from smp's hub, a .safetensors file, or `none`",
    "bands": "of the chips, in order",
    "epochs": "at most",
    "batch_size": "chips a step and device",
    "accumulate": "steps whose gradients are added up",
    "learning_rate": "of AdamW",
    "weight_decay": "of AdamW",
    "schedule": "of the learning rate: `constant`, `cosine` or `one-cycle`",
    "gradient_clip": "norm that the gradient of a step is cut down to; by default none",
    "loss": "`dice` or `dice+bce`, of logits",
    "augmentation": (
        "`none`; `d4`: flips and quarter turns; `strong`: also brightness, pasted rectangles and "
        "swath edges; `transpose`: as strong, turned about the diagonal only"
    ),
    "freeze_encoder": "train the decoder only",
    "encoder_bn": "batch-norm statistics of the encoder: `update` or `frozen`",
    "patience": "epochs without a lower validation loss; 0 never stops",
    "averaging": "decay, a step, of an exponential moving average of the weights",
    "precision": "of the arithmetic: `32-true`, `bf16-mixed` or `16-mixed`",
    "half": "store weights as float16",
    "deterministic": "refuse CUDA kernels whose result varies between runs",
    "devices": "GPUs",
    "workers": (
        "processes that load chips; by default a few on a GPU, none on a CPU, whose cores have "
        "enough to do; no weight depends on them"
    ),
    "seed": "of weights, order and augmentation",
    "window": "pixels a side that the model is to map with, for its card",
    "scale": "reflectance of the chips is DN x scale",
}
