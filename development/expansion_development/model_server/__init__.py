"""A stand-in for TensorFlow Serving, whose binary is only in an image: its REST interface and its documented behaviour.

Models are loaded by TensorFlow's own C++ loader, so what loads here and what does not is what loads there. Not here: gRPC,
classify and regress, batching, TLS.
"""
