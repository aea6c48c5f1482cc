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
    noise = ndimage.gaussian_filter(
        np.random.default_rng(0).normal(size=(count, *shape)), (0, 1.5, 1.5, 0)
    )
    return (120 + 250 * noise).clip(40, 200).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_severity_and_is_the_same_each_time(name):
    images = pictures()
    damage = []
    for severity in SEVERITIES:
        out = corrupt(images, name, severity)
        assert out.dtype == np.uint8 and out.shape == images.shape
        np.testing.assert_array_equal(out, corrupt(images, name, severity))
        damage.append(((out.astype(float) - images) ** 2).mean())
    assert damage[0] > 0 and (np.diff(damage) > 0).all(), damage


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(28, 28, 1), (17, 40, 3)])
def test_gray_and_oblong_images(name, shape):
    assert corrupt(pictures(3, shape), name, 3).shape == (3, *shape)


def test_chunks_change_nothing(monkeypatch):
    images = pictures(10)
    whole = {
        name: corrupt(images, name, 2)
        for name in ("gaussian_blur", "contrast", "jpeg", "gaussian_noise")
    }
    monkeypatch.setattr(robustness, "CHUNK", 3)
    for name, expected in whole.items():
        np.testing.assert_array_equal(corrupt(images, name, 2), expected)


def test_seeds_differ():
    images = pictures()
    assert (corrupt(images, "fog", 2) != corrupt(images, "fog", 2, seed=1)).any()


def test_table_and_plot_hold_what_was_measured(monkeypatch, tmp_path):
    """With a predictor that reads the label off an image's mean."""
    test = Dataset(pictures(40), np.zeros(40, np.int32), ("dark", "light"))
    test.labels[:] = test.images.mean((1, 2, 3)) > 120

    class Predictor:
        def __init__(self, run):
            pass

        def logits(self, images):
            light = images.mean((1, 2, 3)) > 120
            return np.stack([~light, light], 1).astype(np.float32)

    monkeypatch.setattr(robustness, "Predictor", Predictor)
    run = RunFolder(tmp_path)
    found = robustness.evaluate(run, test, limit=30)
    assert (
        found["examples"] == 30
        and found["clean"] == 1
        and set(found["corruptions"]) == set(CORRUPTIONS)
    )
    assert found["corruptions"]["contrast"] == pytest.approx([1] * 5, abs=0.1)
    light = found["corruptions"]["brightness"]
    assert abs(light[-1] - test.labels[:30].mean()) < 0.1 and light[-1] < found["clean"]
    assert found["mean"] == pytest.approx(np.mean(list(found["corruptions"].values())))
    table = tables.write(run, found)
    assert "| JPEG |" in table and f"| {100 * light[-1]:.2f} |" in table and "30 images" in table
    assert run.read_json("robustness.json") == found
    assert (tmp_path / "robustness.png").stat().st_size > 5000
    assert len((tmp_path / "robustness.csv").read_text().splitlines()) == 2 + 5 * len(CORRUPTIONS)


@pytest.mark.parametrize("clean, corrupted", [(0.2, 0.5), (0.99, 0.1), (0.0, 0.0), (1.0, 1.0)])
def test_the_plot_shows_every_accuracy(clean, corrupted):
    """Of a few images more may be right corrupted than clean."""
    axes = plots.draw(
        {"clean": clean, "corruptions": {"fog": [corrupted] * 5, "jpeg": [clean] * 5}}
    ).axes[0]
    low, high = axes.get_ylim()
    assert low < 100 * min(clean, corrupted) and 100 * max(clean, corrupted) < high
