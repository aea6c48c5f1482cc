"""Runs of hundreds of classes: nothing that is written grows with the square of their number."""

import json
import re
import tracemalloc

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from imgcls_jax.data.checks import check
from imgcls_jax.evaluation import calibration
from imgcls_jax.evaluation.images import Prediction
from imgcls_jax.evaluation.scores import Confusion, score
from imgcls_jax.reporting import model_card, run_report, tables
from imgcls_jax.reporting.plots import confusion, dashboard, style
from imgcls_jax.reporting.predictions import Summary
from imgcls_jax.run.folder import DATA, TEST

CLASSES = 1000
LARGEST = 4_000_000  # pixels of a picture


def test_a_thousand_classes_have_a_small_report_with_notes(make_dataset, make_run):
    names = [f"species {k:04}" for k in range(CLASSES)]
    train = make_dataset(2 * CLASSES, class_names=names)
    validation = train.take(np.arange(500))
    test = make_dataset(CLASSES + 500, class_names=names)
    run = make_run(test)
    run.write_json(DATA, check({"train": train, "validation": validation, "test": test}))
    run_report.write(run, train=train, test=test)
    pictures = sorted(run.path.glob("*.png"))
    assert len(pictures) == 5
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.width * picture.height < LARGEST, path
    assert (run.path / "report.html").stat().st_size < 3e6
    assert (run.path / TEST).stat().st_size < 0.5e6
    assert "confusion" not in run.test
    assert Confusion.from_scores(run.test).count.sum() == len(test)

    text = (run.path / "report.html").read_text()
    assert len(re.findall("<th>species", tables.per_class(run.test))) == 100
    worst = sorted(row["f1"] for row in run.test["per_class"])[:100]
    assert [row[3] for row in tables.class_rows(run.test)] == [f"{100 * f1:.2f}" for f1 in worst]
    for note in (
        "Shown are the 100 of 1,000 classes with the lowest F1; test.json has all.",
        "Shown are the 100 of 1,000 classes with the fewest training images; data.json has all.",
        "Of the first 100 classes; 900 more have none here.",
    ):
        assert note in text
    card = model_card._results(run)
    assert len(re.findall(r"^\| species", card, re.MULTILINE)) == 105
    assert "900 more are in test.json" in card


def test_pictures_of_the_confusions_have_one_size():
    sizes = set()
    chosen = []
    for classes in (51, 5000):
        labels = np.arange(classes).repeat(2)
        predicted = labels.copy()
        predicted[14] = 9  # class 7, twice taken for others
        predicted[15] = 3
        matrix = Confusion.from_predictions(labels, predicted, classes)
        names = [f"n{k:04}" for k in range(classes)]
        figure = confusion.draw(matrix, names)
        sizes.add(tuple(figure.get_size_inches().round(2)))
        chosen.append([text.get_text() for text in figure.axes[0].get_yticklabels()])
        assert f"30 of {classes:,} classes" in " ".join(text.get_text() for text in figure.texts)
    assert len(sizes) == 1
    assert set(chosen[0]) == set(chosen[1])
    assert {"n0003", "n0007", "n0009"} < set(chosen[0])
    dense = confusion.draw(np.eye(51, dtype=int), names[:51])
    assert len(dense.axes[0].get_yticks()) == 30
    axes = Figure().add_subplot()
    dashboard._confusion(axes, matrix, names)
    assert len(axes.get_yticklabels()) == 20
    assert axes.images[0].get_array().shape == (20, 20, 3)


def test_confused_classes_are_neighbours_in_a_part_of_the_matrix():
    pairs = np.random.default_rng(0).permutation(100).reshape(50, 2)
    counts = np.diag(np.full(100, 40))
    counts[pairs[:6, 0], pairs[:6, 1]] = 7
    counts[pairs[:6, 1], pairs[:6, 0]] = 5
    matrix = Confusion.from_matrix(counts)
    classes, part = confusion.most_confused_part(matrix, most=12, cut_to=12)
    assert set(classes) == set(pairs[:6].ravel())
    assert (part == counts[np.ix_(classes, classes)]).all()
    beside = np.diag(part, 1) + np.diag(part, -1)
    assert beside.tolist() == [12, 0] * 5 + [12]
    whole, _ = confusion.most_confused_part(matrix, most=100, cut_to=12)
    assert whole.tolist() == list(range(100))
    figure = confusion.draw(matrix, [f"class {k}" for k in range(100)], narrow=True)
    assert figure.get_size_inches()[0] == style.NARROW
    assert "The 10 of 100 most confused classes" in {text.get_text() for text in figure.texts}


def test_each_class_has_its_hardest_images_worst_class_first(make_dataset, make_run):
    names = [f"species {k:02}" for k in range(100)]
    test = make_dataset(1000, class_names=names)
    run = make_run(test)
    probabilities, labels = run.predictions
    grid = str(tables.class_images(run.test, probabilities, test))
    assert grid.startswith("<details><summary>Test images of each class")
    shown = re.findall("<b>(species ..)</b>", grid)
    f1 = {row["name"]: row["f1"] for row in run.test["per_class"]}
    assert len(shown) == 100
    assert [f1[name] for name in shown] == sorted(f1.values())
    assert grid.count("<img") == 600
    k = names.index(shown[0])
    wrong = (probabilities[labels == k].argmax(-1) != k).sum()
    assert f"{wrong} of 10 wrong: " in grid
    assert grid.count('class="miss"') == grid.count(", predicted as ")
    hardest = np.argsort(probabilities[labels == k, k], kind="stable")[0]
    guess = names[probabilities[labels == k][hardest].argmax()]
    [first, *_] = re.findall('alt="([^"]*)"', grid)
    assert first.startswith(f"{shown[0]}, predicted as {guess}, ")


def test_shares_of_a_part_of_the_matrix_are_of_whole_rows():
    counts = np.array([[5, 5], [0, 8]])
    _, strength = confusion.cell_colours(counts, np.array([20, 8]))
    assert strength[0, 0, 0] == 0.25
    assert strength[1, 1, 0] == 1


def test_the_table_of_predictions_on_files_is_cut():
    names = [f"n{k:03}" for k in range(200)]
    summary = Summary(names)
    for k in range(200):
        is_wrong = k % 4 == 0
        probabilities = np.eye(200)[(k + is_wrong) % 200]
        image = np.zeros((4, 4, 1), np.uint8)
        path = f"images/n{k:03}/x.png"
        summary.add(Prediction(path, image=image, probabilities=probabilities))
    lines = summary.text().splitlines()
    assert sum(line.startswith("n") for line in lines) == 50
    assert "n196" in summary.text()
    assert lines[-1] == "150 classes with fewer mistakes are left out."
    assert any(line.split() == ["all", "200", "150", "75.00"] for line in lines)


def test_scores_of_many_classes_take_little_memory():
    classes = 20_000
    labels = np.arange(300)
    logits = np.zeros((300, classes), np.float32)
    names = [str(k) for k in range(classes)]
    score(logits, labels, names)
    tracemalloc.start()
    scores = json.dumps(score(logits, labels, names))
    calibration.brier_score(logits, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300e6
    assert len(scores) < 4e6
