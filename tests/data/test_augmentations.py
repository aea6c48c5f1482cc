"""Each random operation against slow NumPy, SciPy or the standard library, and what it draws."""

import colorsys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from imgcls_jax.data.augmentations import color, geometric
from imgcls_jax.data.augmentations.color import turn_hue
from imgcls_jax.data.augmentations.geometric import warp
from imgcls_jax.data.transforms import OPS, parse
from imgcls_jax.errors import ConfigError

EVERYTHING = (
    "random_crop(2, reflect)|random_resized_crop(.5)|random_gray(.5)"
    "|flip|rotation(10)|affine(10, .1, .9, 1.1, 5)|color_jitter(.3, .3, .3, .1)"
    "|normalize(cifar10)|cutout(3)|mixup(.4)"
)


def images_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def run(text, images, keys=None):
    return np.asarray(jax.jit(parse(text))(images, keys_of(len(images)) if keys is None else keys))


def slow_warp(image, angle, shear, scale, shift, order, mode):
    """The forward matrix of torchvision's RandomAffine, in (right, down) from the centre."""
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(matrix @ np.array([[1, -np.tan(shear)], [0, 1]]))
    height, width, channels = image.shape
    places = np.zeros((2, height, width))
    for down in range(height):
        for right in range(width):
            from_centre = np.array(
                [right - (width - 1) / 2 - shift[1], down - (height - 1) / 2 - shift[0]]
            )
            x, y = inverse @ from_centre
            places[:, down, right] = y + (height - 1) / 2, x + (width - 1) / 2
    warped = [
        ndimage.map_coordinates(image[..., c], places, order=order, mode=mode)
        for c in range(channels)
    ]
    return np.stack(warped, -1)


@pytest.mark.parametrize(
    "fill, mode", [("zero", "grid-constant"), ("nearest", "nearest"), ("reflect", "mirror")]
)
@pytest.mark.parametrize("smooth", [True, False])
def test_warp(smooth, fill, mode):
    images = images_of(4, 9, 12, 3).astype(np.float32) / 255
    angles, shears = np.array([0.0, 0.3, -2.0, 1.0]), np.array([0.0, 0.0, 0.2, -0.4])
    scales, shifts = np.array([1.0, 1.0, 1.2, 0.7]), np.array([[0, 0], [1, -2], [0, 3], [-2, 1]])
    draws = map(jnp.asarray, (angles, shears, scales, shifts))
    out = warp(jnp.asarray(images), *draws, smooth=smooth, fill=fill)
    for image, warped, *drawn in zip(images, out, angles, shears, scales, shifts, strict=True):
        expected = slow_warp(image.astype(np.float64), *drawn, order=int(smooth), mode=mode)
        wrong = np.abs(warped - expected).max(-1) > 1e-4
        # Halfway between two pixels either of them is the nearest.
        tolerance = 0 if smooth else 0.02
        assert wrong.mean() <= tolerance
    np.testing.assert_allclose(out[0], images[0], atol=1e-6)


def test_affine_draws_within_its_bounds(monkeypatch):
    drawn = []

    def warp(images, *draws, smooth, fill):
        drawn.append((*draws, smooth))
        return images

    monkeypatch.setattr(geometric, "warp", warp)
    images = images_of(2000, 10, 20, 1)
    parse("affine(30, .2, .8, 1.4, 10, nearest)")(images, keys_of(2000))
    angles, shears, scales, shifts, smooth = map(np.asarray, drawn[0])
    assert not smooth
    for values, low, high in (
        (np.rad2deg(angles), -30, 30),
        (np.rad2deg(shears), -10, 10),
        (scales, 0.8, 1.4),
        (shifts[:, 0], -2, 2),
        (shifts[:, 1], -4, 4),
    ):
        assert low - 1e-4 <= values.min() and values.max() <= high + 1e-4
        assert abs(values.mean() - (low + high) / 2) < 0.05 * (high - low)
        assert values.std() > 0.25 * (high - low)
    assert np.array_equal(shifts, shifts.round())
    parse("rotation(45)")(images, keys_of(2000))
    angles, shears, scales, shifts, smooth = map(np.asarray, drawn[1])
    assert 44 < np.rad2deg(angles).max() <= 45
    assert not shears.any()
    assert not shifts.any()
    assert (scales == 1).all()
    assert smooth


