import csv
import io

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import predict
from imgcls_jax.reporting import compare
from imgcls_jax.run_folder import TEST


@pytest.fixture
def runs(make_dataset, make_run):
    """runs("name", .99, .98): a finished run for each accuracy, seeds counted from 0."""

    def make(name, *accuracies, **options):
        return [
            make_run(make_dataset(30), name=f"{name}_{seed}", seed=seed, results={"accuracy": accuracy}, **options)
            for seed, accuracy in enumerate(accuracies)
        ]

    return make


@pytest.fixture
def rows(runs):
    return compare.summarize(
        [
            ("CNN | small", {"accuracy": 99.03, "loss": 0.051}, runs("cnn", 0.991, 0.989, 0.9921)),
            ("LSTM", {}, runs("lstm", 0.984, device="NVIDIA H100")),
        ]
    )


@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_margin_is_scipys_student_t_interval(n):
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(n).normal(99, 0.3, n)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    margin = compare.margin(values.tolist())
    assert (values.mean() - margin, values.mean() + margin) == pytest.approx((low, high), rel=1e-12)


def test_one_seed_has_no_interval():
    assert compare.margin([99.0]) is None


def test_rows_hold_the_means_over_the_seeds(rows, runs):
    cnn, lstm = rows
    assert (cnn.seeds, lstm.seeds) == (3, 1)
    assert cnn.accuracy == pytest.approx((99.1 + 98.9 + 99.21) / 3)
    assert cnn.accuracy_margin == pytest.approx(0.39041, abs=1e-5)  # 4.30265 * 0.157162 / sqrt(3)
    assert lstm.accuracy == pytest.approx(98.4) and lstm.accuracy_margin is None
    assert cnn.parameters == 93322 and cnn.seconds_per_epoch == 2.5 and cnn.epochs == 4
    assert (cnn.device, lstm.device) == ("cpu", "NVIDIA H100")


def test_means_differ_where_runs_do(runs):
    pair = runs("pair", 0.9, 0.9)
    for run, changes in zip(pair, ({"epochs": 5, "loss": 0.1}, {"epochs": 8, "loss": 0.3}), strict=True):
        run.write_json(TEST, run.test | changes)
    (row,) = compare.summarize([("pair", {}, pair)])
    assert row.epochs == 6.5 and row.loss == pytest.approx(0.2)
    assert "| 6.5 |" in compare.markdown([row])


def test_markdown(rows):
    head, rule, cnn, lstm = (
        [cell.strip() for cell in line.replace(r"\|", "!").strip("|").split("|")]
        for line in compare.markdown(rows).splitlines()
    )
    assert len(head) == len(rule) == len(cnn) == len(lstm)
    cnn, lstm = dict(zip(head, cnn, strict=True)), dict(zip(head, lstm, strict=True))
    assert cnn["System"] == "CNN ! small"
    assert cnn["Accuracy, %"] == "99.07 ± 0.39" and lstm["Accuracy, %"] == "98.40"
    assert cnn["Reported, %"] == "99.03" and lstm["Reported, %"] == "–"
    assert cnn["Reported loss"] == "0.051" and "Reported s/epoch" not in head
    assert cnn["Parameters"] == "93,322"


def test_gaps_and_epochs_stand_beside_the_reported(runs):
    """The kept epoch, 3 of 4, was trained to 1 - 0.5 / 3."""
    trained = 100 * (1 - 0.5 / 3)
    rows = compare.summarize(
        [("over", {"gap": 17.8, "epochs": 10}, runs("over", 0.5, 0.7)), ("under", {}, runs("under", 0.9))]
    )
    assert [row.gap for row in rows] == pytest.approx([trained - 60, trained - 90])
    head, _, over, under = (line.strip("| ").split(" | ") for line in compare.markdown(rows).splitlines())
    over, under = dict(zip(head, over, strict=True)), dict(zip(head, under, strict=True))
    assert (over["Gap, pp"], over["Reported gap"], over["Reported epochs"]) == ("+23.3", "+17.8", "10")
    assert (under["Gap, pp"], under["Reported gap"], under["Epochs"]) == ("-6.7", "–", "4")


def test_a_gap_that_is_not_known_is_left_out(runs):
    (run,) = runs("a", 0.9)
    run.write_history(run.history[:2])
    (row,) = compare.summarize([("a", {}, [run])])
    assert row.gap is None and "Gap" not in compare.markdown([row])
    assert next(csv.DictReader(io.StringIO(compare.csv([row]))))["gap"] == ""


