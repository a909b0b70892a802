"""Whether maps, mosaics and comparisons are complete and untouched."""
