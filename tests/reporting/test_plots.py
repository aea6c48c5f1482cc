"""Figures of a run and of images."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.reporting import formats
from imgcls_jax.reporting.plots import canvas, confusion, curves, fonts, images, style

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def drawn(figure, tmp_path) -> np.ndarray:
    style.save(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size < 150_000
    return np.asarray(Image.open(tmp_path / "figure.png").convert("RGB"))


def assert_nothing_touches_the_border(pixels):
    """A label cut off by the figure's border leaves ink in the outermost pixels."""
    for border in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert border.min() > 245


def counts(classes: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.poisson(0.3, (classes, classes)) + np.diag(rng.integers(900, 1100, classes))


@pytest.mark.parametrize("epochs", [1, 2, 200])
def test_curves_show_both_splits_and_the_best_epoch(history, tmp_path, epochs):
    figure = curves.draw(history(epochs), best_epoch=epochs)
    assert_nothing_touches_the_border(drawn(figure, tmp_path))
    loss, accuracy, rate = figure.axes
    assert [line.get_label() for line in loss.lines[:2]] == ["train", "validation"]
    np.testing.assert_allclose(
        accuracy.lines[0].get_ydata(), [100 - 50 / e for e in range(1, epochs + 1)]
    )
    np.testing.assert_allclose(rate.lines[0].get_ydata(), 1e-3)
    assert loss.lines[2].get_xdata() == [epochs]
    assert f"best, epoch {epochs}" in [text.get_text() for text in loss.get_legend().get_texts()]


def test_curves_without_a_best_epoch_mark_none(history):
    figure = curves.draw(history(5))
    assert len(figure.axes[0].lines) == 2
    assert "best" not in " ".join(
        text.get_text() for text in figure.axes[0].get_legend().get_texts()
    )


def with_losses(history, losses):
    lines = []
    for line, loss in zip(history, losses, strict=True):
        lines.append(line | {"train_loss": loss, "validation_loss": loss + 0.1})
    return lines


@pytest.mark.parametrize(
    "losses, note",
    [
        ([24.0, 2.0, 1.5, 1.2, 1.0, 0.9], "↑ epoch 1: up to 24.1"),
        ([24.0, 9.0, *np.linspace(1.2, 0.5, 8)], "↑ epochs 1 to 2: up to 24.1"),
        ([-40.0, 2.0, 1.5, 1.2], "↓ epoch 1: from -40"),
    ],
)
def test_a_lone_first_loss_does_not_squash_the_curve(history, losses, note):
    loss = curves.draw(with_losses(history(len(losses)), losses)).axes[0]
    low, high = loss.get_ylim()
    assert 0 < low < high < 3
    assert [text.get_text() for text in loss.texts] == [note]
    assert max(np.abs(loss.lines[0].get_ydata())) > 20  # it is drawn, outside of the axes


@pytest.mark.parametrize(
    "losses",
    [
        [2.3, 1.5, 1.0, 0.8],
        [24.0, 2.0, 1.0],  # too few others to tell
        [24.0],
        [24.0, 1.0, 1.0, 24.0],
        [math.nan] * 5,
        [math.nan, math.inf, 2.0, 1.5, 1.0],
    ],
)
def test_usual_and_short_curves_are_shown_whole(history, losses):
    loss = curves.draw(with_losses(history(len(losses)), losses)).axes[0]
    assert not loss.texts


def test_an_axis_of_accuracies_ends_at_100(history):
    lines = [line | {"train_accuracy": 1.0} for line in history(4)]
    accuracy = curves.draw(lines).axes[1]
    assert accuracy.get_ylim()[1] == 100


@pytest.mark.parametrize(
    "names",
    [("no", "a class with a rather long name"), CIFAR10, [f"class {k}" for k in range(100)]],
)
def test_no_label_of_the_confusion_matrix_is_cut(tmp_path, names):
    pixels = drawn(confusion.draw(counts(len(names)), names), tmp_path)
    assert max(pixels.shape) < 1500
    assert_nothing_touches_the_border(pixels)


def test_confusion_writes_every_count_but_zeros():
    matrix = [[7, 0, 1], [0, 0, 0], [2, 3, 4]]
    (axes,) = confusion.draw(matrix, ["a", "b", "c"]).axes
    cells = {}
    for text in axes.texts:
        column, row = text.get_position()
        cells[row, column] = text.get_text()
    assert cells == {(0, 0): "7", (0, 2): "1", (2, 0): "2", (2, 1): "3", (2, 2): "4"}


def test_confusion_colours_hits_and_errors_by_row_share():
    (axes,) = confusion.draw([[8, 2], [0, 10]], ["a", "b"]).axes
    (hit, error), (none, full) = axes.images[0].get_array()
    assert hit[2] > hit[0]  # blue
    assert error[0] > error[2]  # red
    np.testing.assert_array_equal(none, 1)
    np.testing.assert_allclose(full, style.rgb(style.BLUE))
    np.testing.assert_allclose(1 - hit, 0.8 * (1 - full))


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (224, 160, 3)])
@pytest.mark.parametrize("names", [("no", "yes"), CIFAR10])
def test_sample_grid(make_dataset, tmp_path, shape, names):
    dataset = make_dataset(20, shape=shape, class_names=names)
    dataset.images[:] = 20  # dark, so that an image that is cut shows at the border
    indices = [np.flatnonzero(dataset.labels == k)[:2] for k in range(len(names))]
    figure = images.sample_grid(dataset, indices)
    assert_nothing_touches_the_border(drawn(figure, tmp_path))
    assert [text.get_text() for text in figure.texts] == list(names)


