import csv
import io

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import predict
from imgcls_jax.evaluation.cost import Cost
from imgcls_jax.reporting import compare, compare_plots
from imgcls_jax.reporting.plain_tables import latex_table
from imgcls_jax.run.folder import TEST


@pytest.fixture
def runs(make_dataset, make_run):
    """runs("name", .99, .98): a finished run for each accuracy, seeds counted from 0."""

    def make(name, *accuracies, results=None, **options):
        return [
            make_run(
                make_dataset(30),
                name=f"{name}_{seed}",
                seed=seed,
                results={"accuracy": accuracy} | (results or {}),
                **options,
            )
            for seed, accuracy in enumerate(accuracies)
        ]

    return make


@pytest.fixture
def groups(runs):
    return [
        ("CNN | small", {"accuracy": 99.03, "loss": 0.051}, runs("cnn", 0.991, 0.989, 0.9921)),
        (
            "LSTM",
            {},
            runs("lstm", 0.984, device="NVIDIA H100", results={"peak_memory": 2_500_000_000}),
        ),
    ]


@pytest.fixture
def rows(groups):
    return compare.summarize(groups)


def tables(markdown: str) -> list[dict[str, dict[str, str]]]:
    """The Markdown's tables: a dict by column for each system."""
    found = []
    for text in markdown.strip().split("\n\n"):
        lines = [line.replace(r"\|", "!").strip("|").split("|") for line in text.splitlines()]
        head, rule, *rows = ([cell.strip() for cell in line] for line in lines)
        assert {len(head)} == {len(row) for row in (rule, *rows)}
        found.append({row[0]: dict(zip(head, row, strict=True)) for row in rows})
    return found


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
    for run, changes in zip(
        pair, ({"epochs": 5, "loss": 0.1}, {"epochs": 8, "loss": 0.3}), strict=True
    ):
        run.write_json(TEST, run.test | changes)
    (row,) = compare.summarize([("pair", {}, pair)])
    assert row.epochs == 6.5 and row.loss == pytest.approx(0.2)
    assert tables(compare.markdown([row]))[0]["pair"]["Epochs"] == "6.5"


def test_markdown(rows):
    figures, costs = tables(compare.markdown(rows))
    cnn, lstm = figures["CNN ! small"], figures["LSTM"]
    assert cnn["Accuracy, %"] == "99.07 ± 0.39" and lstm["Accuracy, %"] == "98.40"
    assert cnn["Reported, %"] == "99.03" and lstm["Reported, %"] == "–"
    assert cnn["Reported loss"] == "0.051" and "Reported s/epoch" not in costs["LSTM"]
    assert (
        costs["CNN ! small"]["Parameters"] == "93,322"
        and costs["CNN ! small"]["Training"] == "1 min 15 s"
    )
    assert (
        costs["CNN ! small"]["Peak memory, MB"] == "–"
        and costs["LSTM"]["Peak memory, MB"] == "2,500"
    )
    assert "Latency, ms" not in costs["LSTM"]


def test_what_a_model_costs_to_use_is_of_its_rows_first_run(groups):
    measured = []

    def meter(run):
        measured.append(run.name)
        return Cost(multiply_adds=len(measured) * 10**6, latency=2e-3, images_per_second=1234.5)

    figures, costs = tables(compare.markdown(compare.summarize(groups, meter)))
    assert measured == ["cnn_0", "lstm_0"]
    assert [row["Multiply-adds, M"] for row in costs.values()] == ["1.0", "2.0"]
    assert costs["LSTM"]["Latency, ms"] == "2.00" and costs["LSTM"]["Images/s"] == "1,234"


def test_latex(rows):
    first, second = compare.latex(rows).split("\n\n")
    assert first.startswith(
        "\\begin{tabular}{lrrrrrrr}\n\\toprule\nSystem & Seeds & Accuracy, \\% & Reported, \\%"
    )
    assert (
        "CNN | small & 3 & 99.07 $\\pm$ 0.39 & 99.03" in first
        and "LSTM & 1 & 98.40 & -- &" in first
    )
    assert all(text.rstrip().endswith("\\bottomrule\n\\end{tabular}") for text in (first, second))
    assert latex_table(["a_b"], [["5 & 6\\"]]).count("5 \\& 6\\textbackslash{} \\\\") == 1


def test_gaps_and_epochs_stand_beside_the_reported(runs):
    """The kept epoch, 3 of 4, was trained to 1 - 0.5 / 3."""
    trained = 100 * (1 - 0.5 / 3)
    rows = compare.summarize(
        [
            ("over", {"gap": 17.8, "epochs": 10}, runs("over", 0.5, 0.7)),
            ("under", {}, runs("under", 0.9)),
        ]
    )
    assert [row.gap for row in rows] == pytest.approx([trained - 60, trained - 90])
    over, under = tables(compare.markdown(rows))[0].values()
    assert (over["Gap, pp"], over["Reported gap"], over["Reported epochs"]) == (
        "+23.3",
        "+17.8",
        "10",
    )
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
    assert (
        float(cnn["accuracy_margin"]) == rows[0].accuracy_margin and lstm["accuracy_margin"] == ""
    )
    assert float(cnn["reported_accuracy"]) == 99.03 and lstm["reported_accuracy"] == ""
    assert cnn["label"] == "CNN | small"


