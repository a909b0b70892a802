"""Run the command line: ``python -m geoforest``."""

from geoforest.cli import main

main()
