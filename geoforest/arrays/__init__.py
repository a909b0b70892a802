"""Arrays in, arrays out: the arithmetic of windows, pixels and polygons.

No product is read or written here. Polygons may spill arrays to a temporary folder through
:mod:`geoforest.compute.spill`, so they accept the path of one.
"""