def test_plot_shows_means_intervals_and_reported_values(rows):
    figure = compare_plots.accuracies(rows)
    (axes,) = figure.axes
    whiskers, _, means, reported = axes.lines
    assert list(whiskers.get_xdata()) == [
        rows[0].accuracy - rows[0].accuracy_margin,
        rows[0].accuracy + rows[0].accuracy_margin,
    ]
    assert list(means.get_xdata()) == [rows[0].accuracy, rows[1].accuracy]
    assert (list(reported.get_xdata()), list(reported.get_ydata())) == ([99.03], [0])
    assert reported.get_markerfacecolor() == "none"


def test_costs_are_drawn_with_their_intervals(rows):
    left, right = compare_plots.costs(rows).axes
    assert [list(container[0].get_xdata()) for container in left.containers] == [[93322], [93322]]
    assert [list(container[0].get_xdata()) for container in right.containers] == [[75.0], [75.0]]
    (low, high), *_ = left.containers[0][2][0].get_segments()
    assert high[1] - low[1] == pytest.approx(2 * rows[0].accuracy_margin)


def test_curves_are_means_over_seeds_some_of_which_stop_early(runs):
    pair = runs("pair", 0.9, 0.9)
    pair[1].write_history(pair[1].history[:2])
    pair[0].write_history([line | {"validation_accuracy": 0.5} for line in pair[0].history])
    (axes,) = compare_plots.curves([("pair", {}, pair)]).axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [1, 2, 3, 4]
    assert list(line.get_ydata()) == pytest.approx([(50 + 48) / 2, (50 + 73) / 2, 50, 50])


def test_write(groups, tmp_path):
    folder = tmp_path / "results" / "models"
    printed = compare.write(groups, folder, title="Models on MNIST")
    rows, text = compare.summarize(groups), (folder / "table.md").read_text()
    assert (
        text.startswith(f"# Models on MNIST\n\n{compare.markdown(rows)}") and "(table.png)" in text
    )
    assert printed.startswith(compare.markdown(rows)) and "- Between" in printed
    assert (folder / "table.csv").read_text() == compare.csv(rows)
    assert (folder / "table.tex").read_text() == compare.latex(rows)
    for name in ("table.png", "cost.png", "curves.png"):
        pixels = np.asarray(Image.open(folder / name).convert("RGB"))
        for border in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert border.min() > 245  # no label is cut


def test_runs_of_several_configurations_are_refused(runs):
    mixed = runs("a", 0.9) + runs("b", 0.9, 0.9, changes={"optimizer": {"learning_rate": 0.01}})[1:]
    with pytest.raises(
        RunError, match=r"'row'.* differ in optimizer\.learning_rate \(0\.001 and 0\.01\)"
    ):
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
    guesses = np.where(
        np.arange(len(labels)) < right, labels, (labels + 1) % probabilities.shape[1]
    )
    predict.write(run, (np.eye(probabilities.shape[1])[guesses], labels), None)
    return run


def test_pairs_are_compared_on_the_same_images(runs, tmp_path):
    groups = [
        (
            name,
            {},
            [
                answering(run, right)
                for run, right in zip(runs(name, *[0.5] * len(rights)), rights, strict=True)
            ],
        )
        for name, rights in {"good": [28, 29], "same": [28], "poor": [9]}.items()
    ]
    sentences = compare.pairs(groups)
    assert [sentence.split(":")[0] for sentence in sentences] == [
        "Between good and same no difference is shown",
        "Between good and poor, good is better",
        "Between same and poor, same is better",
    ]
    assert sentences[2].endswith(
        "same is better: by 63.33 points, p < .001."
    )  # 19 images against none
    compare.write(groups, tmp_path, title="Three")
    assert all(f"- {sentence}\n" in (tmp_path / "table.md").read_text() for sentence in sentences)


def test_other_test_images_are_not_compared(runs):
    groups = [
        (name, {}, [answering(run, 20) for run in runs(name, 0.5)]) for name in ("one", "other")
    ]
    (run,) = groups[1][2]
    report = run.data
    report["splits"]["test"]["fingerprint"] = "another"
    run.write_json("data.json", report)
    assert compare.pairs(groups) == []


def test_of_many_systems_each_is_compared_with_the_best(runs):
    groups = [
        (f"s{n}", {}, [answering(run, 10 + n) for run in runs(f"s{n}", 0.5)]) for n in range(8)
    ]
    assert [sentence.replace(",", "").split()[1:4] for sentence in compare.pairs(groups)] == [
        ["s7", "and", f"s{n}"] for n in reversed(range(7))
    ]


def test_confusions_that_changed_between_two_systems(runs, tmp_path):
    """Means over each system's runs; a pair whose count is the same is left out."""
    before = runs("one", 0.9, 0.9)
    after = runs("other", 0.9)
    matrices = {
        before[0]: [[8, 2, 0], [0, 9, 1], [0, 0, 10]],
        before[1]: [[6, 4, 0], [0, 9, 1], [0, 0, 10]],
    }
    matrices |= {after[0]: [[9, 1, 0], [5, 4, 1], [0, 0, 10]]}
    for run, confusion in matrices.items():
        run.write_json(TEST, run.test | {"confusion": confusion})
    compare.write([("one|1", {}, before), ("other", {}, after)], tmp_path / "table", title="Two")
    section = (
        (tmp_path / "table" / "table.md").read_text().split("## Confusions that changed most")[1]
    )
    cat, car = "&lt;b&gt;cat &amp; dog&lt;/b&gt;", "automobile"
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert rows == [f"| {cat} | {car} | 0 | 5 | +5 |", f"| {car} | {cat} | 3 | 1 | -2 |"]
    assert r"| one\|1 | other | Difference |" in section
    compare.write([("one", {}, before)], tmp_path / "alone", title="One")
    assert "Confusions" not in (tmp_path / "alone" / "table.md").read_text()
