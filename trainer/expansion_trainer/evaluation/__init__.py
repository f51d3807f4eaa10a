"""Measures a fitted head on images it never saw: bottlenecks in, figures with intervals out. NumPy only."""
