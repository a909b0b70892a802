"""Settings of short trainings."""

from __future__ import annotations

# The smallest of the encoders: what is trained is of no matter.
SHORT = {"encoder": "mobilenet_v2", "encoder_weights": None, "epochs": 1, "batch_size": 4}
FIXED = {"encoder_weights": None, "epochs": 2, "learning_rate": 1e-3, "patience": 0}
# An encoder that leaves out paths by chance, averaged weights, a schedule: all have a state.
OPTIONS = {
    "encoder": "efficientnet-b0",
    "encoder_weights": None,
    "epochs": 4,
    "batch_size": 2,
    "learning_rate": 2e-3,
    "schedule": "one-cycle",
    "augmentation": "strong",
    "averaging": 0.8,
    "patience": 3,
}
