import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from imgcls_jax import models
from imgcls_jax.data.transforms import parse
from imgcls_jax.models.fast_cnn import identity_first, whitening_kernel

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
IMAGES[:, :, 1:] = IMAGES[:, :, :-1] // 2 + IMAGES[:, :, 1:] // 2  # neighbours that are correlated


def test_the_patches_are_white():
    images = np.asarray(parse("normalize(cifar10)")(IMAGES))
    kernel = whitening_kernel(images, 2, epsilon=0.0)
    out = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    first, negatives = np.split(np.asarray(out, np.float64).reshape(-1, 24), 2, axis=1)
    np.testing.assert_allclose(first, -negatives, atol=1e-5)
    np.testing.assert_allclose(first.T @ first / len(first), np.eye(12), atol=1e-4)


def test_prepare_fills_the_state_and_training_keeps_it():
    model, transform = (
        models.create(ConfigDict({"name": "fast_cnn"}), num_classes=10),
        parse("normalize(cifar10)"),
    )
    x = transform(IMAGES[:8])
    variables = model.init(jax.random.key(0), x)
    params = variables.pop("params")
    state = model.prepare(variables, IMAGES, transform)
    kernel = state["whitening"]["whitening"]["kernel"]
    assert (
        kernel.shape == variables["whitening"]["whitening"]["kernel"].shape
        and np.abs(kernel).max() > 0
    )
    assert "kernel" not in params["whitening"]
    _, after = model.apply(
        {"params": params, **state}, x, train=True, mutable=["batch_stats", "whitening"]
    )
    np.testing.assert_array_equal(after["whitening"]["whitening"]["kernel"], kernel)
    assert model.apply({"params": params, **state}, x, method="features").shape == (8, 3, 3, 256)


def test_first_filters_are_the_identity():
    kernel = identity_first(jax.random.key(0), (3, 3, 4, 6))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 5, 4)), jnp.float32)
    out = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(out[..., :4], x, atol=1e-6)
    assert np.abs(kernel[..., 4:]).min() > 0 or np.abs(kernel[..., 4:]).mean() > 0.01
