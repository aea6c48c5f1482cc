"""Corruptions of images, and the accuracy under them."""

import numpy as np
import pytest
from scipy import ndimage

from imgcls_jax.data.dataset import Dataset
from imgcls_jax.evaluation import robustness
from imgcls_jax.evaluation.robustness import CORRUPTIONS, SEVERITIES, corrupt
from imgcls_jax.reporting import robustness as tables
from imgcls_jax.reporting.plots import robustness as plots
from imgcls_jax.run.folder import RunFolder


def pictures(count=24, shape=(32, 32, 3)):
    """Clouds of colour in the middle of the range."""
    noise = np.random.default_rng(0).normal(size=(count, *shape))
    clouds = ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 0))
    return (120 + 250 * clouds).clip(40, 200).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_severity_and_is_the_same_each_time(name):
    images = pictures()
    damage = []
    for severity in SEVERITIES:
        corrupted = corrupt(images, name, severity)
        assert corrupted.dtype == np.uint8
        assert corrupted.shape == images.shape
        np.testing.assert_array_equal(corrupted, corrupt(images, name, severity))
        difference = corrupted.astype(float) - images
        damage.append((difference**2).mean())
    assert damage[0] > 0
    assert (np.diff(damage) > 0).all(), damage


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(28, 28, 1), (17, 40, 3)])
def test_gray_and_oblong_images(name, shape):
    assert corrupt(pictures(3, shape), name, 3).shape == (3, *shape)


@pytest.mark.parametrize("name", ["gaussian_blur", "contrast", "jpeg", "gaussian_noise"])
def test_chunks_change_nothing(name, monkeypatch):
    images = pictures(10)
    whole = corrupt(images, name, 2)
    monkeypatch.setattr(robustness, "CHUNK_SIZE", 3)
    np.testing.assert_array_equal(corrupt(images, name, 2), whole)


def test_seeds_differ():
    images = pictures()
    assert (corrupt(images, "fog", 2) != corrupt(images, "fog", 2, seed=1)).any()


class BrightnessPredictor:
    """Stands for a Predictor; reads the label off an image's mean."""

    def __init__(self, run):
        pass

    def logits(self, images):
        light = images.mean((1, 2, 3)) > 120
        return np.stack([~light, light], 1).astype(np.float32)


def test_table_and_plot_hold_what_was_measured(monkeypatch, tmp_path):
    test = Dataset(pictures(40), np.zeros(40, np.int32), ("dark", "light"))
    test.labels[:] = test.images.mean((1, 2, 3)) > 120
    monkeypatch.setattr(robustness, "Predictor", BrightnessPredictor)
    run = RunFolder(tmp_path)
    result = robustness.evaluate(run, test, limit=30)
    accuracies = result["corruptions"]
    assert result["examples"] == 30
    assert result["clean"] == 1
    assert set(accuracies) == set(CORRUPTIONS)
    assert accuracies["contrast"] == pytest.approx([1] * 5, abs=0.1)
    brightest = accuracies["brightness"][-1]
    assert abs(brightest - test.sample(30).labels.mean()) < 0.1
    assert brightest < result["clean"]
    assert result["mean"] == pytest.approx(np.mean(list(accuracies.values())))
    table = tables.write(run, result)
    for text in ("| JPEG |", f"| {100 * brightest:.2f} |", "30 images"):
        assert text in table
    assert run.read_json("robustness.json") == result
    assert (tmp_path / "robustness.png").stat().st_size > 5000
    assert len((tmp_path / "robustness.csv").read_text().splitlines()) == 2 + 5 * len(CORRUPTIONS)


@pytest.mark.parametrize("clean, corrupted", [(0.2, 0.5), (0.99, 0.1), (0.0, 0.0), (1.0, 1.0)])
def test_the_plot_shows_every_accuracy(clean, corrupted):
    """Of a few images more may be right corrupted than clean."""
    accuracies = {"fog": [corrupted] * 5, "jpeg": [clean] * 5}
    figure = plots.draw({"clean": clean, "corruptions": accuracies})
    low, high = figure.axes[0].get_ylim()
    assert low <= 100 * min(clean, corrupted)
    assert 100 * max(clean, corrupted) <= high
    *_, curve = figure.axes[0].lines
    assert not curve.get_clip_on()  # at the ends of the axis markers are whole
