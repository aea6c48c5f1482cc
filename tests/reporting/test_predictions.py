"""The summary of predictions on image files."""

import numpy as np
from PIL import Image

from imgcls_jax.data.checks import image_digests
from imgcls_jax.evaluation.images import Prediction
from imgcls_jax.reporting.predictions import SHOWN, Summary
from imgcls_jax.run.folder import RunFolder

NAMES = ("cat", "dog", "costs $5")


def prediction(path, k, *, inverted=False, side=28):
    image = np.full((side, side, 1), 80 * k, np.uint8)
    return Prediction(path, image=image, probabilities=np.eye(3)[k] * 0.7 + 0.1, inverted=inverted)


def test_folders_named_like_classes_tell_the_accuracy(tmp_path):
    summary = Summary(NAMES)
    labelled = {
        "x/cat/1": 0,
        "x/cat/2": 1,
        "x/cat/3": 2,
        "cat/4": 1,
        "y/dog/1": 1,
        "costs $5/1": 2,
    }
    for path, k in labelled.items():
        summary.add(prediction(path, k, inverted=k == 1))
    for path in ("cat.png", "x/cats/cat", "x/bird/1"):  # in no class's folder
        summary.add(prediction(path, 0))
    summary.add(Prediction("dog/2", error="dog/2 is broken"))
    assert "9 images classified, 3 of them inverted" in summary.text()
    assert "1 image could not" in summary.text()
    lines = [line.split() for line in summary.text().splitlines()]
    assert "cat 4 1 25.00 dog (2), costs $5 (1)".split() in lines
    assert ["dog", "1", "1", "100.00"] in lines
    assert ["all", "6", "3", "50.00"] in lines
    printed = summary.write(RunFolder(tmp_path))
    assert printed.endswith(str(tmp_path / "predicted.png"))
    texts = [text.get_text() for text in summary.figure().texts]
    assert "cat \N{RIGHTWARDS ARROW} dog" in texts
    assert r"costs \$5" in texts
    assert texts.count("80.0 %") == 9
    with Image.open(tmp_path / "predicted.png") as picture:
        assert picture.width > 500


def test_without_such_folders_there_is_no_accuracy_and_the_first_images_are_shown():
    summary = Summary(NAMES)
    for i in range(3 * SHOWN):
        summary.add(prediction(f"{i}.png", 0 if i < SHOWN else 1))
    assert summary.text() == f"{3 * SHOWN} images classified."
    assert [text.get_text() for text in summary.figure().texts] == ["cat", "80.0 %"] * SHOWN


def test_successes_and_failures_of_all_classes_are_shown():
    summary = Summary(NAMES)
    for label, name in enumerate(NAMES):
        for i in range(200):
            summary.add(prediction(f"{name}/{i}", label if i < 150 else (label + 1) % 3))
    texts = [text.get_text() for text in summary.figure().texts]
    arrows = [text for text in texts if "\N{RIGHTWARDS ARROW}" in text]
    per_kind = SHOWN // 6  # of right and of wrong ones of each class
    assert len(texts) // 2 == 6 * per_kind
    assert len(arrows) == 3 * per_kind
    assert len(set(arrows)) == 3


def test_where_nothing_could_be_read_there_is_no_picture(tmp_path):
    summary = Summary(NAMES)
    summary.add(Prediction("a.png", error="a.png is broken"))
    assert "1 image could not be read" in summary.write(RunFolder(tmp_path))
    assert not list(tmp_path.iterdir())


def test_labels_of_a_file_of_rows_tell_the_accuracy():
    summary = Summary(NAMES)
    probabilities = np.eye(3)[0]
    image = np.zeros((8, 8, 1), np.uint8)
    for row, label in enumerate((0, 0, 1, 7, -1), 1):  # the last two are of no class
        summary.add(
            Prediction("cat/a.csv", row=row, label=label, image=image, probabilities=probabilities)
        )
    lines = [line.split() for line in summary.text().splitlines()]
    assert ["all", "3", "2", "66.67"] in lines
    assert "2 labels of none of the run's classes, 0 to 2: in no accuracy." in summary.text()


def test_images_that_were_trained_on_are_counted():
    trained = np.stack([prediction("a", k).image for k in (0, 1)])
    validated = prediction("a", 2).image[None]
    learned = {"train": image_digests(trained), "validation": image_digests(validated)}
    summary = Summary(NAMES, learned)
    for k in (0, 1, 2):
        summary.add(prediction(f"{NAMES[k]}/{k}.png", k))
    summary.add(prediction("cat/other.png", 0, side=9))
    text = " ".join(summary.text().split())
    assert "the run knows 3: 2 from its training set and 1 from its validation set." in text
    fresh = Summary(NAMES, learned)
    fresh.add(prediction("cat/other.png", 0, side=9))
    assert "the run knows" not in fresh.text()
