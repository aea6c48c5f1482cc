import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.data import drawn
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.image_files import Reader, as_mnist, border, find
from imgcls_jax.errors import ConfigError

ROOT = Path(__file__).parents[2]


def some(seed, each=8):
    random = np.random.default_rng(seed)
    return [(digit, drawn.draw(digit, random)) for digit in range(10) for _ in range(each)]


def test_equal_seeds_draw_equal_digits_and_no_two_are_alike():
    one, other, third = some(0, 3), some(0, 3), some(1, 3)
    for (_, a), (_, b), (_, c) in zip(one, other, third, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.shape != c.shape or (a != c).any()


def test_digits_are_drawn_in_their_variety_and_can_be_told_apart():
    """The nearest of other drawn digits, as MNIST would have them, is nearly always the same digit."""
    images = [image for _, image in some(0)]
    assert all(48 <= side <= 160 for image in images for side in image.shape)
    grounds = np.array([border(image) for image in images])
    assert 0.5 < (grounds > 127).mean() < 0.95

    def vectors(digits):
        upright = [255 - image if border(image) > 127 else image for _, image in digits]
        return np.stack([as_mnist(image).ravel() for image in upright]).astype(float), [
            digit for digit, _ in digits
        ]

    (known, labels), (asked, expected) = vectors(some(0, 30)), vectors(some(1))
    nearest = ((asked[:, None] - known[None]) ** 2).sum(-1).argmin(1)
    assert (np.array(labels)[nearest] == expected).mean() > 0.9


def test_the_command_writes_class_folders_that_can_be_read(tmp_path):
    command = [sys.executable, "-m", "imgcls_jax.data.drawn"]
    printed = subprocess.run(
        [*command, tmp_path / "out"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    scans, own = printed.split()
    for folder, count in ((scans, 1797), (own, 500)):
        files = find([folder])
        assert len(files) == count and {Path(file).parent.name for file in files} == set(
            "0123456789"
        )
        image, _ = Reader((28, 28, 1), ground="dark", digits=True)(files[0])
        assert image.max() > 150
    with Image.open(find([scans])[0]) as image:
        assert image.size == (8, 8)
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1 and "imgcls_jax.data.drawn FOLDER" in refused.stderr


def digits_of(shape=(28, 28, 1), names=tuple("0123456789")):
    images = np.random.default_rng(0).integers(0, 60, (30, *shape), dtype=np.uint8)
    return Dataset(images, np.arange(30, dtype=np.int32) % len(names), names)


def test_drawn_digits_are_added_behind_the_training_images():
    own = digits_of()
    more, again, other = (drawn.with_drawn(own, 3, seed=seed) for seed in (0, 0, 1))
    assert more.fingerprint == again.fingerprint != other.fingerprint
    np.testing.assert_array_equal(more.images[:30], own.images)
    assert more.labels.dtype == np.int32 and np.bincount(more.labels[30:]).tolist() == [3] * 10
    assert more.images.dtype == np.uint8 and more.images.shape == (60, 28, 28, 1)
    assert all(image.max() > 200 and border(image[..., 0]) < 30 for image in more.images[30:])


@pytest.mark.parametrize(
    "other", [{"shape": (8, 8, 1)}, {"shape": (28, 28, 3)}, {"names": ("one", "other")}]
)
def test_drawn_digits_go_with_mnist_alone(other):
    with pytest.raises(
        ConfigError,
        match=r"config\.data\.drawn is 2, but the images are .*28x28 of the classes 0 to 9",
    ):
        drawn.with_drawn(digits_of(**other), 2, seed=0)
