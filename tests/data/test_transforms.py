import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax.data.image_ops import STATISTICS, Normalize
from imgcls_jax.data.transforms import OPS, parse
from imgcls_jax.errors import ConfigError


def images_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def compiled(text):
    return jax.jit(parse(text))


def test_empty_text_only_scales():
    images = images_of(2, 5, 4, 3)
    out = parse("")(images)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, images / 255.0, rtol=1e-6)
    assert out.max() <= 1 and parse("").ops == ()


def test_other_types_than_uint8_are_refused():
    with pytest.raises(TypeError, match="float32"):
        parse("")(np.zeros((1, 2, 2, 1), np.float32))


@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_random_crop_gives_windows_of_the_padded_image_and_all_of_them(mode):
    count, padding = 300, 2
    images = images_of(count, 5, 6, 3)
    out = np.asarray(compiled(f"random_crop({padding}, {mode})")(images, keys_of(count)))
    corners = set()
    for image, cropped in zip(images / np.float32(255), out, strict=True):
        sides = (padding, padding)
        numpy_mode = {"zero": "constant", "reflect": "reflect"}[mode]
        padded = np.pad(image, (sides, sides, (0, 0)), numpy_mode)
        matches = []
        for top, left in itertools.product(range(2 * padding + 1), repeat=2):
            if np.allclose(padded[top : top + 5, left : left + 6], cropped, atol=1e-6):
                matches.append((top, left))
        assert len(matches) == 1
        corners.add(matches[0])
    assert len(corners) == (2 * padding + 1) ** 2


def test_alternating_flip_shows_every_image_both_ways_in_two_epochs():
    images = images_of(400, 3, 4, 1)
    transform = parse("alternating_flip")

    @jax.jit
    def run(epoch):
        return transform(images, keys_of(400), examples=jnp.arange(400), epoch=epoch)

    scaled = images / np.float32(255)
    epochs = [np.asarray(run(epoch)) for epoch in range(3)]
    mirrored = [np.isclose(epoch, scaled[:, :, ::-1]).all((1, 2, 3)) for epoch in epochs]
    unchanged = [np.isclose(epoch, scaled).all((1, 2, 3)) for epoch in epochs]
    assert 150 < mirrored[0].sum() < 250
    assert (mirrored[0] != mirrored[1]).all()
    assert (mirrored[0] == mirrored[2]).all()
    for epoch in range(3):
        assert (unchanged[epoch] != mirrored[epoch]).all()
    # Its position in a batch makes no difference.
    alone = transform(images[5:6], keys_of(1), examples=jnp.array([5]), epoch=1)
    np.testing.assert_allclose(alone[0], epochs[1][5], atol=1e-6)


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others():
    images = images_of(400, 3, 4, 1)
    out = np.asarray(compiled("flip")(images, keys_of(400)))
    scaled = images / np.float32(255)
    mirrored = np.isclose(out, scaled[:, :, ::-1], atol=1e-6).all((1, 2, 3))
    unchanged = np.isclose(out, scaled, atol=1e-6).all((1, 2, 3))
    assert (mirrored != unchanged).all()
    assert 150 < mirrored.sum() < 250


def slow_resize(image, size, kernel, support):
    """Each output pixel as the kernel-weighted mean of the input.

    The kernel widens when the image shrinks.
    """

    def weights(length):
        scale = length / size
        widen = max(scale, 1.0)
        matrix = np.zeros((size, length))
        for out in range(size):
            centre = (out + 0.5) * scale
            for place in range(length):
                distance = abs(place + 0.5 - centre) / widen
                matrix[out, place] = kernel(distance) if distance < support else 0
        return matrix / matrix.sum(1, keepdims=True)

    height, width = image.shape[:2]
    return np.einsum("ah,bw,hwc->abc", weights(height), weights(width), image)


def linear(distance):
    return 1 - distance


def cubic(distance, a=-0.5):
    if distance < 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * (distance**3 - 5 * distance**2 + 8 * distance - 4)


