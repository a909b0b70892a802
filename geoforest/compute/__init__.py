"""What processes, threads and clusters give."""
