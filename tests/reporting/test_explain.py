import numpy as np
import pytest
from PIL import Image

from imgcls_jax import commands
from imgcls_jax.evaluation.gradcam import METHODS, pick
from imgcls_jax.reporting import explain, run_report


def explained(run, test, method="gradcam"):
    """What `gradcam.explain` would return of a run, with maps that are bright at the upper left."""
    examples = pick(*run.predictions, seed=0)
    ramp = np.linspace(1, 0, test.images.shape[1])[:, None] * np.linspace(
        1, 0, test.images.shape[2]
    )
    maps = np.broadcast_to(ramp.astype(np.float32), (len(examples), 2, *ramp.shape))
    return {"method": method, "seed": 0, "examples": examples}, maps


@pytest.mark.parametrize("channels", [1, 3])
def test_overlay_colours_what_the_map_marks(channels):
    image = np.full((8, 10, channels), 128, np.uint8)
    heat = np.zeros((8, 10))
    heat[2, 3:5] = 0.7
    drawn = explain.overlay(image, heat).astype(int)
    assert drawn.shape == (8, 10, 3)
    warm = drawn[..., 0] - drawn[..., 2]  # red less blue
    assert (warm[2, 3:5] > 50).all() and (np.delete(warm.ravel(), [23, 24]) <= 1).all()
    np.testing.assert_array_equal(
        drawn, explain.overlay(image, 1e-9 * heat)
    )  # each on a scale of its own


def test_overlay_of_a_map_with_a_single_bright_pixel():
    """Which is less than the hundredth that saturates."""
    heat = np.zeros((20, 20), np.float32)
    heat[3, 4] = 5
    drawn = explain.overlay(np.zeros((20, 20, 1), np.uint8), heat).max(-1)
    assert drawn[3, 4] > 190 and np.delete(drawn.ravel(), 64).max() < 5


def test_overlay_of_an_empty_map_is_the_image_in_grey():
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    drawn = explain.overlay(image, np.zeros((6, 6)))
    assert np.ptp(drawn.astype(int), axis=-1).max() <= 2
    assert np.corrcoef(drawn[..., 0].ravel(), image.mean(-1).ravel())[0, 1] > 0.99


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (200, 100, 3)])
def test_the_picture_shows_the_images_as_they_are(make_dataset, make_run, shape):
    """Every pixel of the first image enlarged to a square, beside its overlay."""
    test = make_dataset(60, shape=shape)
    run = make_run(test)
    found, maps = explained(run, test)
    explain.write(run, test, found, maps)
    picture = np.asarray(Image.open(run.path / "explain.png").convert("RGB")).astype(int)
    assert picture.shape[1] < 1250 and run.read_json("explain.json") == found
    if max(shape) > explain.LARGE:
        return
    image, factor = test.images[found["examples"][0]["index"]], round(explain.SMALL / max(shape))
    side = factor * shape[0]
    for n, expected in enumerate((image, explain.overlay(image, maps[0, 0]))):
        left = 10 + n * (side + 4)
        tile = picture[40 : 40 + side, left : left + side].reshape(
            shape[0], factor, shape[1], factor, 3
        )
        np.testing.assert_allclose(
            tile, np.broadcast_to(expected, (*shape[:2], 3))[:, None, :, None] + 0 * tile, atol=1
        )


def test_captions_name_true_and_predicted_class(make_dataset, make_run):
    test = make_dataset(60)
    run = make_run(test)
    found, maps = explained(run, test)
    texts = [text.get_text() for text in explain.plot(test, found, maps).texts]
    assert [text for text in texts if "," in text][:2] == [
        "Right, most confident",
        "Right, in the middle",
    ]
    wrong = [each for each in found["examples"] if each["label"] != each["prediction"]]
    assert sum("\N{RIGHTWARDS ARROW}" in text for text in texts) == len(wrong) > 5
    assert sum(text.startswith("for ") for text in texts) == 2 * len(wrong)
    assert f"{100 * found['examples'][0]['confidence']:.1f} %" in " ".join(texts)


def test_a_perfect_run_has_a_picture(make_dataset, make_run):
    test = make_dataset(30)
    run = make_run(test)
    np.savez(
        run.path / "predictions.npz",
        probabilities=np.eye(3, dtype=np.float32)[test.labels],
        labels=test.labels,
    )
    texts = [text.get_text() for text in explain.plot(test, *explained(run, test)).texts]
    assert (
        not any("Wrong" in text for text in texts)
        and sum(text.endswith("100.0 %") for text in texts) == 12
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_page_and_what_is_published_have_it_once_it_is_there(
    make_dataset, make_run, method, tmp_path, monkeypatch
):
    train, test = make_dataset(90), make_dataset(60)
    run = make_run(test)
    run_report.write(run, train=train, test=test)
    assert "What the model looks at" not in (run.path / "report.html").read_text()
    explain.write(run, test, *explained(run, test, method))
    run_report.write(run, train=train, test=test)
    text = (run.path / "report.html").read_text()
    named = {"gradcam": "Grad-CAM:", "gradcam++": "Grad-CAM++:", "saliency": "Saliency:"}[method]
    assert "What the model looks at" in text and named in text and 'class="chart images"' in text
    monkeypatch.chdir(tmp_path)
    commands.publish.publish([str(run.path)])
    for name in ("explain.json", "explain.png"):
        assert (tmp_path / "results" / run.name / name).read_bytes() == (
            run.path / name
        ).read_bytes()


def test_compactness_in_words(make_dataset):
    """Shares of 200 images whose mean is known; the difference is paired."""
    shares = np.linspace(0.1, 0.3, 200)
    found = explain.compactness(shares)
    assert found["images"] == 200 and found["mean"] == pytest.approx(0.2)
    half = found["high"] - found["mean"]
    assert (
        half == pytest.approx(1.96 * shares.std() / np.sqrt(200), rel=0.15) and found["low"] < 0.2
    )
    assert "80% of a map's sum is in 20.0 %" in explain.compactness_sentence("one", shares)
    closer = explain.difference_sentence("one", shares - 0.01, "other", shares)
    assert "-1.0 % [-1.0, -1.0]: those of one are more compact." in closer
    assert "those of other are more compact" in explain.difference_sentence(
        "one", shares + 0.01, "other", shares
    )
    alike = shares + np.tile([0.01, -0.01], 100)
    assert "no difference is shown" in explain.difference_sentence("one", alike, "other", shares)
    test, compared = make_dataset(9), explain.Compared()
    assert len(compared.sentences("one", test, shares)) == 1
    assert (
        "less those of one, on the same images"
        in compared.sentences("other", test, shares + 0.01)[1]
    )
    assert len(compared.sentences("elsewhere", make_dataset(12), shares)) == 1
    words = explain.sentence({"method": "gradcam", "compactness": found})
    assert words.endswith("of the image, over 200 test images.") and "20.0 % [" in words
    assert "of a map's sum" not in explain.sentence({"method": "gradcam"})
