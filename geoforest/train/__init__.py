"""The model's life: labelled chips, training, threshold, metrics."""
