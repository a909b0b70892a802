"""A mask becomes polygons: whole patches, exact outlines."""
