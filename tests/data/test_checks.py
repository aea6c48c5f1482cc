import dataclasses
import json
import logging

import numpy as np
import pytest

from imgcls_jax.data.checks import check, log_report, rare_class_warnings, sample_indices, summary
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import DataError

NAMES = ("cat", "dog", "owl")


def dataset(count=6, *, images=None, labels=None, names=NAMES):
    if images is None:
        images = np.arange(count * 12).astype(np.uint8).reshape(count, 2, 2, 3)
    return Dataset(
        images,
        np.arange(count, dtype=np.int32) % 3 if labels is None else np.asarray(labels),
        names,
    )


def test_the_report_says_what_is_there():
    train, test = dataset(6), dataset(4)
    report = check({"train": train, "test": test})
    assert json.loads(json.dumps(report)) == report
    assert report["class_names"] == list(NAMES)
    assert report["splits"]["test"] == {
        "examples": 4,
        "shape": [2, 2, 3],
        "dtype": "uint8",
        "missing": 0,
        "pixel_min": 0,
        "pixel_max": 47,
        "pixel_mean": 23.5,
        "label_min": 0,
        "label_max": 2,
        "class_counts": [2, 1, 1],
        "fingerprint": test.fingerprint,
    }


def test_the_report_says_how_many_gray_images_are_light_at_the_border():
    images = np.zeros((10, 8, 8, 1), np.uint8)
    images[:, 3:6, 3:6] = 255
    images[:4] = 255 - images[:4]
    gray = Dataset(images, np.arange(10, dtype=np.int32) % 3, NAMES)
    assert check({"train": gray})["splits"]["train"]["light_borders"] == 0.4


def test_the_fingerprint_follows_every_split():
    report = check({"train": dataset(6), "test": dataset(4)})
    assert report["fingerprint"] == check({"train": dataset(6), "test": dataset(4)})["fingerprint"]
    assert report["fingerprint"] != check({"train": dataset(6), "test": dataset(5)})["fingerprint"]
    assert report["fingerprint"] != check({"train": dataset(4), "test": dataset(6)})["fingerprint"]


def test_the_summary_is_an_aligned_table():
    lines = summary(check({"train": dataset(6), "test": dataset(4)})).splitlines()
    assert "2x2x3 uint8" in lines[2]
    assert [line.split() for line in lines if line.startswith("class owl")] == [
        ["class", "owl", "2", "1"]
    ]
    assert len({len(line) for line in lines[:-1]}) == 1


def test_the_summary_of_many_classes_is_short():
    names = tuple(f"n{i}" for i in range(100))
    text = summary(check({"train": dataset(200, labels=np.arange(200) % 100, names=names)}))
    assert "each of 100 classes" in text and "2 to 2" in text and len(text.splitlines()) < 10


def with_nan():
    images = np.zeros((6, 2, 2, 3), np.float32)
    images[4, 1, 0, 2] = np.nan
    return images


@pytest.mark.parametrize(
    "options, message",
    [
        ({"count": 0}, "no image in the train split"),
        ({"images": with_nan()}, r"1 pixel values of the train split are missing.*examples 4 "),
        (
            {"images": np.full((6, 2, 2, 3), 0.5)},
            r"float64, between 0.5 and 0.5; uint8.*\* 255\)\.round",
        ),
        ({"images": np.full((6, 2, 2, 3), 300)}, r"int64, between 300 and 300; uint8"),
        ({"images": np.zeros((6, 2, 2, 4), np.uint8)}, "6x2x2x4.*channels"),
        ({"images": np.zeros((6, 12), np.uint8)}, "6x12"),
        ({"labels": [0, 1, 2]}, "6 images but 3 labels"),
        ({"labels": np.eye(3)[[0, 1, 2, 0, 1, 2]]}, r"6x3.*argmax"),
        ({"labels": [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]}, "labels of the train split are float64"),
        (
            {"labels": [0, 1, 2, 3, 0, -1]},
            r"2 labels of the train split.*3, -1 at examples 3, 5 .*numbers 0 to 2",
        ),
        (
            {"labels": [9, 9, 9, 9, 9, 9]},
            r"9, 9, 9, 9, 9 and 1 more at examples 0, 1, 2, 3, 4 and 1 more ",
        ),
        ({"names": ("cat", "dog")}, "2 labels of the train split are out of range"),
    ],
)
def test_bad_data_is_refused(options, message):
    with pytest.raises(DataError, match=message):
        check({"train": dataset(**options), "test": dataset()})
    if options.get("count") != 0:
        with pytest.raises(DataError, match=message.replace("train", "test")):
            check({"train": dataset(), "test": dataset(**options)})


def test_splits_must_agree():
    with pytest.raises(DataError, match="test split are 3x2x3, those of the train split 2x2x3"):
        check({"train": dataset(), "test": dataset(images=np.zeros((6, 3, 2, 3), np.uint8))})
    with pytest.raises(
        DataError, match="test split has 4 classes cat, dog, owl, emu, the train split 3"
    ):
        check({"train": dataset(), "test": dataset(names=(*NAMES, "emu"))})


def test_classes_of_one_name_are_refused():
    with pytest.raises(DataError, match="Several classes of the train split have the name cat"):
        check({"train": dataset(names=("cat", "dog", "cat"))})


