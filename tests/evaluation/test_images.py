"""Predictions for image files, a batch at a time."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.data.image_files import Reader
from imgcls_jax.evaluation.images import classify


class Brightness:
    """Three classes by the mean of an image; notes the size of every batch."""

    name = "brightness"
    class_names = ("dark", "grey", "light")

    def __init__(self, shape=(4, 4, 1), *, batch_size=4, reader=None):
        self.shape = shape
        self.batch_size = batch_size
        self.batches = []
        self.reader = reader or Reader(shape)

    def probabilities(self, images):
        assert images.dtype == np.uint8
        assert images.shape[1:] == self.shape
        self.batches.append(len(images))
        brightness = images.mean((1, 2, 3))[:, None] / 255
        scores = np.exp(-np.abs(brightness - [0, 0.5, 1]) * 9)
        return scores / scores.sum(1, keepdims=True)


@pytest.fixture
def files(tmp_path):
    """Eleven images, darkest first, of which the fourth and the last cannot be read."""
    paths = []
    for i in range(11):
        path = tmp_path / f"{i:02}.png"
        Image.fromarray(np.full((4, 4), 25 * i, np.uint8)).save(path)
        if i in (3, 10):
            path.write_bytes(b"no image")
        paths.append(str(path))
    return paths


@pytest.mark.parametrize("batch_size", [1, 3, 4, 11, 50])
def test_predictions_come_in_order_whatever_the_batch_size(files, batch_size):
    classifier = Brightness(batch_size=batch_size)
    lines = []
    for prediction in classify(classifier, files[::-1]):
        lines.append(prediction.to_json(classifier.class_names))
    assert [line["image"] for line in lines] == files[::-1]
    expected = ["light"] * 2 + ["grey"] * 4 + ["dark"] * 3
    assert [line["class"] for line in lines if "class" in line] == expected
    assert set(classifier.batches) == {batch_size}, "all of one size, the last one too"
    for line, path in ((lines[0], files[10]), (lines[7], files[3])):
        assert set(line) == {"image", "error"}
        assert f"{path} cannot be read as an image" in line["error"]


def test_a_prediction_names_the_five_most_probable_classes(files):
    class Many(Brightness):
        class_names = tuple(f"class {k}" for k in range(7))

        def probabilities(self, images):
            row = np.array([0.05, 0.4, 0.1, 0.02, 0.3, 0.1, 0.03])
            return np.tile(row, (len(images), 1))

    classifier = Many(reader=Reader((4, 4, 1), ground="light"))
    (prediction,) = classify(classifier, files[:1])
    assert prediction.to_json(Many.class_names) == {
        "image": files[0],
        "class": "class 1",
        "confidence": 0.4,
        "top": [
            ["class 1", 0.4],
            ["class 4", 0.3],
            ["class 2", 0.1],
            ["class 5", 0.1],
            ["class 0", 0.05],
        ],
        "inverted": True,
    }


def test_files_are_opened_a_batch_at_a_time(files):
    opened = []

    def read(path):
        opened.append(path)
        return Reader((4, 4, 1))(path)

    predictions = classify(Brightness(reader=read), files)
    assert not opened
    next(predictions)
    assert opened == files[:4]
    for _ in range(4):
        next(predictions)
    assert opened == files[:8]


def test_ten_thousand_files_need_the_memory_of_a_batch(tmp_path):
    """The pixels of all would take 123 MB."""
    path = tmp_path / "a.png"
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(path)
    classifier = Brightness((64, 64, 3), batch_size=128)
    tracemalloc.start()
    count = 0
    for prediction in classify(classifier, [str(path)] * 10_000):
        count += prediction.probabilities.argmax() == 2
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 10_000
    assert set(classifier.batches) == {128}
    assert peak < 20e6
