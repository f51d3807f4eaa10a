"""The agent beside TensorFlow Serving: a version is live only after it was downloaded whole, verified, loaded and checked."""
