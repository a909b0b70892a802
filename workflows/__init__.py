"""Dagster code location: models from training to evaluation, and scenes to areas, as assets.

Every asset calls public functions of ``geoforest`` and adds lineage, partitions and previews.
"""
