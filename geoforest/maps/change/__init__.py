"""Forest lost and gained between two maps."""
