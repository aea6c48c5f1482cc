"""No finding is stated where there is none: one class, classes without images, perfect runs, little evidence."""

import numpy as np
import pytest

from imgcls_jax.data.checks import check
from imgcls_jax.evaluation import calibration
from imgcls_jax.evaluation.scores import score, softmax
from imgcls_jax.reporting import calibration as calibrations
from imgcls_jax.reporting import model_card, run_report, tables
from imgcls_jax.run.folder import DATA, PREDICTIONS, TEST


def said(probabilities, labels) -> str:
    return calibrations.sentence(
        calibration.calibrate((probabilities, labels), (probabilities, labels))
    )


def test_one_class_is_neither_over_nor_underconfident():
    found = calibration.calibrate(
        (np.ones((40, 1)), np.zeros(40, int)), (np.ones((40, 1)), np.zeros(40, int))
    )
    assert found["temperature"] == 1 and found["p"] == 1
    words = calibrations.sentence(found)
    assert words.startswith("The validation set shows neither over- nor underconfidence (p = 1)")
    assert "highest entropy" not in words


def test_confidences_that_are_right_as_often_as_they_say_are_no_finding():
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(300, 4))
    labels = np.array([random.choice(4, p=row) for row in softmax(logits)])
    assert "neither over- nor underconfidence" in said(softmax(logits), labels)
    assert "is overconfident" in said(softmax(3 * logits), labels)
    assert "is underconfident" in said(softmax(0.3 * logits), labels)


def test_where_all_are_right_no_temperature_is_best():
    probabilities = np.full((60, 3), 0.1)
    probabilities[np.arange(60), np.arange(60) % 3] = 0.8
    words = said(probabilities, np.arange(60) % 3)
    assert words.startswith("No temperature is best") and "highest entropy" not in words
    assert "neither over- nor underconfidence" in said(
        probabilities[:3], np.arange(3)
    )  # too few to say


def test_a_finding_of_an_older_version_is_still_said():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(100, 3)), np.arange(100) % 3
    probabilities = softmax(4 * (logits + np.eye(3)[labels]))
    found = calibration.calibrate((probabilities, labels), (probabilities, labels))
    del found["p"]
    assert "is overconfident" in calibrations.sentence(found)


@pytest.fixture
def absent(make_dataset, make_run):
    """A run of four classes, of the last of which there is no test image."""
    names = ("cat", "dog", "owl", "emu")
    train = make_dataset(40, class_names=names)
    test = train.take(np.flatnonzero(train.labels < 3))
    run = make_run(test)
    run.write_json(
        DATA,
        check({"train": train, "validation": train, "test": test})
        | {"origin": {"test": "somewhere"}},
    )
    run_report.write(run, train=train, test=test)
    return run


def test_a_class_without_test_images_has_no_figures(absent):
    rows = tables.class_rows(absent.test)
    assert rows[3] == ["emu", "\N{EN DASH}", "\N{EN DASH}", "\N{EN DASH}", "0"]
    note = "The class emu has no test image, and the means leave them out."
    page = (absent.path / "report.html").read_text()
    assert note in page and note in model_card._results(absent)
    assert "weakest class is emu" not in model_card._limits(absent)


def test_the_page_and_the_card_have_the_warnings_and_the_origin(absent):
    page = (absent.path / "report.html").read_text()
    assert '<p class="wrong">The class emu has no test image' in page and "somewhere" in page
    assert (
        "exact copies of train images" in page
        and "exact copies of train images" in model_card._limits(absent)
    )


def test_equal_classes_have_no_weakest(make_dataset, make_run):
    test = make_dataset(30)
    run = make_run(test)
    logits = 9 * np.eye(3)[test.labels]
    run.write_json(TEST, run.test | score(logits, test.labels, test.class_names))
    np.savez(
        run.path / PREDICTIONS, probabilities=softmax(logits).astype(np.float32), labels=test.labels
    )
    assert "weakest" not in model_card._limits(run)
