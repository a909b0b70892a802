"""Arrays in, arrays out: the arithmetic of windows, pixels and polygons."""
