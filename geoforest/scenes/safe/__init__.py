"""Sentinel-2 products as ESA packs them."""