def test_small_images_are_enlarged_by_whole_pixels_and_not_resampled(make_dataset):
    dataset = make_dataset(1, shape=(8, 8, 3), class_names=("only",))
    figure = images.sample_grid(dataset, [np.array([0])])
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=style.DPI)
    pixels = np.asarray(Image.open(buffer).convert("RGB"))
    expected = dataset.images[0].repeat(8, axis=0).repeat(8, axis=1)
    np.testing.assert_array_equal(pixels[12:76, -76:-12], expected)


def test_many_classes_stand_in_columns_and_some_may_be_empty(make_dataset, tmp_path):
    dataset = make_dataset(100, class_names=[f"class {k}" for k in range(100)])
    indices = [np.array([k] if k % 2 else [], int) for k in range(100)]
    pixels = drawn(images.sample_grid(dataset, indices), tmp_path)
    assert max(pixels.shape) < 1300


def test_a_large_image_shrinks_to_fit():
    assert canvas.tile(np.zeros((224, 160, 3), np.uint8), 64).shape == (64, 46, 3)
    assert canvas.tile(np.zeros((28, 28, 1), np.uint8), 64).shape == (56, 56, 3)


def test_mistakes_are_those_made_most_confidently(make_dataset):
    dataset = make_dataset(4)  # labels 0, 1, 2, 0
    probabilities = np.array([[0.9, 0.1, 0], [0.7, 0.2, 0.1], [0.05, 0.95, 0], [0.2, 0.2, 0.6]])
    assert images.most_confident_mistakes(probabilities, dataset.labels).tolist() == [2, 1, 3]
    assert images.most_confident_mistakes(probabilities, dataset.labels, most=1).tolist() == [2]

    texts = [text.get_text() for text in images.mistakes(dataset, probabilities).texts]
    assert texts[:2] == [r"costs \$5 or \$6 →", "<b>cat & dog</b>  95.0 %"]
    assert len(texts) == 6
    chosen = images.mistakes(dataset, probabilities, np.array([3]))
    assert [text.get_text() for text in chosen.texts] == [
        "automobile →",
        r"costs \$5 or \$6  60.0 %",
    ]


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (160, 224, 3)])
def test_no_caption_of_the_mistakes_is_cut(make_dataset, tmp_path, shape):
    dataset = make_dataset(30, shape=shape)
    dataset.images[:] = 20
    probabilities = np.full((30, 3), 0.2)
    probabilities[np.arange(30), (dataset.labels + 1) % 3] = 0.6
    assert_nothing_touches_the_border(drawn(images.mistakes(dataset, probabilities), tmp_path))


def test_a_perfect_classifier_has_a_figure_too(make_dataset, tmp_path):
    dataset = make_dataset(3)
    figure = images.mistakes(dataset, np.eye(3))
    assert_nothing_touches_the_border(drawn(figure, tmp_path))
    assert figure.texts[0].get_text() == "No example is misclassified."


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100.0 %"), (0.99999, "99.9 %"), (0.5, "50.0 %")]
)
def test_only_certainty_is_called_100_percent(share, text):
    assert formats.confidence(share) == text


def test_figures_are_reproducible(history, tmp_path):
    for name in ("a.png", "b.png"):
        style.save(curves.draw(history(3)), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "name", ["cat", "a rather long name of a class", "$$$$$$$$$$$$$$$$", "W" * 40]
)
def test_a_fitting_name_is_as_long_as_it_may_be(name):
    fitted = fonts.fit(name, size=9, width=54)
    shorts = [fonts.shorten(name, n) for n in range(1, len(name) + 1)]
    assert fitted == [text for text in shorts if fonts.text_width(text, 9) <= 54][-1]
