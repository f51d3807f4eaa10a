"""Grows an image classifier by new categories: images and a pretrained network in, a checked model and a report out."""

import os

# Read when NumPy is first imported. The head's products are thin, and OpenBLAS' further threads wait for them in busy loops:
# beside any other work a fit takes ten times longer. TensorFlow has threads of its own and does not ask.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
