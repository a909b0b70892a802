"""Dagster code location: the model's life and the way from scenes to areas, as assets.

Every asset calls public functions of ``geoforest`` and adds lineage, partitions and previews.
"""
