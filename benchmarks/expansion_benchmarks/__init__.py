"""Measures the grown heads on real images; `make bench` runs all of it. Never ships."""