@pytest.mark.parametrize("size", [3, 8, 13])
@pytest.mark.parametrize(
    "method, kernel, support", [("bilinear", linear, 1), ("bicubic", cubic, 2)]
)
def test_resize_matches_a_slow_reference(size, method, kernel, support):
    images = images_of(2, 8, 7, 3)
    out = compiled(f"resize({size}, {method})")(images)
    assert out.shape == (2, size, size, 3)
    for image, resized in zip(images / 255.0, out, strict=True):
        np.testing.assert_allclose(resized, slow_resize(image, size, kernel, support), atol=2e-6)


def test_resize_is_bilinear_unless_told_otherwise():
    assert parse("resize(9)") == parse("resize(9, bilinear)") != parse("resize(9, bicubic)")


def test_rgb_repeats_one_channel_and_leaves_three():
    gray, colour = images_of(2, 3, 3, 1), images_of(2, 3, 3, 3)
    out = np.asarray(compiled("rgb")(gray))
    assert out.shape == (2, 3, 3, 3)
    for channel in range(3):
        np.testing.assert_allclose(out[..., channel], gray[..., 0] / 255.0, rtol=1e-6)
    np.testing.assert_allclose(compiled("rgb")(colour), colour / 255.0, rtol=1e-6)


@pytest.mark.parametrize(
    "name, channels", [("mnist", 1), ("mnist", 3), ("cifar10", 3), ("imagenet", 3)]
)
def test_normalize_by_name(name, channels):
    images = images_of(2, 3, 3, channels)
    mean, std = (np.array(values) for values in STATISTICS[name])
    expected = (images / 255.0 - mean) / std
    np.testing.assert_allclose(
        compiled(f"normalize({name})")(images), expected, rtol=1e-5, atol=1e-6
    )


def test_normalize_by_numbers():
    assert parse("normalize((.5, .4, .3), (.1, .2, .3))").ops == (
        Normalize((0.5, 0.4, 0.3), (0.1, 0.2, 0.3)),
    )
    assert parse("normalize(.5, .25)").ops == (Normalize((0.5,), (0.25,)),)
    assert parse("normalize(cifar10)").ops == (Normalize(*STATISTICS["cifar10"]),)


def test_operations_run_in_the_order_of_the_text():
    images = images_of(1, 4, 4, 1)
    padded_then_shifted = compiled("random_crop(3)|normalize(.5, .5)")(images, keys_of(1, seed=5))
    shifted_then_padded = compiled("normalize(.5, .5)|random_crop(3)")(images, keys_of(1, seed=5))
    assert padded_then_shifted.min() == -1
    assert not np.allclose(padded_then_shifted, shifted_then_padded)


AUGMENTED = "random_crop(2, reflect)|flip|normalize(cifar10)"


def test_the_same_keys_give_the_same_images_and_other_keys_others():
    images, transform = images_of(8, 9, 9, 3), compiled(AUGMENTED)
    first = transform(images, keys_of(8))
    np.testing.assert_array_equal(first, transform(images, keys_of(8)))
    assert not np.array_equal(first, transform(images, keys_of(8, seed=1)))


def test_an_example_depends_on_its_own_key_alone():
    images, keys, transform = images_of(8, 9, 9, 3), keys_of(8), compiled(AUGMENTED)
    whole = transform(images, keys)
    order = np.array([5, 2, 7])
    np.testing.assert_allclose(transform(images[order], keys[order]), whole[order], atol=1e-6)
    np.testing.assert_allclose(transform(images[3:4], keys[3:4]), whole[3:4], atol=1e-6)


def test_two_operations_of_one_kind_draw_for_themselves():
    images = images_of(64, 3, 4, 1)
    once = np.asarray(compiled("flip")(images, keys_of(64)))
    twice = np.asarray(compiled("flip|flip")(images, keys_of(64)))
    scaled = images / np.float32(255)
    unchanged = np.isclose(twice, scaled, atol=1e-6).all((1, 2, 3))
    assert 10 < unchanged.sum() < 54
    assert not np.allclose(once, twice)


def test_raw_keys_work_as_well():
    images, keys = images_of(4, 9, 9, 3), keys_of(4)
    raw = compiled(AUGMENTED)(images, jax.random.key_data(keys))
    np.testing.assert_array_equal(raw, compiled(AUGMENTED)(images, keys))


def test_evaluation_leaves_random_operations_out():
    images = images_of(4, 9, 9, 3)
    np.testing.assert_array_equal(
        compiled(AUGMENTED)(images), compiled("normalize(cifar10)")(images)
    )
    assert parse(AUGMENTED).random and not parse("resize(4)|rgb|normalize(mnist)").random


