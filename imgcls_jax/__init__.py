"""imgcls_jax: image classification in JAX and Flax, from MNIST and CIFAR-10 to your own images."""

__version__ = "0.1.0"
