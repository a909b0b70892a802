"""Cloud masks, from a scene's own classification or from a network."""
