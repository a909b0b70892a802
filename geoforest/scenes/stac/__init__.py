"""Scenes that a STAC item, catalogue or search describes."""
