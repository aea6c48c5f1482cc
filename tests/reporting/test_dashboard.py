"""The dashboard of a run."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from imgcls_jax.evaluation.scores import score, softmax
from imgcls_jax.reporting import run_report
from imgcls_jax.reporting.plots import dashboard

LONG = "a rather long name of a class"


@pytest.fixture
def draw(make_dataset, make_run, history):
    """draw(class_names, shape=, sharpness=, epochs=, name=, more=): the dashboard of made-up predictions."""

    def make(
        class_names,
        *,
        shape=(8, 8, 3),
        sharpness=1.5,
        epochs=4,
        name="small",
        examples=400,
        more=(),
    ):
        test = make_dataset(examples, shape=shape, class_names=class_names)
        classes = len(class_names)
        noise = np.random.default_rng(0).normal(size=(examples, classes))
        logits = noise + sharpness * np.eye(classes)[test.labels]
        scores = score(logits, test.labels, test.class_names) | {"best_epoch": epochs}
        facts = run_report._facts(make_run(test, name="facts")) | dict.fromkeys(more, "99.16 %")
        return dashboard.draw(
            name,
            facts,
            history=history(epochs),
            scores=scores,
            test=test,
            probabilities=softmax(logits),
        )

    return make


def boxes(figure):
    """(text, bounding box) of every text that the figure shows, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += axes.texts
        texts += [axes.title, axes._left_title]
        if axes.axison:
            texts.append(axes.xaxis.label)
            texts += drawn_labels(axes.xaxis)
            texts += drawn_labels(axes.yaxis)
        if axes.get_legend():
            texts += axes.get_legend().get_texts()
    return [(text, text.get_window_extent(renderer)) for text in texts if text.get_text()]


def drawn_labels(axis):
    """The labels of the ticks within the view; the others are not drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    return [label for place, label in ticks if low <= place <= high]


def axes_titled(figure, start):
    return next(axes for axes in figure.axes if axes.get_title("left").startswith(start))


@pytest.mark.parametrize(
    "options",
    [
        {"class_names": [f"class {k}" for k in range(10)]},
        {"class_names": [f"{LONG} {k}" for k in range(20)], "name": "run_" * 60},
        {"class_names": [f"{LONG} {k}" for k in range(60)]},
        {"class_names": ["WWWWWWWWWWWWWWWW", "costs $5 or $6"], "shape": (8, 8, 1), "epochs": 1},
        {"class_names": ["a", "b", "c"], "sharpness": 99, "shape": (9, 17, 1)},
        {
            "class_names": [f"class {k}" for k in range(10)],
            "more": [
                "Test balanced accuracy",
                "Test top-5 accuracy",
                "Test negative log-likelihood",
            ],
        },
    ],
    ids=["ten", "long", "many", "gray", "perfect", "many figures"],
)
def test_no_text_is_cut_or_covers_another(draw, options):
    figure = draw(**options)
    texts = boxes(figure)
    width, height = figure.bbox.size
    for text, box in texts:
        assert 0 <= box.x0, text.get_text()
        assert box.x1 <= width, text.get_text()
        assert 0 <= box.y0, text.get_text()
        assert box.y1 <= height, text.get_text()
    upright = [(text, box) for text, box in texts if text.get_rotation() == 0]
    for (text, box), (other_text, other_box) in itertools.combinations(upright, 2):
        across = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        down = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        # Two lines of text may share the room kept for their ascenders and descenders.
        is_apart = across < 2 or down < 5
        assert is_apart, f"{text.get_text()!r} covers {other_text.get_text()!r}"
    accuracy = axes_titled(figure, "Accuracy").get_window_extent()
    for label in axes_titled(figure, "F1").get_yticklabels():
        assert label.get_window_extent().x0 > accuracy.x1


def test_bars_begin_at_zero_and_show_the_worst_classes_first(draw):
    figure = draw([f"class {k}" for k in range(30)], sharpness=5)
    axes = axes_titled(figure, "F1 of the 20 worst")
    lengths = [bar.get_width() for bar in axes.patches]
    assert axes.get_xlim()[0] == 0
    assert len(lengths) == 20
    assert lengths == sorted(lengths, reverse=True)  # from the bottom up


def test_the_pairs_and_the_mistakes_are_those_of_the_scores(draw):
    figure = draw(["a", "b", "c"], examples=60)
    texts = {text.get_text() for text, _ in boxes(figure)}
    assert "a \N{RIGHTWARDS ARROW} b" in texts
    assert sum(bool(axes.images) for axes in figure.axes) == 1 + dashboard.MISTAKES


def test_a_perfect_run_says_so(draw):
    figure = draw(["a", "b", "c"], sharpness=99)
    assert [text.get_text() for text, _ in boxes(figure)].count("no mistakes") == 2


@pytest.mark.parametrize("epochs", [1, 5, 30])
def test_epochs_are_whole_numbers(draw, epochs):
    ticks = axes_titled(draw(["a", "b"], epochs=epochs), "Loss").get_xticks()
    assert len(ticks)
    assert (ticks == ticks.round()).all()
