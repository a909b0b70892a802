"""Hectares of forest by unit, such as municipalities."""
