"""Readers and writers: everything that touches a file."""