def test_csv_is_unrounded_and_leaves_unknowns_empty(rows):
    cnn, lstm = csv.DictReader(io.StringIO(compare.csv(rows)))
    assert float(cnn["accuracy"]) == rows[0].accuracy
    assert float(cnn["accuracy_margin"]) == rows[0].accuracy_margin and lstm["accuracy_margin"] == ""
    assert float(cnn["reported_accuracy"]) == 99.03 and lstm["reported_accuracy"] == ""
    assert cnn["label"] == "CNN | small"


def test_plot_shows_means_intervals_and_reported_values(rows):
    figure = compare.plot(rows)
    (axes,) = figure.axes
    whiskers, _, means, reported = axes.lines
    assert list(whiskers.get_xdata()) == [
        rows[0].accuracy - rows[0].accuracy_margin,
        rows[0].accuracy + rows[0].accuracy_margin,
    ]
    assert list(means.get_xdata()) == [rows[0].accuracy, rows[1].accuracy]
    assert (list(reported.get_xdata()), list(reported.get_ydata())) == ([99.03], [0])
    assert reported.get_markerfacecolor() == "none"


def test_write(rows, tmp_path):
    compare.write(rows, tmp_path / "results" / "models", "Models on MNIST")
    folder = tmp_path / "results" / "models"
    text = (folder / "table.md").read_text()
    assert text.startswith("# Models on MNIST\n\n| System |") and "(table.png)" in text
    assert (folder / "table.csv").read_text() == compare.csv(rows)
    pixels = np.asarray(Image.open(folder / "table.png").convert("RGB"))
    for border in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert border.min() > 245  # no label is cut


def test_runs_of_several_configurations_are_refused(runs):
    mixed = runs("a", 0.9) + runs("b", 0.9, 0.9, changes={"optimizer": {"learning_rate": 0.01}})[1:]
    with pytest.raises(RunError, match=r"'row'.* differ in optimizer\.learning_rate \(0\.001 and 0\.01\)"):
        compare.summarize([("row", {}, mixed)])


def test_runs_on_machines_with_other_data_folders_are_alike(runs):
    pair = runs("a", 0.9) + runs("b", 0.9, 0.8, changes={"data": {"path": "/elsewhere"}})[1:]
    (row,) = compare.summarize([("row", {}, pair)])
    assert row.seeds == 2


def test_a_seed_that_occurs_twice_is_refused(runs):
    with pytest.raises(RunError, match="seed 0 twice"):
        compare.summarize([("row", {}, runs("a", 0.9) + runs("b", 0.9))])


def test_unfinished_and_missing_runs_are_refused(runs):
    (run,) = runs("a", 0.9)
    (run.path / TEST).unlink()
    with pytest.raises(RunError, match=r"test\.json is missing"):
        compare.summarize([("row", {}, [run])])
    with pytest.raises(RunError, match="'row' has no run"):
        compare.summarize([("row", {}, [])])
    with pytest.raises(ValueError, match="acuracy"):
        compare.summarize([("row", {"acuracy": 99}, runs("b", 0.9))])


def answering(run, right: int):
    """The run with predictions that are right on the first so many of its test images."""
    probabilities, labels = run.predictions
    guesses = np.where(np.arange(len(labels)) < right, labels, (labels + 1) % probabilities.shape[1])
    predict.write(run, (np.eye(probabilities.shape[1])[guesses], labels), None)
    return run


def test_pairs_are_compared_on_the_same_images(runs, tmp_path):
    groups = [
        (name, {}, [answering(run, right) for run, right in zip(runs(name, *[0.5] * len(rights)), rights, strict=True)])
        for name, rights in {"good": [28, 29], "same": [28], "poor": [9]}.items()
    ]
    sentences = compare.pairs(groups)
    assert [sentence.split(":")[0] for sentence in sentences] == [
        "Between good and same no difference is shown",
        "Between good and poor, good is better",
        "Between same and poor, same is better",
    ]
    assert sentences[2].endswith("same is better: by 63.33 points, p < .001.")  # 19 images against none
    compare.write(compare.summarize(groups), tmp_path, title="Three", sentences=sentences)
    assert all(f"- {sentence}\n" in (tmp_path / "table.md").read_text() for sentence in sentences)


def test_other_test_images_are_not_compared(runs):
    groups = [(name, {}, [answering(run, 20) for run in runs(name, 0.5)]) for name in ("one", "other")]
    (run,) = groups[1][2]
    report = run.data
    report["splits"]["test"]["fingerprint"] = "another"
    run.write_json("data.json", report)
    assert compare.pairs(groups) == []


def test_of_many_systems_each_is_compared_with_the_best(runs):
    groups = [(f"s{n}", {}, [answering(run, 10 + n) for run in runs(f"s{n}", 0.5)]) for n in range(8)]
    assert [sentence.replace(",", "").split()[1:4] for sentence in compare.pairs(groups)] == [
        ["s7", "and", f"s{n}"] for n in reversed(range(7))
    ]