def test_what_affine_lets_in_from_outside():
    images = np.full((50, 8, 8, 1), 200, np.uint8)
    assert run("affine(15, .1, .9, 1.1)", images).min() == 0
    np.testing.assert_allclose(
        run("affine(15, .1, .9, 1.1, fill=nearest)", images), 200 / 255, atol=1e-6
    )


@pytest.mark.parametrize("fill", ["nearest", "reflect"])
def test_a_rotation_has_no_black_corners_where_that_is_asked_for(fill):
    images = np.full((50, 8, 9, 3), 200, np.uint8)
    zeros = run("rotation(30)", images)
    assert zeros.min() == 0
    np.testing.assert_array_equal(zeros, run("rotation(30, fill=zero)", images))
    np.testing.assert_allclose(run(f"rotation(30, fill={fill})", images), 200 / 255, atol=1e-6)
    lines = run(f"rotation(90, fill={fill})", np.full((5, 1, 6, 1), 200, np.uint8))
    np.testing.assert_allclose(lines, 200 / 255, atol=1e-6)


def test_turned_hue_equals_the_standard_librarys():
    random = np.random.default_rng(0)
    images = random.random((3, 4, 5, 3)).astype(np.float32)
    images[0, 0] = images[0, 0, :, :1]  # grays have no hue
    turns = np.array([0.3, -0.45, 0.0], np.float32)
    out = np.asarray(turn_hue(jnp.asarray(images), jnp.asarray(turns)))
    for image, turned, turn in zip(images, out, turns, strict=True):
        for before, after in zip(image.reshape(-1, 3), turned.reshape(-1, 3), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*before.astype(float))
            np.testing.assert_allclose(
                after, colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value), atol=1e-5
            )


def test_colour_jitter_turns_the_hue_evenly_within_its_bounds(monkeypatch):
    drawn = []

    def turn_hue(images, turns):
        drawn.append(np.asarray(turns))
        return images

    monkeypatch.setattr(color, "turn_hue", turn_hue)
    parse("color_jitter(hue=.2)")(images_of(2000, 2, 2, 3), keys_of(2000))
    (turns,) = drawn
    counts, _ = np.histogram(turns, bins=10, range=(-0.2, 0.2))
    assert np.abs(turns).max() <= 0.2
    assert counts.sum() == 2000
    assert 140 < counts.min() and counts.max() < 260


def test_hues_of_two_equal_channels_stay_when_everything_is_compiled_as_one():
    """Yellow has two largest channels, which rounding may part: the hue must not jump."""
    images = images_of(64, 16, 16, 3)
    images[..., 2] = images[..., :2].min(-1) // 2
    images[..., 1] = images[..., 0]
    out = run("color_jitter(.3, .3, .3, .01)", images)
    assert (out[..., 2] <= out[..., :2].min(-1) + 0.02).all()


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_colour_jitter_blends_with_one_factor_an_image(kind):
    images = images_of(200, 4, 4, 3) // 4 + 96  # nothing is clipped
    scaled = images / 255
    luma = (scaled @ np.array([0.299, 0.587, 0.114]))[..., None]
    others = {
        "brightness": 0 * luma,
        "contrast": luma.mean((1, 2, 3), keepdims=True),
        "saturation": luma,
    }[kind]
    out = run(f"color_jitter({kind}=.25)", images)
    span = np.broadcast_to(scaled - others, scaled.shape)
    factors = ((out - others) * span).sum((1, 2, 3)) / (span**2).sum((1, 2, 3))
    np.testing.assert_allclose(out, factors[:, None, None, None] * span + others, atol=1e-5)
    assert 0.75 <= factors.min() < 0.78
    assert 1.22 < factors.max() <= 1.25001
    assert abs(factors.mean() - 1) < 0.04


