"""Reads and checks weights files; every way in which one can be wrong becomes a sentence that names the file."""
