"""Loops over pixels, runs and corners that would be slow in NumPy, compiled by numba.

They compile at their first call. Import them inside the functions that use them: loading numba
takes half a second.
"""
