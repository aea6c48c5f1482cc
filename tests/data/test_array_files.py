"""CSV and .npz files of images to classify."""

import numpy as np
import pytest

from imgcls_jax.data import array_files
from imgcls_jax.errors import DataError

IMAGES = np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2, 1)
LABELS = np.array([2, 0, 1])
SHAPE = (2, 2, 1)


def csv_file(folder, *, labels=None):
    names = ["a", "b", "c", "d"]
    rows = IMAGES.reshape(3, 4)
    if labels is not None:
        names.insert(1, "Label")
        rows = np.insert(rows, 1, labels, axis=1)
    lines = [",".join(names)]
    for row in rows:
        lines.append(",".join(map(str, row)))
    path = folder / "test.csv"
    path.write_text("\n".join(lines))
    return str(path)


def npz_file(folder, **arrays):
    path = folder / "test.npz"
    np.savez(path, **arrays)
    return str(path)


def test_array_files_are_known_by_their_suffix():
    for name in ("a.csv", "A.CSV", "b.csv.gz", "c.npz"):
        assert array_files.is_array_file(name)
    for name in ("a.png", "csv", "a.csv.png", "npz/a.jpg"):
        assert not array_files.is_array_file(name)


@pytest.mark.parametrize("labels", [None, LABELS])
def test_a_csv_file_with_and_without_labels_is_read(labels, tmp_path):
    images, read_labels = array_files.read(csv_file(tmp_path, labels=labels), SHAPE)
    np.testing.assert_array_equal(images, IMAGES)
    if labels is None:
        assert read_labels is None
    else:
        np.testing.assert_array_equal(read_labels, labels)


@pytest.mark.parametrize(
    ("arrays", "labels"),
    [
        ({"images": IMAGES}, None),
        ({"images": IMAGES[..., 0], "labels": LABELS[:, None]}, LABELS),
        ({"x_test": IMAGES, "x_train": 1 + IMAGES, "y_train": LABELS}, None),
        ({"test_images": IMAGES, "test_labels": LABELS, "train_images": IMAGES}, LABELS),
    ],
)
def test_an_npz_file_gives_its_images_or_its_test_set(arrays, labels, tmp_path):
    images, read_labels = array_files.read(npz_file(tmp_path, **arrays), SHAPE)
    np.testing.assert_array_equal(images, IMAGES)
    if labels is None:
        assert read_labels is None
    else:
        np.testing.assert_array_equal(read_labels, labels)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"images": IMAGES[:, :1]}, "holds images of 1x2x1 uint8; this model takes 2x2x1"),
        ({"images": IMAGES / 255}, "float64; this model takes"),
        ({"pictures": IMAGES}, "has no array images; it holds pictures"),
        ({"images": IMAGES, "labels": LABELS[:2]}, "for 3 images"),
        ({"images": IMAGES, "labels": LABELS / 2}, "labels is float64"),
    ],
)
def test_npz_files_that_do_not_fit_are_refused(arrays, says, tmp_path):
    with pytest.raises(DataError, match=says):
        array_files.read(npz_file(tmp_path, **arrays), SHAPE)


def test_what_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "damaged.npz").write_text("no archive")
    (tmp_path / "words.csv").write_text("a,b,c,d\n1,2,3,x\n")
    for name, says in (
        ("folder.csv", "cannot be read"),
        ("damaged.npz", "cannot be read"),
        ("missing.csv", "cannot be read"),
        ("words.csv", "line 2, column 4"),
    ):
        with pytest.raises(DataError, match=says):
            array_files.read(str(tmp_path / name), SHAPE)