def test_jit_gives_what_the_plain_call_gives_and_compiles_once():
    images, transform = images_of(4, 9, 9, 3), parse(AUGMENTED)
    traces = []

    @jax.jit
    def run(images, keys):
        traces.append(1)
        return transform(images, keys)

    np.testing.assert_allclose(run(images, keys_of(4)), transform(images, keys_of(4)), atol=1e-6)
    run(images, keys_of(4, seed=9))
    assert len(traces) == 1


def test_transforms_are_hashable_and_equal_by_content():
    assert hash(parse(AUGMENTED)) == hash(parse(AUGMENTED.replace("|", " | ")))
    assert (
        parse("random_crop(4, mode=reflect)")
        == parse("random_crop(4, reflect)")
        != parse("random_crop(4)")
    )


@pytest.mark.parametrize(
    "text, fragment, reason",
    [
        ("flop", "'flop'", "Did you mean 'flip'"),
        ("flip||rgb", "''", "form name"),
        ("rgb|random_crop", "'random_crop'", "do not fit random_crop"),
        ("random_crop(4, mirror)", "mirror", "reflect, zero"),
        ("random_crop(4.5)", "4.5", "whole number"),
        ("random_crop(-1)", "-1", "whole number"),
        ("flip(2)", "'flip\\(2\\)'", "do not fit flip"),
        ("resize(0)", "resize\\(0\\)", "whole number"),
        ("resize(8, nearest)", "nearest", "bicubic, bilinear"),
        ("resize(8, size=9)", "resize", "do not fit"),
        ("normalize(cifar)", "'cifar'", "Did you mean 'cifar10'"),
        ("normalize(.5)", "normalize", "as many standard deviations"),
        ("normalize((.5, .5), (.1, .1))", "normalize", "1 or 3 means"),
        ("normalize(mnist, 1)", "normalize", "no further argument"),
        ("normalize(.5, 0)", "normalize", "above 0"),
        ("normalize((.5, mnist, .5), (1, 1, 1))", "normalize", "as numbers"),
        ("resize(2 + 2)", "2 \\+ 2", "no number, word or tuple"),
        ("resize(True)", "True", "no number, word or tuple"),
        ("resize(*sizes)", "sizes", "no number, word or tuple"),
        ("__import__('os').getcwd()", "__import__", "form name"),
        ("flip; rgb", "flip; rgb", "form name"),
        ("flip(", "flip\\(", "form name"),
    ],
)
def test_what_cannot_be_parsed_is_named_with_the_operations(text, fragment, reason):
    with pytest.raises(ConfigError, match=fragment) as refusal:
        parse(text)
    message = str(refusal.value)
    assert reason in message
    assert all(op.signature in message for op in OPS.values())


def test_operations_that_do_not_fit_the_images_are_refused():
    with pytest.raises(ConfigError, match="3 means.*1 channel.*rgb"):
        parse("normalize(cifar10)")(images_of(1, 4, 4, 1))
    with pytest.raises(ConfigError, match="4x9"):
        parse("random_crop(4, reflect)")(images_of(1, 4, 9, 1), keys_of(1))


@pytest.mark.parametrize("shape, top, left", [((8, 8), 2, 2), ((9, 7), 2, 2), ((4, 6), 0, 1)])
def test_center_crop_takes_the_middle(shape, top, left):
    images = images_of(2, *shape, 3)
    np.testing.assert_allclose(
        compiled("center_crop(4)")(images),
        images[:, top : top + 4, left : left + 4] / 255,
        rtol=1e-6,
    )


def test_center_crop_larger_than_the_images_is_refused():
    with pytest.raises(
        ConfigError, match="center_crop\\(9\\) needs images at least as large; they are 8x8"
    ):
        parse("center_crop(9)")(images_of(1, 8, 8, 1))


def test_bgr_and_caffe_subtract_keras_means():
    images = images_of(2, 4, 4, 3)
    expected = images[..., ::-1] - np.array([103.939, 116.779, 123.68])
    np.testing.assert_allclose(compiled("bgr|normalize(caffe)")(images), expected, atol=1e-3)
