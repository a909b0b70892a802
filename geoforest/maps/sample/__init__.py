"""Draw a sample of a map, and estimate areas with intervals from its labels."""
