"""The page of a run: one HTML file that holds everything it shows, and the figures as files beside it."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.data import checks
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.scores import Confusion, train_test_gap
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import calibration, explain, page, robustness, tables
from imgcls_jax.run.folder import REPORT, RunFolder

MOST_SAMPLES = 120  # sample images in all, and at most 8 of a class
MOST_RENAMED = 50  # classes named whose names pictures cannot show
MOST_SAMPLED = 100  # classes with sample images
MISTAKE_SIDE, SAMPLE_SIDE = (
    96,
    tables.SIDE,
)  # pixels on the page that an image's longer side takes, about


def write(
    run: RunFolder,
    *,
    train: Dataset,
    test: Dataset,
    before_page: Callable[[RunFolder], None] = lambda run: None,
) -> None:
    """Writes the page report.html into a tested run's folder, and its pictures, dashboard.png among them.

    train: the training set; test: the test set in the order of the run's predictions. before_page: called when the
    pictures are there and the page, which marks a run as finished, is not. Raises RunError where the test set is not
    the one that the run predicted.
    """
    from imgcls_jax.reporting import dashboard, plots

    scores, history = run.test, run.history
    probabilities, labels = run.predictions
    if not np.array_equal(labels, test.labels):
        raise RunError(
            f"The predictions in {run.path} are of {len(labels)} examples whose labels differ from those of the "
            f"{len(test)} test examples given: this is not the run's test set. Report with the data it was trained on."
        )
    classes = len(train.class_names)
    samples = checks.sample_indices(train.labels, per_class=min(max(MOST_SAMPLES // classes, 1), 8))
    samples += [np.empty(0, np.int64)] * (classes - len(samples))
    samples = samples[:MOST_SAMPLED]
    wrong = plots.most_confident_mistakes(probabilities, labels)
    drawn = plots.pictured(test)
    figures = {
        "samples.png": plots.sample_grid(
            dataclasses.replace(train, class_names=drawn.class_names), samples
        ),
        "curves.png": plots.curves(history, scores["best_epoch"]),
        "confusion.png": plots.confusion(Confusion.read(scores), drawn.class_names),
        "mistakes.png": plots.mistakes(drawn, probabilities, wrong),
    }
    figures["dashboard.png"] = dashboard.draw(
        run.name,
        _facts(run),
        history=history,
        scores=scores,
        test=drawn,
        probabilities=probabilities,
    )
    for name, figure in figures.items():
        plots.save(figure, run.path / name)

    confusion = page.chart(
        run.path / "confusion.png", "Confusion matrix, rows true, columns predicted"
    )
    body = (
        _header(run)
        + page.section(
            "Training",
            page.chart(
                run.path / "curves.png", "Loss, accuracy and learning rate against the epoch"
            ),
        )
        + page.section("Classes", tables.classes(scores, probabilities, test))
        + page.section(
            "Confusion matrix", page.macros("run.html").confusion(confusion, _renamed(test, drawn))
        )
        + page.section("Misclassified images", _mistakes(test, probabilities, wrong))
        + explain.section(run)
        + calibration.section(run)
        + robustness.section(run)
        + page.section("Data", _data(run.data), _samples(train, samples))
        + page.section("Environment", _environment(run.environment))
        + page.section("Configuration", _config(run.config.to_dict()))
    )
    before_page(run)
    html = page.page(f"{run.name}: {page.percent(scores['accuracy'])}", body)
    write_atomically(run.path / REPORT, html.encode())


def _header(run: RunFolder) -> Markup:
    scores, config, device = (
        run.test,
        run.config,
        run.environment.get("device", "an unnamed device"),
    )
    epochs = f"{scores['best_epoch']} of {scores['epochs']}"
    trainable = scores.get("trainable", scores["parameters"])
    trained = f", of which {trainable:,} were trained" if trainable < scores["parameters"] else ""
    said = {
        "name": run.name,
        "model": config.model.name,
        "data": config.data.get("name") or config.data.source,
        "accuracy": page.percent(scores["accuracy"]),
        "examples": f"{scores['examples']:,}",
        "loss": f"{scores['loss']:.4f}",
        "parameters": f"{scores['parameters']:,}",
        "trained": trained,
        "epochs": epochs,
        "time": page.duration(scores["train_seconds"]),
        "device": device,
        "figures": _facts(run),
    }
    return page.macros("run.html").header(said)


def _facts(run: RunFolder) -> dict[str, str]:
    """The figures that stand large, by their captions."""
    scores = run.test
    gap = train_test_gap(run.history, scores)
    return {
        "Test accuracy": page.percent(scores["accuracy"]),
        "Test loss": f"{scores['loss']:.4f}",
        "Validation accuracy": page.percent(scores["validation_accuracy"]),
        "Train-test gap": "unknown" if gap is None else f"{gap:+.1f} points",
        "Best epoch": f"{scores['best_epoch']} of {scores['epochs']}",
        "Parameters": f"{scores['parameters']:,}",
        "Time per epoch": page.duration(scores["seconds_per_epoch"]),
        "Training time": page.duration(scores["train_seconds"]),
    }


def _mistakes(test: Dataset, probabilities: np.ndarray, wrong: np.ndarray) -> Markup:
    from imgcls_jax.reporting import plots

    total = int((probabilities.argmax(axis=-1) != test.labels).sum())
    if not total:
        return page.macros("run.html").no_mistakes()
    descriptions, captions = [], []
    for index in wrong:
        true, predicted = (
            test.class_names[test.labels[index]],
            test.class_names[probabilities[index].argmax()],
        )
        descriptions.append(f"{true}, taken for {predicted}")
        confidence = plots.percent(probabilities[index].max())
        captions.append(
            page.macros("run.html").mistake(page.taken_for(true, predicted), confidence)
        )
    shown = (
        f"all {total:,}" if len(wrong) == total else f"the {len(wrong)} most confident of {total:,}"
    )
    tiles = page.tiles(test.images[wrong], descriptions, captions, side=MISTAKE_SIDE)
    return page.macros("run.html").mistakes(shown, f"{len(test):,}", tiles)


def _renamed(test: Dataset, drawn: Dataset) -> str:
    """Which classes the pictures show by their numbers, for want of a font; "" where none."""
    pairs = zip(test.class_names, drawn.class_names, strict=True)
    names = [f"{shown} is {name}" for name, shown in pairs if shown != name]
    return (
        f"For want of a font pictures show numbers: {', '.join(names[:MOST_RENAMED])}."
        if names
        else ""
    )


def _data(report: Mapping[str, Any]) -> Markup:
    """The data report: a column a split, the images of each class, and whatever else it says."""
    splits, names = report["splits"], report["class_names"]
    keys = dict.fromkeys(key for split in splits.values() for key in split if key != "class_counts")
    rows = [
        [page.words(key), *(_split_text(key, split.get(key, "")) for split in splits.values())]
        for key in keys
    ]
    fewest = np.argsort(next(iter(splits.values()))["class_counts"], kind="stable")[
        : tables.MOST_ROWS
    ]
    shown = np.arange(len(names)) if len(names) <= tables.MOST_ROWS else fewest
    counts = [
        [names[k], *(page.text(split["class_counts"][k]) for split in splits.values())]
        for k in shown
    ]
    cut = tables.cut(len(shown), len(names), "fewest training images", "data.json")
    rest = {
        key: value
        for key, value in report.items()
        if key not in ("splits", "class_names", "warnings")
    }
    head = ["", *splits]
    found = (page.table(head, rows), page.table(head, counts), page.facts(rest))
    return page.macros("run.html").data(*found, warnings=report.get("warnings", ()), cut=cut)


def _split_text(key: str, value: Any) -> str:
    if key == "shape":
        return "\N{MULTIPLICATION SIGN}".join(map(str, value))
    return value[:8] if key == "fingerprint" else page.text(value)


def _samples(train: Dataset, indices: Sequence[np.ndarray]) -> Markup:
    names = train.class_names[: len(indices)]
    left = len(train.class_names) - len(names)
    cut = f"Of the first {len(names)} classes; {left:,} more have none here." if left else ""
    descriptions = [[name] * len(row) for name, row in zip(names, indices, strict=True)]
    images = [train.images[row] for row in indices]
    return page.macros("run.html").samples(
        page.image_rows(names, images, descriptions, side=SAMPLE_SIDE), cut
    )


def _environment(environment: Mapping[str, Any]) -> Markup:
    rest = {key: value for key, value in environment.items() if key != "command"}
    return page.macros("run.html").environment(environment.get("command", ""), page.facts(rest))


def _config(config: Mapping[str, Any]) -> Markup:
    return page.macros("run.html").configuration(json.dumps(config, indent=2))
