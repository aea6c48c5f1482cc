"""The operations of RandAugment, TrivialAugment and AugMix against Pillow, and what they draw."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from imgcls_jax.data.augmentations import auto_augment
from imgcls_jax.data.augmentations.auto_augment import AUGMIX, OPERATIONS, RAND_AUGMENT, WIDE
from imgcls_jax.data.transforms import parse
from imgcls_jax.errors import ConfigError

HEIGHT, WIDTH = 24, 30  # enough pixels to equalize


def images_of(count, channels=3):
    """Images of a part of the levels, with a gradient: something to stretch and to equalize."""
    shape = (count, HEIGHT, WIDTH, channels)
    noise = np.random.default_rng(0).integers(0, 90, shape)
    gradient = np.arange(WIDTH)[:, None] * 3
    return (noise + gradient + 20).astype(np.uint8)


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@functools.cache
def compiled(text):
    return jax.jit(parse(text))


@functools.cache
def compiled_apply(space):
    return jax.jit(functools.partial(auto_augment.apply, space=space))


def applied(operation, magnitude, image, space=WIDE):
    """The levels, float [H, W, C], of an image after one operation."""
    out = compiled_apply(space)(
        jnp.asarray(image[None], jnp.float32) / 255,
        jnp.array([OPERATIONS.index(operation)]),
        jnp.array([magnitude], jnp.float32),
    )
    assert out.dtype == jnp.float32 and out.shape == (1, *image.shape)
    return 255 * np.asarray(out[0])


def affine(*matrix):
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix)


# What Pillow does at a magnitude of the wide space.
PILLOW = {
    "identity": (0.7, lambda image: image),
    "shear_x": (0.5, affine(1, 0.495, 0, 0, 1, 0)),
    "shear_y": (-0.5, affine(1, 0, 0, -0.495, 1, 0)),
    "translate_x": (0.1, affine(1, 0, -3, 0, 1, 0)),
    "translate_y": (-0.125, affine(1, 0, 0, 0, 1, 4)),
    "rotate": (0.2, lambda image: image.rotate(-27)),
    "brightness": (-0.5, lambda image: ImageEnhance.Brightness(image).enhance(0.505)),
    "color": (0.8, lambda image: ImageEnhance.Color(image).enhance(1.792)),
    "contrast": (0.8, lambda image: ImageEnhance.Contrast(image).enhance(1.792)),
    "sharpness": (-1.0, lambda image: ImageEnhance.Sharpness(image).enhance(0.01)),
    "posterize": (0.5, lambda image: ImageOps.posterize(image, 5)),
    "solarize": (-0.5, lambda image: ImageOps.solarize(image, 128)),
    "autocontrast": (0.3, ImageOps.autocontrast),
    "equalize": (0.3, ImageOps.equalize),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_pillows(operation):
    (image,) = images_of(1)
    magnitude, pillow = PILLOW[operation]
    expected = np.asarray(pillow(Image.fromarray(image)), float)
    out = applied(operation, magnitude, image)
    if operation in auto_augment.GEOMETRIC:
        is_other = np.abs(out - expected).max(-1) > 0.01
        assert is_other.mean() <= 0.02  # halfway between two pixels either is the nearest
    else:
        # Pillow rounds to whole levels, contrast also the mean.
        np.testing.assert_allclose(out, expected, atol=1.5)
    if operation in ("posterize", "solarize", "equalize"):
        np.testing.assert_allclose(out, expected, atol=1e-3)
    if operation != "identity":
        assert np.abs(out - image).max() > 5


@pytest.mark.parametrize("space", [RAND_AUGMENT, WIDE], ids=["rand_augment", "wide"])
def test_magnitude_zero_is_the_identity(space):
    (image,) = images_of(1)
    image[0, 0] = 255
    for operation in OPERATIONS:
        if operation not in ("autocontrast", "equalize"):
            out = applied(operation, 0.0, image, space)
            np.testing.assert_allclose(out, image, atol=1e-3, err_msg=operation)
    np.testing.assert_allclose(parse("rand_augment(2, 0)").ops[0].magnitude, 0)


def test_equalize_and_autocontrast_leave_an_image_of_one_value():
    image = np.full((HEIGHT, WIDTH, 3), 77, np.uint8)
    for operation in ("autocontrast", "equalize"):
        np.testing.assert_allclose(applied(operation, 1.0, image), image, atol=1e-3)


@pytest.mark.parametrize(
    "text, channels",
    [("rand_augment(2, 20)", 3), ("trivial_augment", 3), ("trivial_augment", 1), ("augmix(10)", 3)],
)
def test_a_policy_keeps_shape_and_range_and_follows_keys(text, channels):
    images = images_of(24, channels)
    transform = compiled(text)
    out = np.asarray(transform(images, keys_of(24)))
    assert out.shape == images.shape and out.dtype == np.float32
    assert out.min() >= 0 and out.max() <= 1 + 1e-6
    np.testing.assert_array_equal(out, transform(images, keys_of(24)))
    other = np.asarray(transform(images, keys_of(24, seed=1)))
    is_changed = np.abs(out - images / 255).max((1, 2, 3)) > 0.01
    assert is_changed.mean() > 0.5
    assert not np.allclose(out, other)
    order = np.array([5, *range(23)])  # an image depends on its own key alone
    np.testing.assert_allclose(transform(images[order], keys_of(24)[order]), out[order], atol=1e-5)
    np.testing.assert_allclose(parse(text)(images), images / 255, atol=1e-6)  # evaluation


def test_all_operations_are_drawn_equally_often_with_both_signs(monkeypatch):
    drawn = []

    def apply(images, operations, magnitudes, *, space):
        drawn.append((np.asarray(operations), np.asarray(magnitudes)))
        return images

    monkeypatch.setattr(auto_augment, "apply", apply)
    images = np.zeros((2800, 1, 1, 3), np.uint8)
    parse("trivial_augment")(images, keys_of(2800))
    ((operations, magnitudes),) = drawn
    counts = np.bincount(operations, minlength=len(OPERATIONS))
    assert 140 < counts.min() and counts.max() < 260
    levels = np.round(30 * magnitudes)
    np.testing.assert_allclose(levels, 30 * magnitudes, atol=1e-4)
    assert set(levels) == set(range(-30, 31))


def test_the_operations_of_rand_augment_are_drawn_one_by_one():
    """With a magnitude of 0 only autocontrast and equalize change an image: 2 of 14."""
    images = images_of(1000)
    out = np.asarray(compiled("rand_augment(2, 0)")(images, keys_of(1000)))
    is_changed = np.abs(out - images / 255).max((1, 2, 3)) > 1e-3
    assert abs(is_changed.mean() - (1 - (12 / 14) ** 2)) < 0.04


def test_augmix_draws_weights_that_add_up_to_one():
    weights, share = jax.vmap(parse("augmix").ops[0]._draw_weights)(keys_of(2000))
    weights = np.asarray(weights)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(weights.mean(0), 1 / 3, atol=0.02)
    np.testing.assert_allclose(weights.var(0), 1 / 18, atol=0.006)  # of Dirichlet(1, 1, 1)
    assert abs(float(share.mean()) - 0.5) < 0.02
    assert "identity" not in AUGMIX.operations and "sharpness" not in AUGMIX.operations


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rand_augment(0)", "num_ops must be a whole number from 1 to 10, not 0"),
        ("rand_augment(2, 31)", "magnitude must be a number from 0 to 30, not 31"),
        ("trivial_augment(2)", "do not fit trivial_augment"),
        ("augmix(11)", "severity must be a number from 0.1 to 10, not 11"),
        ("augmix(3, 2.5)", "width must be a whole number from 1 to 10, not 2.5"),
        ("augmix(3, depth=0)", "depth must be a whole number from 1 to 10, not 0"),
    ],
)
def test_bad_arguments_are_refused(text, reason):
    with pytest.raises(ConfigError, match=reason):
        parse(text)
