"""From a mask to polygons: whole patches with exact outlines."""
