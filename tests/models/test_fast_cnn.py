"""The fast CNN: its whitening, and the initial filters."""

import jax
import jax.numpy as jnp
import numpy as np
from generated import initialized
from ml_collections import ConfigDict

from imgcls_jax import models
from imgcls_jax.data.transforms import parse
from imgcls_jax.models import fast_cnn
from imgcls_jax.models.cpu_kernels import NHWC
from imgcls_jax.models.fast_cnn import identity_first, whitening_kernel

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
IMAGES[:, :, 1:] = IMAGES[:, :, :-1] // 2 + IMAGES[:, :, 1:] // 2  # neighbours are correlated


def convolve(x, kernel, padding):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=NHWC)


def test_the_patches_are_white():
    images = np.asarray(parse("normalize(cifar10)")(IMAGES))
    kernel = whitening_kernel(images, 2, epsilon=0.0)
    whitened = np.asarray(convolve(images, kernel, "VALID"), np.float64)
    patches, negatives = np.split(whitened.reshape(-1, 24), 2, axis=1)
    np.testing.assert_allclose(patches, -negatives, atol=1e-5)
    covariance = patches.T @ patches / len(patches)
    np.testing.assert_allclose(covariance, np.eye(12), atol=1e-4)


def test_the_whitening_is_of_images_of_all_classes(monkeypatch):
    """Folders are read class by class: the first images are of the first class."""
    monkeypatch.setattr(fast_cnn, "WHITENING_EXAMPLES", 40)
    images = np.concatenate([np.zeros_like(IMAGES), IMAGES])
    model = models.create(ConfigDict({"name": "fast_cnn"}), num_classes=2)
    state = model.prepare({}, images, parse("normalize(cifar10)"))
    first = model.prepare({}, np.zeros_like(IMAGES), parse("normalize(cifar10)"))
    kernels = [s["whitening"]["whitening"]["kernel"] for s in (state, first)]
    assert not np.allclose(*kernels)


def test_prepare_fills_the_state_and_training_keeps_it():
    model = models.create(ConfigDict({"name": "fast_cnn"}), num_classes=10)
    transform = parse("normalize(cifar10)")
    x = transform(IMAGES[:8])
    initial_state = initialized(model, x)
    params = initial_state.pop("params")
    assert "kernel" not in params["whitening"]

    state = model.prepare(initial_state, IMAGES, transform)
    kernel = state["whitening"]["whitening"]["kernel"]
    assert kernel.shape == initial_state["whitening"]["whitening"]["kernel"].shape
    assert np.abs(kernel).max() > 0

    variables = {"params": params, **state}
    _, updated = model.apply(variables, x, train=True, mutable=["batch_stats", "whitening"])
    np.testing.assert_array_equal(updated["whitening"]["whitening"]["kernel"], kernel)
    assert model.apply(variables, x, method="features").shape == (8, 3, 3, 256)


def test_first_filters_are_the_identity():
    kernel = identity_first(jax.random.key(0), (3, 3, 4, 6))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 5, 4)), jnp.float32)
    y = convolve(x, kernel, "SAME")
    np.testing.assert_allclose(y[..., :4], x, atol=1e-6)
    random_filters = np.abs(kernel[..., 4:])
    assert random_filters.min() > 0 or random_filters.mean() > 0.01
