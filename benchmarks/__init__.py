"""Timings of training beside JAX as usually written, Keras and PyTorch; see README.md here."""
