import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.data import drawn
from imgcls_jax.data.borders import border
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.image_files import Reader, as_mnist, find
from imgcls_jax.errors import ConfigError

ROOT = Path(__file__).parents[2]


def draw_digits(seed, images_per_digit):
    """Pairs of a digit and its image."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(10), images_per_digit)
    return [(digit, drawn.draw(digit, generator)) for digit in labels]


def test_equal_seeds_draw_equal_digits_and_no_two_are_alike():
    triples = zip(draw_digits(0, 3), draw_digits(0, 3), draw_digits(1, 3), strict=True)
    for (_, image), (_, same), (_, different) in triples:
        np.testing.assert_array_equal(image, same)
        assert image.shape != different.shape or (image != different).any()


def test_digits_are_drawn_in_their_variety_and_can_be_told_apart():
    """Among other drawn digits, made as MNIST's, the nearest is nearly always the same digit."""
    images = [image for _, image in draw_digits(0, 8)]
    assert all(48 <= side <= 160 for image in images for side in image.shape)
    grounds = np.array([border(image) for image in images])
    assert 0.5 < (grounds > 127).mean() < 0.95

    def vectors(digits):
        rows = []
        for _, image in digits:
            if border(image) > 127:
                image = 255 - image
            rows.append(as_mnist(image).ravel())
        labels = np.array([digit for digit, _ in digits])
        return np.stack(rows).astype(float), labels

    references, labels = vectors(draw_digits(0, 30))
    queries, expected = vectors(draw_digits(1, 8))
    nearest = ((queries[:, None] - references[None]) ** 2).sum(-1).argmin(1)
    assert (labels[nearest] == expected).mean() > 0.9


def test_the_command_writes_class_folders_that_can_be_read(tmp_path):
    command = [sys.executable, "-m", "imgcls_jax.data.drawn"]
    result = subprocess.run(
        [*command, tmp_path / "out"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""  # runpy would warn of a module that is imported twice
    scans, pen_strokes = result.stdout.split()
    for folder, count in ((scans, 1797), (pen_strokes, 500)):
        files = find([folder])
        assert len(files) == count
        assert {Path(file).parent.name for file in files} == set("0123456789")
        image, _ = Reader((28, 28, 1), ground="dark", digits=True)(files[0])
        assert image.max() > 150
    with Image.open(find([scans])[0]) as image:
        assert image.size == (8, 8)
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "imgcls_jax.data.drawn FOLDER" in refused.stderr


def digits_of(shape=(28, 28, 1), names=tuple("0123456789")):
    images = np.random.default_rng(0).integers(0, 60, (30, *shape), dtype=np.uint8)
    return Dataset(images, np.arange(30, dtype=np.int32) % len(names), names)


def test_drawn_digits_follow_the_training_images():
    train = digits_of()
    larger = drawn.with_drawn(train, 3, seed=0)
    assert larger.fingerprint == drawn.with_drawn(train, 3, seed=0).fingerprint
    assert larger.fingerprint != drawn.with_drawn(train, 3, seed=1).fingerprint
    np.testing.assert_array_equal(larger.images[:30], train.images)
    assert larger.labels.dtype == np.int32
    assert np.bincount(larger.labels[30:]).tolist() == [3] * 10
    assert larger.images.dtype == np.uint8
    assert larger.images.shape == (60, 28, 28, 1)
    for image in larger.images[30:]:
        assert image.max() > 200
        assert border(image[..., 0]) < 30


@pytest.mark.parametrize(
    "other", [{"shape": (8, 8, 1)}, {"shape": (28, 28, 3)}, {"names": ("one", "other")}]
)
def test_drawn_digits_go_with_mnist_only(other):
    with pytest.raises(
        ConfigError,
        match=r"config\.data\.drawn is 2, but the images are .*28x28 of the classes 0 to 9",
    ):
        drawn.with_drawn(digits_of(**other), 2, seed=0)
