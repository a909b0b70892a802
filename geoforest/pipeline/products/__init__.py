"""The files of a map that a user opens."""
