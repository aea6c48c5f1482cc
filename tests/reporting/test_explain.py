"""Maps of what a run looks at: the picture, its section of the page, and the sentences."""

import numpy as np
import pytest
from PIL import Image

from imgcls_jax import commands
from imgcls_jax.evaluation.gradcam import METHODS, select_examples
from imgcls_jax.reporting import explain, run_report
from imgcls_jax.reporting.plots import explanation

NAMES = {"gradcam": "Grad-CAM:", "gradcam++": "Grad-CAM++:", "saliency": "Saliency:"}
ARROW = "\N{RIGHTWARDS ARROW}"


def explained(run, test, method="gradcam"):
    """What `gradcam.explain` would return of a run, with maps that are bright at the upper left."""
    examples = select_examples(*run.predictions, seed=0)
    height, width = test.images.shape[1:3]
    ramp = np.linspace(1, 0, height)[:, None] * np.linspace(1, 0, width)
    maps = np.broadcast_to(ramp.astype(np.float32), (len(examples), 2, height, width))
    return {"method": method, "seed": 0, "examples": examples}, maps


def write(run, test, method="gradcam") -> dict:
    details, maps = explained(run, test, method)
    explain.write(run, test, explanation=details, maps=maps)
    return details


def drawn_texts(run, test) -> list[str]:
    details, maps = explained(run, test)
    figure = explanation.draw(test, details["examples"], maps=maps)
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("channels", [1, 3])
def test_overlay_colours_what_the_map_marks(channels):
    image = np.full((8, 10, channels), 128, np.uint8)
    heat = np.zeros((8, 10))
    heat[2, 3:5] = 0.7
    overlay = explanation.overlay(image, heat).astype(int)
    assert overlay.shape == (8, 10, 3)
    red_less_blue = overlay[..., 0] - overlay[..., 2]
    assert (red_less_blue[2, 3:5] > 50).all()
    elsewhere = np.delete(red_less_blue.ravel(), [23, 24])
    assert (elsewhere <= 1).all()


def test_each_map_is_on_a_scale_of_its_own():
    image = np.full((8, 10, 1), 128, np.uint8)
    heat = np.zeros((8, 10))
    heat[2, 3:5] = 0.7
    faint = explanation.overlay(image, 1e-9 * heat)
    np.testing.assert_array_equal(faint, explanation.overlay(image, heat))


def test_overlay_of_a_map_with_a_single_bright_pixel():
    """It is less than the hundredth of the pixels that saturates."""
    heat = np.zeros((20, 20), np.float32)
    heat[3, 4] = 5
    overlay = explanation.overlay(np.zeros((20, 20, 1), np.uint8), heat).max(-1)
    assert overlay[3, 4] > 190
    assert np.delete(overlay.ravel(), 64).max() < 5


def test_overlay_of_an_empty_map_is_the_image_in_grey():
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    overlay = explanation.overlay(image, np.zeros((6, 6)))
    assert np.ptp(overlay.astype(int), axis=-1).max() <= 2
    brightness = image.mean(-1).ravel()
    assert np.corrcoef(overlay[..., 0].ravel(), brightness)[0, 1] > 0.99


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (200, 100, 3)])
def test_the_picture_shows_the_images_as_they_are(make_dataset, make_run, shape):
    """The first image, its pixels enlarged to squares, and beside it its overlay."""
    test = make_dataset(60, shape=shape)
    run = make_run(test)
    details = write(run, test)
    assert run.read_json("explain.json") == details
    picture = np.asarray(Image.open(run.path / "explain.png").convert("RGB"))
    assert picture.shape[1] < 1250
    if max(shape) > explanation.LARGE:
        return
    _, maps = explained(run, test)
    image = test.images[details["examples"][0]["index"]]
    factor = round(explanation.SMALL / max(shape))
    height = factor * shape[0]
    width = factor * shape[1]
    top = explanation.MARGIN + explanation.HEADING
    for n, pixels in enumerate((image, explanation.overlay(image, maps[0, 0]))):
        rgb = np.broadcast_to(pixels, (*shape[:2], 3))
        expected = rgb.repeat(factor, axis=0).repeat(factor, axis=1)
        left = explanation.MARGIN + n * (width + explanation.GAP)
        tile = picture[top : top + height, left : left + width]
        np.testing.assert_allclose(tile.astype(int), expected, atol=1)


