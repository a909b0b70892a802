"""Disks, servers and file formats."""
