"""Scenes from STAC items, catalogues and searches."""
