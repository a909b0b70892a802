"""Loops over pixels, runs and corners that NumPy has no fast words for, compiled by numba.

They compile at their first call. Import them where they are used: loading the compiler takes half a
second.
"""
