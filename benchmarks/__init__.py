"""Side-by-side timings of training against JAX as usually written, Keras and PyTorch; see README.md here."""
