"""Which images there are, on which side of the hold-out each one is, and what is wrong with them. No TensorFlow."""
