"""Sentinel-2 products in ESA's SAFE format."""