def test_colour_jitter_stays_in_range_and_knows_gray_images():
    out = run("color_jitter(2, 2, 2, .5)", images_of(64, 4, 4, 3))
    assert out.min() >= 0 and out.max() <= 1
    assert run("color_jitter(.5, .5)", images_of(2, 4, 4, 1)).shape == (2, 4, 4, 1)
    with pytest.raises(ConfigError, match="saturation and hue are of colours"):
        parse("color_jitter(0, 0, .1)")(images_of(2, 4, 4, 1), keys_of(2))


def test_cutout_blackens_a_square_anywhere():
    images = images_of(600, 7, 9, 1) // 2 + 100
    holes = run("cutout(3)", images)[..., 0] == 0
    centres = set()
    for hole in holes:
        rows, columns = np.nonzero(hole)
        top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
        assert hole.sum() == (bottom - top + 1) * (right - left + 1)  # it is a box
        assert bottom - top <= 2
        if 0 < top and bottom < 6:
            assert bottom - top == 2
        centres.add((bottom - 1 if top == 0 else top + 1, right - 1 if left == 0 else left + 1))
    assert len(centres) == 7 * 9


def mixed(text, count=400):
    images, partners = (
        jnp.asarray(images_of(count, 6, 8, 3, seed=seed) / 255, jnp.float32) for seed in (0, 1)
    )
    out, share = jax.jit(parse(text).mix)(images, partners, keys_of(count))
    return np.asarray(images), np.asarray(partners), np.asarray(out), np.asarray(share)


def test_mixup():
    images, partners, out, share = mixed("mixup(.4)")
    weight = share[:, None, None, None]
    np.testing.assert_allclose(out, weight * images + (1 - weight) * partners, atol=1e-6)
    # Mean and variance of Beta(0.4, 0.4).
    assert abs(share.mean() - 0.5) < 0.07
    assert abs(share.var() - 0.25 / 1.8) < 0.02


def test_cutmix_labels_by_the_area_left():
    images, partners, out, share = mixed("cutmix")
    of_image = (out == images).all(-1)
    of_partner = (out == partners).all(-1)
    assert (of_image ^ of_partner).all()
    np.testing.assert_allclose(of_image.mean((1, 2)), share, atol=1e-6)
    for box in of_partner:
        rows, columns = np.nonzero(box)
        if len(rows):
            assert box.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert share.min() < 0.3
    assert share.max() == 1


def test_mixing_comes_last_and_once():
    transform = parse("flip|mixup(.2)")
    assert transform.random and len(transform.ops) == 1 and transform.mix.alpha == 0.2
    assert parse("mixup").mix is not None and parse("flip").mix is None
    for text in ("mixup|flip", "mixup(.2)|cutmix"):
        with pytest.raises(
            ConfigError, match="operation 2, at character .*nothing may follow mixup"
        ):
            parse(text)


def test_the_augmentation_that_the_docs_add(monkeypatch):
    code = Path("docs/data.md").read_text().split("```python\n")[1].split("```")[0]
    definitions = {}
    exec(code, definitions)
    monkeypatch.setitem(OPS, "solarize", definitions["Solarize"])
    images = images_of(200, 4, 4, 3)
    scaled = images / np.float32(255)
    inverted = np.where(scaled > 0.5, 1 - scaled, scaled)
    out = run("solarize(.25)", images)
    is_inverted = np.isclose(out, inverted, atol=1e-6).all((1, 2, 3))
    is_same = np.isclose(out, scaled, atol=1e-6).all((1, 2, 3))
    assert (is_inverted ^ is_same).all()
    assert 30 < is_inverted.sum() < 70
    np.testing.assert_allclose(parse("solarize(.25)")(images), scaled, atol=1e-6)
    with pytest.raises(ConfigError, match="operation 1, at character 1.*from 0 to 1, not 2"):
        parse("solarize(2)")


