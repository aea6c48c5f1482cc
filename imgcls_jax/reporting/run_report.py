"""The page of a run: one HTML file that holds everything it shows, and the figures as files beside it."""

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from imgcls_jax.data import checks
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.scores import train_test_gap
from imgcls_jax.reporting import calibration, explain, page, robustness, tables
from imgcls_jax.run_folder import REPORT, RunFolder, write_atomically

MOST_SAMPLES = 120  # sample images in all, and at most 8 of a class
MISTAKE_SIDE, SAMPLE_SIDE = 96, tables.SIDE  # pixels on the page that an image's longer side takes, about


def write(
    run: RunFolder, *, train: Dataset, test: Dataset, before_page: Callable[[RunFolder], None] = lambda run: None
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
    wrong = plots.most_confident_mistakes(probabilities, labels)
    figures = {
        "samples.png": plots.sample_grid(train, samples),
        "curves.png": plots.curves(history, scores["best_epoch"]),
        "confusion.png": plots.confusion(scores["confusion"], test.class_names),
        "mistakes.png": plots.mistakes(test, probabilities, wrong),
    }
    figures["dashboard.png"] = dashboard.draw(
        run.name, _facts(run), history=history, scores=scores, test=test, probabilities=probabilities
    )
    for name, figure in figures.items():
        plots.save(figure, run.path / name)

    body = (
        _header(run)
        + page.section(
            "Training", page.chart(run.path / "curves.png", "Loss, accuracy and learning rate against the epoch")
        )
        + page.section("Classes", tables.classes(scores, probabilities, test))
        + page.section(
            "Confusion matrix",
            page.chart(run.path / "confusion.png", "Confusion matrix, rows true, columns predicted")
            + '<p class="note">Counts of test images: blue right, red wrong, deeper for a larger share of the row.</p>',
        )
        + page.section("Misclassified images", _mistakes(test, probabilities, wrong))
        + explain.section(run)
        + calibration.section(run)
        + robustness.section(run)
        + page.section("Data", _data(run.data) + _samples(train, samples))
        + page.section("Environment", _environment(run.environment))
        + page.section("Configuration", _config(run.config.to_dict()))
    )
    before_page(run)
    html = page.page(f"{run.name}: {page.percent(scores['accuracy'])}", body)
    write_atomically(run.path / REPORT, html.encode())


def _header(run: RunFolder) -> str:
    scores, config, device = run.test, run.config, run.environment.get("device", "an unnamed device")
    epochs = f"{scores['best_epoch']} of {scores['epochs']}"
    trainable = scores.get("trainable", scores["parameters"])
    trained = f", of which {trainable:,} were trained" if trainable < scores["parameters"] else ""
    accuracy = f'<b class="number">{page.percent(scores["accuracy"])}</b>'
    summary = (
        f"<b>{escape(config.model.name)}</b> on <b>{escape(config.data.get('name') or config.data.source)}</b> "
        f"classifies {accuracy} of {scores['examples']:,} test images correctly, with a loss of "
        f"{scores['loss']:.4f}. It has {scores['parameters']:,} parameters{trained}, keeps the weights of "
        f"epoch {epochs}, and trained for {page.duration(scores['train_seconds'])} on {escape(str(device))}."
    )
    cards = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _facts(run).items())
    return (
        f'<header><h1>{escape(run.name)}</h1>\n<p class="lead">{summary}</p>\n'
        f'<dl class="figures">{cards}</dl></header>\n'
    )


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


def _mistakes(test: Dataset, probabilities: np.ndarray, wrong: np.ndarray) -> str:
    from imgcls_jax.reporting import plots

    total = int((probabilities.argmax(axis=-1) != test.labels).sum())
    if not total:
        return "<p>None: every test image is classified correctly.</p>\n"
    descriptions, captions = [], []
    for index in wrong:
        true, predicted = test.class_names[test.labels[index]], test.class_names[probabilities[index].argmax()]
        descriptions.append(f"{true}, taken for {predicted}")
        captions.append(
            f'{escape(true)} &rarr; <span class="wrong">{escape(predicted)}</span><br>'
            f'<span class="note">{plots.percent(probabilities[index].max())}</span>'
        )
    shown = f"all {total:,}" if len(wrong) == total else f"the {len(wrong)} most confident of {total:,}"
    return (
        f'<p class="note">True class &rarr; predicted class, with the confidence: {shown} mistakes on {len(test):,} '
        f"test images.</p>\n{page.tiles(test.images[wrong], descriptions, captions, side=MISTAKE_SIDE)}"
    )


def _data(report: Mapping[str, Any]) -> str:
    """The data report: a column a split, the images of each class, and whatever else it says."""
    splits, names = report["splits"], report["class_names"]
    keys = dict.fromkeys(key for split in splits.values() for key in split if key != "class_counts")
    rows = [[page.words(key), *(_split_text(key, split.get(key, "")) for split in splits.values())] for key in keys]
    counts = [
        [name, *(page.text(split["class_counts"][k]) for split in splits.values())] for k, name in enumerate(names)
    ]
    rest = {key: value for key, value in report.items() if key not in ("splits", "class_names")}
    return (
        page.columns(
            f"<h3>Splits</h3>{page.table(['', *splits], rows)}",
            f"<h3>Images of each class</h3>{page.table(['', *splits], counts)}",
        )
        + f"<h3>Data set</h3>{page.facts(rest)}"
    )


def _split_text(key: str, value: Any) -> str:
    if key == "shape":
        return "\N{MULTIPLICATION SIGN}".join(map(str, value))
    return value[:8] if key == "fingerprint" else page.text(value)


def _samples(train: Dataset, indices: Sequence[np.ndarray]) -> str:
    names = train.class_names
    descriptions = [[name] * len(row) for name, row in zip(names, indices, strict=True)]
    images = [train.images[row] for row in indices]
    rows = page.image_rows([escape(name) for name in names], images, descriptions, side=SAMPLE_SIDE)
    return f"<h3>Training images</h3>\n{rows}"


def _environment(environment: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in environment.items() if key != "command"}
    return (
        f"<h3>Command</h3>\n<pre>{escape(str(environment.get('command', '')))}</pre>\n"
        f"<h3>Machine and versions</h3>\n{page.facts(rest)}"
    )


def _config(config: Mapping[str, Any]) -> str:
    return f"<details><summary>All options</summary><pre>{escape(json.dumps(config, indent=2))}</pre></details>\n"