def test_sample_indices_are_seeded_and_of_their_class():
    labels = np.array([2, 0, 0, 0, 2, 0, 0])
    rows = sample_indices(labels, 3)
    assert [len(row) for row in rows] == [3, 0, 2]
    assert all(np.all(labels[row] == label) for label, row in enumerate(rows))
    assert len(set(rows[0].tolist())) == 3
    first = rows[0].tolist()
    assert sample_indices(labels, 3)[0].tolist() == first
    assert any(sample_indices(labels, 3, seed)[0].tolist() != first for seed in range(1, 6))


def warnings_of_rare(dataset, *, first=0, held_out=True):
    indices = np.arange(first, first + len(dataset))
    return rare_class_warnings(dataset, indices, held_out=held_out)


def test_classes_of_fewer_than_two_images_are_named():
    assert warnings_of_rare(dataset(6)) == []
    assert warnings_of_rare(dataset(4, labels=[0, 0, 1, 0]), held_out=False) == []
    (warning,) = warnings_of_rare(dataset(4, labels=[0, 0, 1, 0]))
    assert "fewer than 2 images" in warning
    assert "dog (1), owl (0)." in warning
    assert "cat" not in warning


def test_a_wrong_label_is_not_taken_for_a_class_in_silence():
    labels = [0, 1] * 21
    assert warnings_of_rare(dataset(21 * 2, labels=labels, names=NAMES[:2])) == []
    of_source = dataset(43, labels=[*labels[:7], 2, *labels[7:]])
    doubtful, rare = warnings_of_rare(of_source, first=10)  # ten that corrections leave out
    assert doubtful == (
        "The class owl has only 1 image, the median class 21: a wrong label? It is that of the "
        "training examples 17 (counted from 0)."
    )
    assert "owl (1)" in rare


def warnings_of(*, names=NAMES, **splits):
    """The warnings of splits, given as labels, or as labels and numbers of their images.

    Without numbers all images are different.
    """
    datasets = {}
    total = 0
    for split, labels in splits.items():
        if isinstance(labels, tuple):
            labels, numbers = labels
        else:
            numbers = range(total, total + len(labels))
        total += len(labels)
        base = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
        images = base + np.uint8(list(numbers)).reshape(-1, 1, 1, 1)
        datasets[split] = Dataset(images, np.array(labels, np.int32), names)
    report = check(datasets)
    assert json.loads(json.dumps(report)) == report
    return report["warnings"]


def test_good_data_has_no_warnings():
    assert warnings_of(train=[0, 1, 2, 0], validation=[2, 1, 0], test=[0, 1, 2]) == []


def test_one_class_is_warned_of():
    (warning,) = warnings_of(train=[0, 0], test=[0], names=("cat",))
    assert "only one class, cat" in warning


def test_unbalanced_training_images_are_warned_of():
    (warning,) = warnings_of(train=[0] * 6 + [1] * 3 + [2] * 2, test=[0, 1, 2])
    assert warning == (
        "The training images are unbalanced, 3 to 1: cat has 6 images, owl has 2. Let "
        "--config.train.monitor=balanced_accuracy pick the checkpoint, and try "
        "--config.train.logit_adjustment=1 (docs/unbalanced.md)."
    )
    assert warnings_of(train=[0] * 5 + [1] * 3 + [2] * 2, test=[0] * 6 + [1, 2]) == []
    # One wrong label makes no class, and no training set unbalanced.
    assert warnings_of(train=[0] * 30 + [1] * 25 + [2], test=[0, 1, 2]) == []


def test_labels_from_1_are_warned_of():
    (warning,) = warnings_of(train=[1, 2, 1], test=[1, 2], names=("0", "1", "2"))
    assert warning.startswith("The class 0 has no image in any split. Labels that count from 1 ")
    assert warning.endswith(" have to be lowered by 1.")
    (warning,) = warnings_of(train=[1, 2, 1], test=[1, 2])
    assert warning == "The class cat has no image in any split."


def test_absent_classes_are_warned_of_split_by_split():
    names = tuple(f"n{k}" for k in range(8))
    learned, validated, tested = warnings_of(
        train=[*range(7)], validation=[1, 2, 3, 4, 5, 6, 7], test=[0], names=names
    )
    assert learned == "The class n7 has no train image: such classes cannot be learned."
    assert validated == "The class n0 has no validation image."
    assert tested.startswith(
        "7 of 8 classes (n1, n2, n3, n4, n5 and 2 more) have no test image: such classes are not "
    )


def test_warnings_of_a_source_are_reported_once():
    whole = dataclasses.replace(dataset(6), warnings=("Two columns are one.",))
    report = check({"train": whole.take(np.arange(3)), "test": whole.take(np.arange(3, 6))})
    assert report["warnings"] == ["Two columns are one."]


def test_copies_across_splits_are_warned_of():
    labels = [0, 1, 2]
    warnings = warnings_of(
        train=(labels, [10, 11, 12]), validation=(labels, [20, 11, 22]), test=labels
    )
    assert warnings == [
        "1 of 3 validation images (33.33 %) are exact copies of train images: the model may have "
        "seen them before."
    ]
    same = (labels, [1, 2, 3])
    warnings = warnings_of(train=same, validation=same, test=same)
    assert len(warnings) == 3
    assert all("3 of 3" in warning for warning in warnings)


def test_the_report_is_logged_with_its_warnings(caplog):
    with caplog.at_level(logging.INFO):
        log_report(check({"train": dataset(6), "test": dataset(4)}))
    assert "Warning: 4 of 4 test images" in caplog.text
    assert "class owl" in caplog.text
