"""Measure hectares of forest by unit, such as municipality."""
