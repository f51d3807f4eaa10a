"""Fits the rows of new categories onto a frozen classifier: bottlenecks in, a linear head out. NumPy and SciPy only."""
