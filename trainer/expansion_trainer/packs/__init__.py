"""What a model carries so that the next expansion needs no old image: statistics and a few real bottlenecks per category."""
