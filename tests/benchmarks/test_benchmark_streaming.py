"""The images of the benchmark of streaming."""

import numpy as np

from benchmarks import streaming
from imgcls_jax.data import folder


def test_every_link_is_an_image_and_classes_differ_in_brightness(tmp_path):
    streaming.make(tmp_path / "images", 450)
    files = folder.find_images(tmp_path / "images")
    assert len(files["train"]) == len(files["test"]) == streaming.CLASSES
    counts = {split: sum(map(len, classes.values())) for split, classes in files.items()}
    assert counts == {"train": 360, "test": 90}
    train = folder.read_folder(files)["train"]
    assert train.images.shape == (360, 224, 224, 3)
    means = []
    for label in range(streaming.CLASSES):
        first = 36 * label
        means.append(train.images[[first, first + 35]].mean())
    assert (np.diff(means) > 0).all()
