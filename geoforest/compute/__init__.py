"""Processes, threads, clusters, memory and temporary files of a run."""
