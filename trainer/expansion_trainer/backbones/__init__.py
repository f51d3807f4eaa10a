"""Pretrained networks: their weights, and the one shape in which the rest of the trainer sees them."""
