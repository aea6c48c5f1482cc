"""The page of a run: one HTML file that holds everything it shows, and its pictures as files."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from imgcls_jax.config import trial
from imgcls_jax.data import checks
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.scores import DENSE_CLASSES, Confusion, train_test_gap
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import (
    calibration,
    explain,
    formats,
    page,
    robustness,
    tables,
    templates,
    unknown,
)
from imgcls_jax.run.folder import REPORT, RunFolder
from imgcls_jax.training.metrics import METRICS

MOST_SAMPLES = 120  # sample images in all
MOST_SAMPLES_OF_CLASS = 8
MOST_SAMPLED = 100  # classes with sample images
MOST_RENAMED = 50  # classes named of those whose names pictures cannot show
MISTAKE_SIDE = 96  # pixels on the page of an image's longer side, about


def write(
    run: RunFolder,
    *,
    train: Dataset,
    test: Dataset,
    before_page: Callable[[RunFolder], None] = lambda run: None,
) -> None:
    """Writes report.html and its pictures into a tested run's folder.

    train: the training set. test: the test set in the order of the run's predictions. before_page:
    is called between the pictures and the page, which marks a run as finished.

    Raises RunError if test set or classes are not those that the run predicted.
    """
    from imgcls_jax.reporting.plots import fonts, images

    probabilities, labels = run.predictions
    if not np.array_equal(labels, test.labels):
        raise RunError(
            f"The predictions in {run.path} are of {len(labels)} examples whose labels differ from "
            f"those of the {len(test)} test examples: this is not the run's test set. Give the "
            "data that it was trained on."
        )
    num_classes = len(test.class_names)
    if not num_classes == probabilities.shape[1] == len(run.test["per_class"]):
        raise RunError(
            f"{run.path} has predictions, or a test.json, that are not of the {num_classes} classes "
            "of its data: they are damaged, or of another run."
        )
    samples = _choose_samples(train)
    wrong = images.most_confident_mistakes(probabilities, labels)
    drawn = fonts.with_legible_names(test)
    _draw(
        run,
        train=train,
        drawn=drawn,
        samples=samples,
        wrong=wrong,
    )
    sections = [
        _header(run),
        _training(run),
        page.section("Classes", tables.classes(run.test, probabilities, test)),
        _confusion(run, test, drawn),
        page.section("Misclassified images", _mistakes(test, probabilities, wrong)),
        explain.section(run),
        calibration.section(run),
        robustness.section(run),
        unknown.section(run, test),
        page.section("Data", _data(run.data), _samples(train, samples)),
        page.section("Environment", _environment(run.environment)),
        page.section("Configuration", _config(run.config.to_dict())),
    ]
    before_page(run)
    title = f"{run.name}: {formats.percent(run.test['accuracy'])}"
    html = page.page(title, Markup().join(sections), script=page.scripts(page.SORTING))
    write_atomically(run.path / REPORT, html.encode())


def _choose_samples(train: Dataset) -> list[np.ndarray]:
    """Indices of the sample images of each class, of the first MOST_SAMPLED classes."""
    num_classes = len(train.class_names)
    per_class = max(MOST_SAMPLES // num_classes, 1)
    per_class = min(per_class, MOST_SAMPLES_OF_CLASS)
    samples = checks.sample_indices(train.labels, per_class=per_class)
    while len(samples) < num_classes:  # the last classes may have no training images
        samples.append(np.empty(0, np.int64))
    return samples[:MOST_SAMPLED]


def _draw(
    run: RunFolder,
    *,
    train: Dataset,
    drawn: Dataset,
    samples: Sequence[np.ndarray],
    wrong: np.ndarray,
) -> None:
    """Writes the run's pictures.

    drawn: the test set with class names that can be drawn. samples: indices of training images of
    each class. wrong: indices of the mistakes shown.
    """
    from imgcls_jax.reporting.plots import confusion, curves, dashboard, images, style

    scores = run.test
    history = run.history
    probabilities, _ = run.predictions
    train = dataclasses.replace(train, class_names=drawn.class_names)
    matrix = Confusion.from_scores(scores)
    figures = {
        "samples.png": images.sample_grid(train, samples),
        "curves.png": curves.draw(history, scores["best_epoch"]),
        "confusion.png": confusion.draw(matrix, drawn.class_names),
        "mistakes.png": images.mistakes(drawn, probabilities, wrong),
        "dashboard.png": dashboard.draw(
            run.name,
            _facts(run),
            history=history,
            scores=scores,
            test=drawn,
            probabilities=probabilities,
        ),
    }
    for name, figure in figures.items():
        style.save(figure, run.path / name)


# Sections of the page


def _header(run: RunFolder) -> Markup:
    scores = run.test
    config = run.config
    total = scores["parameters"]
    trainable = scores.get("trainable", total)
    values = {
        "name": run.name,
        "trial": trial.description(config.quick),
        "model": config.model.name,
        "data": config.data.get("name") or config.data.source,
        "accuracy": formats.percent(scores["accuracy"]),
        "examples": f"{scores['examples']:,}",
        "loss": f"{scores['loss']:.4f}",
        "parameters": f"{total:,}",
        "trainable": f"{trainable:,}" if trainable < total else "",
        "when": formats.when_trained(config),
        "epochs": f"{scores['best_epoch']} of {scores['epochs']}",
        "time": formats.duration(scores["train_seconds"]),
        "device": run.environment.get("device", "an unnamed device"),
        "figures": _facts(run),
    }
    return _parts().header(values)


def _test_metrics(scores: Mapping[str, Any]) -> dict[str, str]:
    """The metrics of the test set, accuracy first, by their captions."""
    captions = {}
    for name in ("accuracy", *METRICS):
        if isinstance(scores.get(name), int | float):
            metric = METRICS[name]
            value = formats.percent(scores[name]) if metric.is_share else f"{scores[name]:.4f}"
            captions[f"Test {metric.title}"] = value
    return captions


def _facts(run: RunFolder) -> dict[str, str]:
    """The figures in large type, by their captions."""
    scores = run.test
    gap = train_test_gap(run.history, scores)
    return {
        **_test_metrics(scores),
        "Validation accuracy": formats.percent(scores["validation_accuracy"]),
        "Train-test gap": "unknown" if gap is None else f"{gap:+.1f} points",
        "Best epoch": f"{scores['best_epoch']} of {scores['epochs']}",
        "Parameters": f"{scores['parameters']:,}",
        "Time per epoch": formats.duration(scores["seconds_per_epoch"]),
        "Training time": formats.duration(scores["train_seconds"]),
    }


def _training(run: RunFolder) -> Markup:
    from imgcls_jax.reporting.plots import curves, style

    figure = curves.draw(run.history, run.test["best_epoch"], narrow=True)
    chart = page.chart(
        run.path / "curves.png",
        "Loss, accuracy and learning rate against the epoch",
        narrow=style.png(figure),
    )
    return page.section("Training", chart)


def _confusion(run: RunFolder, test: Dataset, drawn: Dataset) -> Markup:
    """The matrix, and which classes the pictures show by their numbers because no font has them."""
    from imgcls_jax.reporting.plots import confusion, style

    matrix = Confusion.from_scores(run.test)
    narrow = b""
    if not confusion.MOST_NARROW < matrix.num_classes <= DENSE_CLASSES:  # else it would be cut
        figure = confusion.draw(matrix, drawn.class_names, narrow=True)
        narrow = style.png(figure)
    chart = page.chart(
        run.path / "confusion.png",
        "Confusion matrix, rows true, columns predicted",
        narrow=narrow,
    )
    renamed = []
    for name, drawn_name in zip(test.class_names, drawn.class_names, strict=True):
        if drawn_name != name:
            renamed.append(f"{drawn_name} is {name}")
    listed = ", ".join(renamed[:MOST_RENAMED])
    body = _parts().confusion(chart, listed)
    return page.section("Confusion matrix", body)


def _mistakes(test: Dataset, probabilities: np.ndarray, wrong: np.ndarray) -> Markup:
    """The test images at the indices `wrong`, with what they were taken for."""
    predicted = probabilities.argmax(axis=-1)
    total = int((predicted != test.labels).sum())
    if not total:
        return _parts().no_mistakes()
    descriptions = []
    captions = []
    for index in wrong:
        true_name = test.class_names[test.labels[index]]
        predicted_name = test.class_names[predicted[index]]
        descriptions.append(f"{true_name}, taken for {predicted_name}")
        pair = page.taken_for(true_name, predicted_name)
        confidence = formats.confidence(probabilities[index].max())
        captions.append(_parts().mistake(pair, confidence))
    tiles = page.tiles(test.images[wrong], descriptions, captions, side=MISTAKE_SIDE)
    return _parts().mistakes(f"{len(wrong):,}", f"{total:,}", f"{len(test):,}", tiles)


def _data(report: Mapping[str, Any]) -> Markup:
    """The data report: a column a split, the images of each class, and everything else it says."""
    splits = report["splits"]
    names = report["class_names"]
    counts = [split["class_counts"] for split in splits.values()]
    shown = np.arange(len(names))
    if len(names) > tables.MOST_ROWS:
        shown = np.argsort(counts[0], kind="stable")[: tables.MOST_ROWS]
    class_rows = []
    for k in shown:
        cells = [formats.text(column[k]) for column in counts]
        class_rows.append([names[k], *cells])
    shown_apart = ("splits", "class_names", "warnings")
    rest = {key: value for key, value in report.items() if key not in shown_apart}
    head = ["", *splits]
    cut = tables.cut_note(
        len(class_rows), len(names), which="fewest training images", file="data.json"
    )
    return _parts().data(
        splits=page.table(head, _split_rows(splits)),
        counts=page.table(head, class_rows),
        rest=page.facts(rest),
        warnings=report.get("warnings", ()),
        cut=cut,
    )


def _split_rows(splits: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """What the report says of each split, a row a key."""
    keys = dict.fromkeys(key for split in splits.values() for key in split)
    rows = []
    for key in keys:
        if key != "class_counts":
            cells = [_split_text(key, split.get(key, "")) for split in splits.values()]
            rows.append([formats.words(key), *cells])
    return rows


def _split_text(key: str, value: Any) -> str:
    if key == "shape":
        return "\N{MULTIPLICATION SIGN}".join(map(str, value))
    if key == "fingerprint":
        return value[:8]
    return formats.text(value)


def _samples(train: Dataset, indices: Sequence[np.ndarray]) -> Markup:
    names = train.class_names[: len(indices)]
    images = [train.images[row] for row in indices]
    descriptions = []
    for name, row in zip(names, indices, strict=True):
        descriptions.append([name] * len(row))
    rows = page.image_rows(names, images, descriptions=descriptions, side=tables.SIDE)
    others = len(train.class_names) - len(names)
    return _parts().samples(rows, len(names), f"{others:,}" if others else "")


def _environment(environment: Mapping[str, Any]) -> Markup:
    rest = dict(environment)
    command = rest.pop("command", "")
    return _parts().environment(command, page.facts(rest))


def _config(config: Mapping[str, Any]) -> Markup:
    return _parts().configuration(json.dumps(config, indent=2))


def _parts() -> Any:
    return templates.macros("run.html")
