"""Help texts of the training settings, for Python and for the command line.

This module imports nothing, so that the command line starts fast.
"""

from __future__ import annotations

from typing import Final

TRAIN_SETTINGS: Final = {
    "architecture": "Architecture: `Unet`, or `UnetFullResolution` with a skip from the image.",
    "encoder": "Encoder of segmentation-models-pytorch (smp).",
    "encoder_weights": (
        "Initial encoder weights: `imagenet` from smp's hub, a .safetensors file, or `none`."
    ),
    "bands": "Bands of the chips, in order.",
    "epochs": "Maximum number of epochs.",
    "batch_size": "Chips per step and device.",
    "accumulate": "Steps whose gradients are summed before an update.",
    "learning_rate": "Learning rate of AdamW.",
    "weight_decay": "Weight decay of AdamW.",
    "schedule": "Learning-rate schedule: `constant`, `cosine` or `one-cycle`.",
    "gradient_clip": "Largest norm of a step's gradient; by default there is no limit.",
    "loss": "Loss, computed from logits: `dice` or `dice+bce`.",
    "augmentation": (
        "Augmentation: `none`; `d4`: flips and quarter turns; `strong`: also brightness, pasted "
        "rectangles and swath edges; `transpose`: as strong, but flipped about the main diagonal "
        "only."
    ),
    "freeze_encoder": "Train the decoder only.",
    "encoder_bn": "Batch-norm statistics of the encoder: `update` or `frozen`.",
    "patience": "Stop after this many epochs without a lower validation loss; 0 never stops.",
    "averaging": "Decay per step of an exponential moving average of the weights.",
    "precision": "Arithmetic precision: `32-true`, `bf16-mixed` or `16-mixed`.",
    "half": "Store the weights as float16.",
    "deterministic": "Refuse CUDA kernels whose result varies between runs.",
    "devices": "Number of GPUs.",
    "workers": (
        "Processes that load chips; by default several on a GPU and none on a CPU, whose cores are "
        "busy. The weights do not depend on it."
    ),
    "seed": "Seed of initial weights, chip order and augmentation.",
    "window": "Side in pixels of the windows the model will map with; stored in its card.",
    "scale": "Reflectance of the chips is DN x scale.",
}
