"""The page of a run, by its text and tags."""

import base64
import dataclasses
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.errors import RunError
from imgcls_jax.reporting import formats, page, robustness, run_report
from imgcls_jax.run.folder import PREDICTIONS, TEST, RunFolder


class Reader(html.parser.HTMLParser):
    """Collects text and tags, and checks that what is opened is closed in order."""

    VOID = ("meta", "img", "br", "source")

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.open = "", [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += text


def decode(markup: str) -> tuple[str, np.ndarray]:
    """The format and the pixels of a picture in a page."""
    kind, content = re.search(r'data:image/(\w+);base64,([^"]*)', markup).groups()
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.fixture
def written(make_dataset, make_run) -> tuple[RunFolder, str]:
    test = make_dataset(60)
    run = make_run(test)
    run_report.write(run, train=make_dataset(90), test=test)
    return run, (run.path / "report.html").read_text()


def test_every_file_is_written(written):
    run, _ = written
    for name in ("samples.png", "curves.png", "confusion.png", "mistakes.png", "dashboard.png"):
        Image.open(run.path / name).verify()
    assert not list(run.path.glob(".*"))  # no partial file is left


def test_the_page_says_what_the_run_is(written):
    run, text = written
    content = " ".join(Reader(text).text.split())
    accuracy = f"{100 * run.test['accuracy']:.2f} %"
    assert f"cnn on made & up classifies {accuracy} of 60 test images correctly" in content
    assert "It has 93,322 parameters, keeps the weights of epoch 3 of 4, and" in content
    assert "and trained for 1 min 15 s on cpu." in content
    for expected in (
        "python launch.py --config=configs/<small>.py",
        "versions.jax",
        "0.10.2",
        "pixel mean",
        "8×8×1",
        "f00d",
        '"learning_rate": 0.001',
    ):
        assert expected in content


def test_the_page_is_self_contained(written):
    _, text = written
    tags = Reader(text).tags
    assert not {"link", "iframe"} & {tag for tag, _ in tags}
    assert [attributes for tag, attributes in tags if tag == "script"] == [{}]
    sources = [attributes["src"] for tag, attributes in tags if tag == "img"]
    assert sources
    sources += [attributes["srcset"] for tag, attributes in tags if tag == "source"]
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?:|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def test_names_from_outside_are_escaped(written):
    _, text = written
    reader = Reader(text)
    assert "<b>cat" not in text
    assert "<small>" not in text
    assert "<b>cat & dog</b>" in reader.text
    assert any(attributes.get("alt") == "<b>cat & dog</b>" for _, attributes in reader.tags)


def test_the_page_has_sample_images_of_each_class_and_the_mistakes(written, make_dataset):
    run, text = written
    images = [attributes["alt"] for tag, attributes in Reader(text).tags if tag == "img"]
    assert images.count("automobile") == 8
    wrong = 60 - round(60 * run.test["accuracy"])
    assert sum("taken for" in alt for alt in images) == min(wrong, 24) > 0


def test_confused_pairs_have_their_most_confident_images(make_dataset, make_run):
    train = make_dataset(90)
    images = np.arange(60, dtype=np.uint8).repeat(16).reshape(60, 4, 4, 1)
    test = dataclasses.replace(make_dataset(60), images=images)
    run = make_run(test)
    run_report.write(run, train=train, test=test)
    probabilities, labels = run.predictions
    pair = run.test["confused_pairs"][0]
    names = np.array(test.class_names)
    is_true = names[labels] == pair["true"]
    is_predicted = names[probabilities.argmax(-1)] == pair["predicted"]
    of_pair = np.flatnonzero(is_true & is_predicted)
    assert len(of_pair) == pair["count"] > 1
    expected = sorted(of_pair, key=lambda index: -probabilities[index].max())[:6]
    alt = f"{pair['true']}, confused with {pair['predicted']}"
    shown = []
    for tag, attributes in Reader((run.path / "report.html").read_text()).tags:
        if tag == "img" and attributes["alt"].startswith(alt):
            _, pixels = decode(attributes["src"])
            shown.append(pixels[0, 0])
    assert shown == expected


def test_a_perfect_run_has_a_page(make_dataset, make_run):
    test = make_dataset(30)
    run = make_run(test, results={"confused_pairs": []})
    np.savez(
        run.path / PREDICTIONS,
        probabilities=np.eye(3, dtype=np.float32)[test.labels],
        labels=test.labels,
    )
    run_report.write(run, train=test, test=test)
    text = Reader((run.path / "report.html").read_text()).text
    assert "every test image is classified correctly" in text
    assert "No test image is taken for another class" in text


def test_the_page_has_the_gap(written):
    run, text = written
    gap = 100 * (1 - 0.5 / 3 - run.test["accuracy"])
    assert f"Train-test gap{gap:+.1f} points" in Reader(text).text


def test_robustness_has_its_section_once_it_is_measured(written, make_dataset):
    run, text = written
    assert "Robustness" not in Reader(text).text
    results = {
        "examples": 50,
        "clean": 0.9,
        "mean": 0.5,
        "corruptions": {"jpeg": [0.7, 0.6, 0.5, 0.4, 0.3]},
    }
    robustness.write(run, results)
    run_report.write(run, train=make_dataset(90), test=make_dataset(60))
    text = Reader((run.path / "report.html").read_text()).text
    assert "on 50 test images: clean 90.00 %, 50.00 % on the mean" in text
    assert "JPEG70.0060.0050.0040.0030.0050.00" in "".join(text.split())


def test_a_class_without_training_images_keeps_its_row(make_dataset, make_run):
    test = make_dataset(30)
    run = make_run(test)
    run_report.write(run, train=test.take(test.labels < 2), test=test)
    tags = Reader((run.path / "report.html").read_text()).tags
    images = [attributes["alt"] for tag, attributes in tags if tag == "img"]
    assert images.count("automobile") == 8
    assert images.count("costs $5 or $6") == 0


def test_another_test_set_is_refused(make_dataset, make_run):
    test = make_dataset(60)
    run = make_run(test)
    other = dataclasses.replace(test, labels=test.labels[::-1].copy())
    with pytest.raises(RunError, match="not the run's test set"):
        run_report.write(run, train=test, test=other)
    with pytest.raises(RunError, match=r"of 60 examples .* the 30 test examples"):
        run_report.write(run, train=test, test=make_dataset(30))


@pytest.mark.parametrize("odd", ["predictions", "test.json"])
def test_files_of_other_classes_are_refused(odd, make_dataset, make_run):
    test = make_dataset(60)
    run = make_run(test)
    if odd == "predictions":
        probabilities, labels = run.predictions
        run.write_predictions((np.pad(probabilities, ((0, 0), (0, 2))), labels), None)
    else:
        scores = run.test
        scores["per_class"].append(scores["per_class"][0] | {"name": "bird"})
        del scores["confusion"]
        run.write_json(TEST, scores)
    with pytest.raises(RunError, match="not of the 3 classes of its data"):
        run_report.write(run, train=test, test=test)


def test_an_unfinished_run_is_refused(make_dataset, make_run):
    test = make_dataset(30)
    run = make_run(test)
    (run.path / TEST).unlink()
    with pytest.raises(RunError, match="test.json is missing"):
        run_report.write(run, train=test, test=test)


def test_an_image_keeps_its_pixels_and_a_photo_shrinks():
    small = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    kind, pixels = decode(page.image(small, "x", side=96))
    assert kind == "png"
    np.testing.assert_array_equal(pixels, small[..., 0])
    kind, pixels = decode(page.image(np.zeros((200, 100, 3), np.uint8), "x", side=96))
    assert (kind, pixels.shape) == ("jpeg", (96, 48, 3))


@pytest.mark.parametrize(
    ("shape", "width"),
    [((8, 8, 1), 96), ((28, 28, 1), 84), ((32, 32, 3), 96), ((200, 100, 3), 48), ((96, 60, 3), 60)],
)
def test_images_are_shown_near_the_wanted_size(shape, width):
    assert page.image_width(shape, side=96) == width


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.123, "0.12 s"), (9.13, "9.1 s"), (42.4, "42 s"), (75, "1 min 15 s"), (3840, "1 h 4 min")],
)
def test_durations(seconds, text):
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (None, "none"),
        (93322, "93,322"),
        (33.31842, "33.32"),
        ([28, 28, 1], "28, 28, 1"),
        ("cpu", "cpu"),
    ],
)
def test_values_are_written_for_people(value, text):
    assert formats.text(value) == text
