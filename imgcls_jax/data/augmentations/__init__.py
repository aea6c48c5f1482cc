"""Random image operations for training: each example is changed by its own JAX key alone."""
