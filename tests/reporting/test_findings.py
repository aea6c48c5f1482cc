"""No finding is stated where there is none: one class, classes without images, perfect runs, little evidence."""

import numpy as np
import pytest

from imgcls_jax.data.checks import check
from imgcls_jax.evaluation import calibration
from imgcls_jax.evaluation.scores import score, softmax
from imgcls_jax.reporting import calibration as calibrations
from imgcls_jax.reporting import formats, model_card, run_report, tables
from imgcls_jax.run.folder import DATA, PREDICTIONS, TEST


def sentence_on(probabilities, labels) -> str:
    predictions = (probabilities, labels)
    return calibrations.sentence(calibration.calibrate(predictions, predictions))


def test_a_share_below_1_is_never_100_percent():
    assert formats.percent(1 - 1 / 26032) == "99.99 %"
    assert formats.percent(1.0) == "100.00 %"
    assert formats.percentage(0.99985) == "99.98"


def test_one_class_is_neither_over_nor_underconfident():
    predictions = (np.ones((40, 1)), np.zeros(40, int))
    results = calibration.calibrate(predictions, predictions)
    assert results["temperature"] == 1
    assert results["p"] == 1
    sentence = calibrations.sentence(results)
    assert sentence.startswith("The validation set shows neither over- nor underconfidence (p = 1)")
    assert "highest entropy" not in sentence


def test_confidences_that_are_right_as_often_as_they_say_are_no_finding():
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(300, 4))
    labels = np.array([random.choice(4, p=row) for row in softmax(logits)])
    assert "neither over- nor underconfidence" in sentence_on(softmax(logits), labels)
    assert "is overconfident" in sentence_on(softmax(3 * logits), labels)
    assert "is underconfident" in sentence_on(softmax(0.3 * logits), labels)


def test_where_all_are_right_no_temperature_is_best():
    probabilities = np.full((60, 3), 0.1)
    probabilities[np.arange(60), np.arange(60) % 3] = 0.8
    sentence = sentence_on(probabilities, np.arange(60) % 3)
    assert sentence.startswith("No temperature is best")
    assert "highest entropy" not in sentence
    too_few = sentence_on(probabilities[:3], np.arange(3))
    assert "neither over- nor underconfidence" in too_few


def test_few_validation_images_are_said_to_be_too_few_for_a_temperature():
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(2000, 4))
    labels = np.array([random.choice(4, p=row) for row in softmax(logits)])
    probabilities = softmax(3 * logits)
    few = calibration.calibrate((probabilities[:24], labels[:24]), (probabilities, labels))
    sentence = calibrations.sentence(few)
    interval = f"[{few['low']:.3g}, {few['high']:.3g}]"
    assert "is overconfident, but 24 validation images are too few to say by how much" in sentence
    assert interval in sentence
    calibrated = (softmax(logits[:24]), labels[:24])
    few = calibration.calibrate(calibrated, (probabilities, labels))
    sentence = calibrations.sentence(few)
    assert "neither over- nor underconfidence" in sentence
    interval = f"{few['low']:.3g} to {few['high']:.3g}"
    assert "But 24 validation images are too few to fit a temperature" in sentence
    assert f"the 95 % interval of the fitted one is {interval}." in sentence
    many = calibration.calibrate((probabilities, labels), (probabilities, labels))
    sentence = calibrations.sentence(many)
    assert "too few" not in sentence
    interval = f"{many['temperature']:.3g} [{many['low']:.3g}, {many['high']:.3g}]"
    assert f"fitted on the validation set is {interval}, and" in sentence
    assert calibrations.rows(many)[1][0] == f"At temperature {interval}"


def test_a_finding_of_an_older_version_is_still_said():
    logits = np.random.default_rng(0).normal(size=(100, 3))
    labels = np.arange(100) % 3
    predictions = (softmax(4 * (logits + np.eye(3)[labels])), labels)
    results = calibration.calibrate(predictions, predictions)
    for key in ("p", "low", "high", "validation_examples"):
        del results[key]
    assert "is overconfident" in calibrations.sentence(results)


@pytest.fixture
def absent(make_dataset, make_run):
    """A run of four classes, of the last of which there is no test image."""
    names = ("cat", "dog", "owl", "emu")
    train = make_dataset(40, class_names=names)
    test = train.take(np.flatnonzero(train.labels < 3))
    run = make_run(test)
    report = check({"train": train, "validation": train, "test": test})
    run.write_json(DATA, report | {"origin": {"test": "somewhere"}})
    run_report.write(run, train=train, test=test)
    return run


def test_a_class_without_test_images_has_no_figures(absent):
    rows = tables.class_rows(absent.test)
    assert rows[3] == ["emu", "\N{EN DASH}", "\N{EN DASH}", "\N{EN DASH}", "0"]
    note = "The class emu has no test image, and the means leave them out."
    page = (absent.path / "report.html").read_text()
    assert note in page
    assert note in model_card._results(absent)
    assert "weakest class is emu" not in model_card._limits(absent)


def test_the_page_and_the_card_have_the_warnings_and_the_origin(absent):
    page = (absent.path / "report.html").read_text()
    assert '<p class="wrong">The class emu has no test image' in page
    assert "somewhere" in page
    assert "exact copies of train images" in page
    assert "exact copies of train images" in model_card._limits(absent)


def test_equal_classes_have_no_weakest(make_dataset, make_run):
    test = make_dataset(30)
    run = make_run(test)
    logits = 9 * np.eye(3)[test.labels]
    run.write_json(TEST, run.test | score(logits, test.labels, test.class_names))
    probabilities = softmax(logits).astype(np.float32)
    np.savez(run.path / PREDICTIONS, probabilities=probabilities, labels=test.labels)
    assert "weakest" not in model_card._limits(run)
