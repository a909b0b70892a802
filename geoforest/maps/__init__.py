"""Finished maps, and what is made from them."""
