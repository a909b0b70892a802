"""A finished map, and what is made of such maps."""
