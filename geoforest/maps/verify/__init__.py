"""Check that maps, mosaics and comparisons are complete and unchanged."""