def test_an_image_depends_on_its_own_key_alone():
    images, keys = images_of(8, 9, 9, 3), keys_of(8)
    whole = run(EVERYTHING, images, keys)
    np.testing.assert_allclose(
        run(EVERYTHING, images[[5, 2]], keys[np.array([5, 2])]), whole[[5, 2]], atol=1e-5
    )
    assert not np.allclose(whole, run(EVERYTHING, images, keys_of(8, seed=1)))


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("flip|rotatoin(10)", "operation 2, at character 6", "Did you mean 'rotation'"),
        ("flip| affine(200)", "operation 2, at character 7", "from 0 to 180"),
        ("affine(5, 2.0)", "operation 1, at character 1", "share of the side"),
        ("affine(5, 0, 1.2, .8)", "operation 1", "the low one first"),
        ("rotation(5, bicubic)", "operation 1", "bilinear, nearest"),
        ("affine(5, fill=black)", "operation 1", "nearest, reflect, zero"),
        ("color_jitter(-.1)", "operation 1", "0 or more"),
        ("color_jitter(hue=.6)", "operation 1", "half the circle"),
        ("cutout(0)", "operation 1", "whole number above 0"),
        ("mixup(0)", "operation 1", "above 0"),
    ],
)
def test_refusals_say_where(text, where, reason):
    with pytest.raises(ConfigError) as refusal:
        parse(text)
    message = str(refusal.value)
    assert where in message
    assert reason in message
    assert "random_crop(padding" in message


@pytest.fixture
def boxes(monkeypatch):
    """The random boxes: (size, start) of the rows, then of the columns, as shares of the sides."""
    drawn = []
    interpolation_weights = geometric.interpolation_weights

    def record(length, size, start):
        drawn.append((np.asarray(size), np.asarray(start)))
        return interpolation_weights(length, size, start)

    monkeypatch.setattr(geometric, "interpolation_weights", record)
    return drawn


def test_random_resized_crop_is_pillows_of_the_same_box(boxes):
    images = images_of(5, 9, 12, 3)
    out = parse("random_resized_crop(.2, .9)")(images, keys_of(5))
    (rows, down), (columns, right) = boxes
    for n, image in enumerate(images):
        box = (12 * right[n], 9 * down[n], 12 * (right[n] + columns[n]), 9 * (down[n] + rows[n]))
        for channel in range(3):
            plane = Image.fromarray(image[..., channel].astype(np.float32) / 255)
            expected = plane.transform(
                (12, 9), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR
            )
            np.testing.assert_allclose(out[n, ..., channel], np.asarray(expected), atol=1e-5)


def test_random_resized_crop_draws_within_its_bounds(monkeypatch, boxes):
    parse("random_resized_crop(.2, .5)")(images_of(2000, 4, 4, 1), keys_of(2000))
    (rows, down), (columns, right) = boxes
    areas, ratios = rows * columns, columns / rows
    assert 0.2 <= areas.min() < 0.21 and 0.49 < areas.max() <= 0.5 + 1e-6
    assert 0.75 - 1e-6 <= ratios.min() < 0.76 and 1.32 < ratios.max() <= 4 / 3 + 1e-6
    assert down.min() >= 0 and (down + rows).max() <= 1 + 1e-6 and right.std() > 0.1
    whole = images_of(3, 6, 6, 3)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.array([1.0, 0.5, 0.3, 0.6]))
    np.testing.assert_allclose(
        parse("random_resized_crop(.2)")(whole, keys_of(3)), whole / 255, atol=1e-6
    )


def test_random_gray_takes_the_colour_of_a_share():
    images = images_of(1000, 3, 3, 3)
    out = run("random_gray(.3)", images)
    plain = images / np.float32(255)
    gray = np.repeat(plain @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, -1)
    is_gray = np.abs(out - gray).max((1, 2, 3)) < 1e-5
    is_unchanged = np.abs(out - plain).max((1, 2, 3)) < 1e-6
    assert is_unchanged.sum() == (~is_gray).sum()
    assert 0.25 < is_gray.mean() < 0.35


@pytest.mark.parametrize(
    "text", ["random_resized_crop(0)", "random_resized_crop(.5, .2)", "random_gray(2)"]
)
def test_bad_shares_are_refused(text):
    with pytest.raises(ConfigError, match="give"):
        parse(text)