def test_captions_name_true_and_predicted_class(make_dataset, make_run):
    test = make_dataset(60)
    run = make_run(test)
    details, _ = explained(run, test)
    texts = drawn_texts(run, test)
    titles = [text for text in texts if "," in text]
    assert titles[:2] == ["Right, most confident", "Right, in the middle"]
    wrong = [row for row in details["examples"] if row["label"] != row["prediction"]]
    assert len(wrong) > 5
    assert sum(ARROW in text for text in texts) == len(wrong)
    assert sum(text.startswith("for ") for text in texts) == 2 * len(wrong)
    assert f"{100 * details['examples'][0]['confidence']:.1f} %" in " ".join(texts)


def test_a_perfect_run_has_a_picture(make_dataset, make_run):
    test = make_dataset(30)
    run = make_run(test)
    probabilities = np.eye(3, dtype=np.float32)[test.labels]
    np.savez(run.path / "predictions.npz", probabilities=probabilities, labels=test.labels)
    texts = drawn_texts(run, test)
    assert not any("Wrong" in text for text in texts)
    assert sum(text.endswith("100.0 %") for text in texts) == 12


@pytest.mark.parametrize("method", METHODS)
def test_the_page_and_what_is_published_have_it_once_it_is_there(
    make_dataset, make_run, method, tmp_path, monkeypatch
):
    train = make_dataset(90)
    test = make_dataset(60)
    run = make_run(test)
    page = run.path / "report.html"
    run_report.write(run, train=train, test=test)
    assert "What the model looks at" not in page.read_text()
    write(run, test, method)
    run_report.write(run, train=train, test=test)
    text = page.read_text()
    assert "What the model looks at" in text
    assert NAMES[method] in text
    assert 'class="chart images"' in text
    monkeypatch.chdir(tmp_path)
    commands.publish.publish([str(run.path)])
    for name in ("explain.json", "explain.png"):
        published = tmp_path / "results" / run.name / name
        assert published.read_bytes() == (run.path / name).read_bytes()


SHARES = np.linspace(0.1, 0.3, 200)  # of 200 images


def test_compactness_is_a_mean_with_its_interval():
    compactness = explain.compactness(SHARES)
    assert compactness["images"] == 200
    assert compactness["mean"] == pytest.approx(0.2)
    half = 1.96 * SHARES.std() / np.sqrt(200)
    assert compactness["high"] - compactness["mean"] == pytest.approx(half, rel=0.15)
    assert compactness["low"] < 0.2
    assert "80% of a map's sum is in 20.0 %" in explain.compactness_sentence("one", SHARES)
    text = explain.sentence({"method": "gradcam", "compactness": compactness})
    assert "20.0 % [" in text
    assert text.endswith("of the image, over 200 test images.")
    assert "of a map's sum" not in explain.sentence({"method": "gradcam"})


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (-0.01, "-1.0 % [-1.0, -1.0]: those of one are more compact."),
        (0.01, "+1.0 % [+1.0, +1.0]: those of other are more compact."),
        (np.tile([0.01, -0.01], 100), "no difference is shown."),
    ],
)
def test_differences_in_compactness_are_paired(difference, verdict):
    sentence = explain.difference_sentence(
        "one", SHARES + difference, other="other", other_shares=SHARES
    )
    assert sentence.endswith(verdict)


def test_runs_are_compared_with_the_first_on_the_same_test_images(make_dataset):
    test = make_dataset(9)
    comparison = explain.Comparison()
    assert len(comparison.sentences("one", test, shares=SHARES)) == 1
    _, difference = comparison.sentences("other", test, shares=SHARES + 0.01)
    assert "less those of one, on the same images" in difference
    assert len(comparison.sentences("elsewhere", make_dataset(12), shares=SHARES)) == 1
