"""Comparisons: the figures of rows, their tables, their figures, and sentences on pairs."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import ensemble, predict
from imgcls_jax.evaluation.cost import Cost
from imgcls_jax.reporting import compare
from imgcls_jax.reporting.compare_rows import Group, interval, summarize
from imgcls_jax.reporting.formats import UNKNOWN
from imgcls_jax.reporting.plain_tables import latex_table
from imgcls_jax.reporting.plots import comparison
from imgcls_jax.run.ensemble_folder import EnsembleFolder
from imgcls_jax.run.folder import DATA, ENSEMBLE, TEST


@pytest.fixture
def runs(make_dataset, make_run):
    """runs("name", 0.99, 0.98): a finished run for each accuracy, seeds counted from 0."""

    def make(name, *accuracies, results=None, **options):
        made = []
        for seed, accuracy in enumerate(accuracies):
            means = dict.fromkeys(("precision", "recall", "f1"), accuracy)
            figures = {"accuracy": accuracy, "macro": means} | (results or {})
            run = make_run(
                make_dataset(30), name=f"{name}_{seed}", seed=seed, results=figures, **options
            )
            made.append(run)
        return made

    return make


@pytest.fixture
def groups(runs):
    cnn = runs("cnn", 0.991, 0.989, 0.9921)
    results = {"peak_memory": 2_500_000_000, "trainable": 12_810}
    lstm = runs("lstm", 0.984, device="NVIDIA H100", results=results)
    return [
        Group("CNN | small", {"accuracy": 99.03, "loss": 0.051}, cnn),
        Group("LSTM", {}, lstm),
    ]


@pytest.fixture
def rows(groups):
    return summarize(groups)


def tables(markdown: str) -> list[dict[str, dict[str, str]]]:
    """The Markdown's tables: a dict by column for each system."""
    read = []
    for text in markdown.strip().split("\n\n"):
        lines = []
        for line in text.splitlines():
            cells = line.replace(r"\|", "!").strip("|").split("|")
            lines.append([cell.strip() for cell in cells])
        head, rule, *rows = lines
        assert {len(line) for line in lines} == {len(head)}
        read.append({row[0]: dict(zip(head, row, strict=True)) for row in rows})
    return read


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# Rows


@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_interval_is_scipys_student_t_interval_on_the_logit(n):
    stats = pytest.importorskip("scipy.stats")
    special = pytest.importorskip("scipy.special")
    values = np.random.default_rng(n).normal(0.99, 0.003, n)
    mean = values.mean()
    logit_error = stats.sem(values) / (mean * (1 - mean))
    ends = stats.t.interval(0.95, n - 1, loc=special.logit(mean), scale=logit_error)
    assert interval(values.tolist()) == pytest.approx(special.expit(ends), rel=1e-12)


def test_an_interval_of_little_variation_is_the_usual_one():
    stats = pytest.importorskip("scipy.stats")
    values = [0.7, 0.701, 0.7005]
    ends = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert interval(values) == pytest.approx(ends, abs=1e-5)


@pytest.mark.parametrize("accuracies", [(0.9, 1.0), (0.0, 0.02), (0.0, 1.0), (0.99, 0.999, 1.0)])
def test_an_interval_ends_within_0_and_1(accuracies):
    low, high = interval(accuracies)
    assert 0 <= low < np.mean(accuracies) < high <= 1


def test_equal_accuracies_have_an_interval_without_width():
    assert interval([1.0, 1.0]) == (1.0, 1.0)
    assert interval([0.0, 0.0, 0.0]) == (0.0, 0.0)


def test_an_interval_over_folds_counts_the_seeds_of_a_fold_once(make_dataset, make_run):
    runs = []
    for seed, fold, accuracy in [(0, 0, 0.8), (1, 0, 0.82), (0, 1, 0.9), (1, 1, 0.88)]:
        run = make_run(
            make_dataset(30 + fold),
            name=f"cnn-seed{seed}-fold{fold}",
            seed=seed,
            changes={"data": {"folds": 2, "fold": fold}},
            results={"accuracy": accuracy},
        )
        report = run.data
        report["splits"]["test"]["fingerprint"] = f"{fold}" * 60
        run.write_json(DATA, report)
        runs.append(run)
    (row,) = summarize([Group("CNN", {}, runs)])
    assert row.accuracy == pytest.approx(85)
    ends = (row.accuracy_low / 100, row.accuracy_high / 100)
    assert ends == pytest.approx(interval([0.81, 0.89]))
    assert compare.pairs([Group("CNN", {}, runs), Group("other", {}, runs)]) == []
    with pytest.raises(RunError, match="has seed 0 twice"):
        summarize([Group("CNN", {}, [runs[0], runs[0]])])


def test_one_seed_has_no_interval():
    assert interval([0.99]) is None


def test_rows_hold_the_means_over_the_seeds(rows):
    cnn, lstm = rows
    assert (cnn.seeds, lstm.seeds) == (3, 1)
    assert cnn.accuracy == pytest.approx((99.1 + 98.9 + 99.21) / 3)
    # Student's t: 4.30265 * 0.157162 / sqrt(3) = 0.39041 points, on the logit.
    assert (cnn.accuracy_low, cnn.accuracy_high) == pytest.approx((98.5862, 99.3893), abs=1e-4)
    assert lstm.accuracy == pytest.approx(98.4)
    assert (lstm.accuracy_low, lstm.accuracy_high) == (None, None)
    assert cnn.parameters == 93322
    assert cnn.seconds_per_epoch == 2.5
    assert cnn.epochs == 4
    assert (cnn.device, lstm.device) == ("cpu", "NVIDIA H100")


def test_means_differ_where_runs_do(runs):
    first, second = runs("pair", 0.9, 0.9)
    first.write_json(TEST, first.test | {"epochs": 5, "loss": 0.1})
    second.write_json(TEST, second.test | {"epochs": 8, "loss": 0.3})
    (row,) = summarize([Group("pair", {}, [first, second])])
    assert row.epochs == 6.5
    assert row.loss == pytest.approx(0.2)
    results, _ = tables(compare.markdown([row]))
    assert results["pair"]["Epochs"] == "6.5"


def test_runs_of_several_configurations_are_refused(runs):
    changed = runs("b", 0.9, 0.9, changes={"optimizer": {"learning_rate": 0.01}})
    mixed = [*runs("a", 0.9), changed[1]]
    message = r"'row'.* differ in optimizer\.learning_rate \(0\.001 and 0\.01\)"
    with pytest.raises(RunError, match=message):
        summarize([Group("row", {}, mixed)])


def test_runs_on_machines_with_other_data_folders_are_alike(runs):
    elsewhere = runs("b", 0.9, 0.8, changes={"data": {"path": "/elsewhere"}})
    (row,) = summarize([Group("row", {}, [*runs("a", 0.9), elsewhere[1]])])
    assert row.seeds == 2


def test_a_seed_that_occurs_twice_is_refused(runs):
    with pytest.raises(RunError, match="seed 0 twice"):
        summarize([Group("row", {}, runs("a", 0.9) + runs("b", 0.9))])


def test_unfinished_and_missing_runs_are_refused(runs):
    (run,) = runs("a", 0.9)
    (run.path / TEST).unlink()
    with pytest.raises(RunError, match=r"test\.json is missing"):
        summarize([Group("row", {}, [run])])
    with pytest.raises(RunError, match="'row' has no run"):
        summarize([Group("row", {}, [])])
    with pytest.raises(ValueError, match="acuracy"):
        summarize([Group("row", {"acuracy": 99}, runs("b", 0.9))])


# Tables


def test_markdown(rows):
    results, costs = tables(compare.markdown(rows))
    cnn = results["CNN ! small"]
    assert cnn["Accuracy, %"] == "99.07 (98.59–99.39)"
    assert cnn["Reported, %"] == "99.03"
    assert cnn["Reported loss"] == "0.051"
    lstm = results["LSTM"]
    assert lstm["Accuracy, %"] == "98.40"
    assert lstm["Reported, %"] == "–"
    assert costs["CNN ! small"]["Parameters"] == "93,322"
    assert costs["CNN ! small"]["Training"] == "1 min 15 s"
    assert costs["CNN ! small"]["Peak memory, MB"] == "–"
    assert costs["CNN ! small"]["Trainable"] == "93,322"
    assert costs["LSTM"]["Trainable"] == "12,810"
    assert costs["LSTM"]["Peak memory, MB"] == "2,500"
    assert "Reported s/epoch" not in costs["LSTM"]
    assert "Latency, ms" not in costs["LSTM"]


def test_what_a_model_costs_to_use_is_of_its_rows_first_run(groups):
    measured = []

    def meter(run):
        measured.append(run.name)
        return Cost(multiply_adds=len(measured) * 10**6, latency=2e-3, images_per_second=1234.5)

    _, costs = tables(compare.markdown(summarize(groups, meter)))
    assert measured == ["cnn_0", "lstm_0"]
    assert [row["Multiply-adds, M"] for row in costs.values()] == ["1.0", "2.0"]
    assert costs["LSTM"]["Latency, ms"] == "2.00"
    assert costs["LSTM"]["Images/s"] == "1,234"


def test_latex(rows):
    first, second = compare.latex(rows).split("\n\n")
    head = "System & Seeds & Accuracy, \\% & Reported, \\%"
    assert first.startswith(f"\\begin{{tabular}}{{lrrrrrrr}}\n\\toprule\n{head}")
    assert "CNN | small & 3 & 99.07 (98.59--99.39) & 99.03" in first
    assert "LSTM & 1 & 98.40 & -- &" in first
    for text in (first, second):
        assert text.rstrip().endswith("\\bottomrule\n\\end{tabular}")
    assert latex_table(["a_b"], [["5 & 6\\"]]).count("5 \\& 6\\textbackslash{} \\\\") == 1


def test_gaps_and_epochs_are_beside_the_reported_ones(runs):
    trained = 100 * (1 - 0.5 / 3)  # training accuracy of the kept epoch, which is 3 of 4
    rows = summarize(
        [
            Group("over", {"gap": 17.8, "epochs": 10}, runs("over", 0.5, 0.7)),
            Group("under", {}, runs("under", 0.9)),
        ]
    )
    assert [row.gap for row in rows] == pytest.approx([trained - 60, trained - 90])
    results, _ = tables(compare.markdown(rows))
    over = results["over"]
    assert over["Gap, pp"] == "+23.3"
    assert over["Reported gap"] == "+17.8"
    assert over["Reported epochs"] == "10"
    under = results["under"]
    assert under["Gap, pp"] == "-6.7"
    assert under["Reported gap"] == "–"
    assert under["Epochs"] == "4"


def test_means_over_classes_are_in_the_table_where_they_differ_from_accuracy(runs, rows):
    assert "Balanced accuracy" not in compare.markdown(rows)
    means = {"precision": 0.8, "recall": 0.61, "f1": 0.67}
    rare = summarize([Group("rare", {}, runs("rare", 0.9, results={"macro": means}))])
    results, _ = tables(compare.markdown(rows + rare))
    assert results["rare"]["Balanced accuracy, %"] == "61.00"
    assert results["rare"]["Macro F1, %"] == "67.00"
    assert results["LSTM"]["Balanced accuracy, %"] == "98.40"


def test_a_gap_that_is_not_known_is_left_out(runs):
    (run,) = runs("a", 0.9)
    run.write_history(run.history[:2])
    (row,) = summarize([Group("a", {}, [run])])
    assert row.gap is None
    assert "Gap" not in compare.markdown([row])
    (line,) = read_csv(compare.csv([row]))
    assert line["gap"] == ""


def test_csv_is_unrounded_and_leaves_unknowns_empty(rows):
    cnn, lstm = read_csv(compare.csv(rows))
    assert float(cnn["accuracy"]) == rows[0].accuracy
    assert float(cnn["accuracy_low"]) == rows[0].accuracy_low
    assert float(cnn["accuracy_high"]) == rows[0].accuracy_high
    assert float(cnn["reported_accuracy"]) == 99.03
    assert cnn["label"] == "CNN | small"
    assert lstm["accuracy_low"] == lstm["accuracy_high"] == ""
    assert lstm["reported_accuracy"] == ""


# Figures


def test_figure_shows_means_intervals_and_reported_values(rows):
    (axes,) = comparison.accuracies(rows).axes
    whiskers, _, means, singles, reported = axes.lines
    cnn, lstm = rows
    assert list(whiskers.get_xdata()) == [cnn.accuracy_low, cnn.accuracy_high]
    assert list(means.get_xdata()) == [cnn.accuracy]
    assert list(singles.get_xdata()) == [lstm.accuracy]
    assert list(singles.get_ydata()) == [1]
    assert singles.get_label() == "one seed: no interval"
    assert list(reported.get_xdata()) == [99.03]
    assert list(reported.get_ydata()) == [0]
    assert reported.get_markerfacecolor() == "none"


def test_costs_are_drawn_with_their_intervals(rows):
    left, right = comparison.costs(rows).axes
    parameters = [list(container[0].get_xdata()) for container in left.containers]
    seconds = [list(container[0].get_xdata()) for container in right.containers]
    assert parameters == [[93322], [93322]]
    assert seconds == [[75.0], [75.0]]
    (low, high), *_ = left.containers[0][2][0].get_segments()
    assert (low[1], high[1]) == pytest.approx((rows[0].accuracy_low, rows[0].accuracy_high))
    assert legend_texts(comparison.costs(rows)) == ["CNN | small", "LSTM (one seed)"]


def legend_texts(figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_axes_of_accuracies_end_at_100(runs):
    groups = [Group("best", {}, runs("best", 1.0, 0.9)), Group("all", {}, runs("all", 1.0))]
    rows = summarize(groups)
    (axes,) = comparison.accuracies(rows).axes
    assert axes.get_xlim()[1] == 100
    for axes in (*comparison.costs(rows).axes, *comparison.curves(groups).axes):
        assert axes.get_ylim()[1] <= 100


def test_labels_in_figures_are_what_differs_and_whole():
    grid = ["wide_cnn,rate=0.1,filters=16,32", "wide_cnn,rate=0.01,filters=16,32"]
    assert comparison.differing_labels(grid) == ["rate=0.1", "rate=0.01"]
    both = ["a,rate=0.1,warmup=1", "b,rate=0.1,warmup=2"]
    assert comparison.differing_labels(both) == ["a, warmup=1", "b, warmup=2"]
    for labels in (["a", "a,rate=0.1"], ["a"], ["a", "b"], ["a, one", "a, two"]):
        assert comparison.differing_labels(labels) == labels


def test_a_long_label_is_whole_in_the_legend(runs):
    label = "a system with a name that needs several lines in a legend"
    (text,) = legend_texts(comparison.curves([Group(label, {}, runs("long", 0.9, 0.8))]))
    assert text.replace("\n", " ") == label
    assert "\n" in text


def test_curves_at_the_same_place_are_dashed(runs):
    groups = [Group(name, {}, runs(name, 0.9)) for name in ("a", "b", "c")]
    (other,) = groups[1].runs
    history = [line | {"validation_accuracy": 0.1 * line["epoch"]} for line in other.history]
    other.write_history(history)
    (axes,) = comparison.curves(groups).axes
    assert [line.is_dashed() for line in axes.lines] == [False, False, True]


def test_curves_show_the_metric_that_all_runs_monitor(runs):
    groups = [Group(name, {}, runs(name, 0.9)) for name in ("a", "b")]
    assert comparison.curve_metric(groups) == "accuracy"
    for group in groups:
        (run,) = group.runs
        config = run.read_json("config.json")
        config["train"]["monitor"] = "balanced_accuracy"
        run.write_json("config.json", config)
        run.write_history([line | {"validation_balanced_accuracy": 0.2} for line in run.history])
    (axes,) = comparison.curves(groups).axes
    assert axes.get_ylabel().startswith("Validation balanced accuracy, %")
    assert set(axes.lines[0].get_ydata()) == {20.0}
    assert comparison.curve_metric([*groups, Group("c", {}, runs("c", 0.9))]) == "accuracy"


def test_a_point_around_another_is_a_ring(runs):
    rows = summarize([Group(name, {}, runs(name, 0.9)) for name in ("a", "b")])
    left, _ = comparison.costs(rows).axes
    sizes = [container[0].get_markersize() for container in left.containers]
    assert sizes[0] < sizes[1]
    assert left.containers[1][0].get_markerfacecolor() == "none"


def test_a_bad_first_epoch_does_not_squash_the_curves(runs):
    group = Group("steep", {}, runs("steep", 0.9, 0.9))
    for run in group.runs:
        accuracies = [0.1, 0.93, 0.94, 0.95]
        history = []
        for line, accuracy in zip(run.history, accuracies, strict=True):
            history.append(line | {"validation_accuracy": accuracy})
        run.write_history(history)
    (axes,) = comparison.curves([group]).axes
    assert axes.get_ylim()[0] > 90
    assert [text.get_text() for text in axes.texts] == ["↓ epoch 1: from 10"]


def test_curves_are_means_over_seeds_some_of_which_stop_early(runs):
    first, second = runs("pair", 0.9, 0.9)
    first.write_history([line | {"validation_accuracy": 0.5} for line in first.history])
    second.write_history(second.history[:2])
    (axes,) = comparison.curves([Group("pair", {}, [first, second])]).axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [1, 2, 3, 4]
    assert list(line.get_ydata()) == pytest.approx([(50 + 48) / 2, (50 + 73) / 2, 50, 50])


def test_write(groups, tmp_path):
    folder = tmp_path / "models"
    with pytest.raises(FileNotFoundError):  # it may have been renamed: it is not made again
        compare.write(groups, folder, title="Models on MNIST")
    folder.mkdir()
    printed = compare.write(groups, folder, title="Models on MNIST")
    rows = summarize(groups)
    markdown = compare.markdown(rows)
    text = (folder / "table.md").read_text()
    assert text.startswith(f"# Models on MNIST\n\n{markdown}")
    assert "(table.png)" in text
    assert printed.startswith(markdown)
    assert "- Between" in printed
    assert (folder / "table.csv").read_text() == compare.csv(rows)
    assert (folder / "table.tex").read_text() == compare.latex(rows)
    for name in ("table.png", "cost.png", "curves.png"):
        pixels = np.asarray(Image.open(folder / name).convert("RGB"))
        for border in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert border.min() > 245  # no label is cut


# Pairs


def answering(run, right: int):
    """The run with predictions that are right on the first so many of its test images."""
    probabilities, labels = run.predictions
    classes = probabilities.shape[1]
    is_right = np.arange(len(labels)) < right
    guesses = np.where(is_right, labels, (labels + 1) % classes)
    predict.write_predictions(run, (np.eye(classes)[guesses], labels), None)
    return run


def test_pairs_are_compared_on_the_same_images(runs, tmp_path):
    groups = [
        Group(
            "good",
            {},
            [answering(run, 28 + run.config.seed % 2) for run in runs("good", 0.5, 0.5, 0.5)],
        ),
        Group("same", {}, [answering(run, 28) for run in runs("same", 0.5)]),
        Group("poor", {}, [answering(run, 9) for run in runs("poor", 0.5)]),
    ]
    sentences = compare.pairs(groups)
    assert [sentence.split(":")[0] for sentence in sentences] == [
        "Between good and same no difference is shown",
        "Between good and poor, good is better",
        "Between same and poor, same is better",
    ]
    # 19 images against none.
    assert sentences[2].endswith("same is better: by 63.33 points, p < .001 over images.")
    compare.write(groups, tmp_path, title="Three")
    text = (tmp_path / "table.md").read_text()
    for sentence in sentences:
        assert f"- {sentence}\n" in text


def test_other_test_images_are_not_compared(runs):
    (first,) = runs("one", 0.5)
    (second,) = runs("other", 0.5)
    report = second.data
    report["splits"]["test"]["fingerprint"] = "another"
    second.write_json("data.json", report)
    groups = [Group("one", {}, [first]), Group("other", {}, [second])]
    assert compare.pairs(groups) == []


def test_predictions_that_are_not_of_the_test_set_are_refused(runs):
    (first,) = runs("one", 0.5)
    (second,) = runs("other", 0.5)
    probabilities, labels = second.predictions
    second.write_predictions((probabilities[1:], labels[1:]), None)
    groups = [Group("one", {}, [first]), Group("other", {}, [second])]
    with pytest.raises(RunError, match=r"predictions are \(29, 3\), of its test set \(30, 3\)"):
        compare.pairs(groups)


@pytest.fixture
def vote(runs, tmp_path):
    """The groups of two runs, and of the ensemble of the first alone: weights 1 and 0."""
    members = [answering(*runs("good", 0.9), 27), answering(*runs("poor", 0.3), 9)]
    folder = EnsembleFolder(tmp_path / "both")
    folder.path.mkdir()
    probabilities, _, summary = ensemble.vote(members, "1,0", folder.path)
    predict.write_predictions(folder, (probabilities, members[0].predictions[1]), None)
    folder.write_json(ENSEMBLE, summary)
    return [Group(run.name, {}, [run]) for run in (*members, folder)]


def test_an_ensemble_is_compared_like_a_run_but_for_its_training(vote, tmp_path):
    (tmp_path / "table").mkdir()
    assert compare.pairs(vote) == [
        "Between good_0 and both no difference is shown: 0.00 points, p = 1 over images.",
        "Between good_0 and poor_0, good_0 is better: by 60.00 points, p < .001 over images.",
        "Between both and poor_0, both is better: by 60.00 points, p < .001 over images.",
    ]
    compare.write(vote, tmp_path / "table", title="Three", meter=lambda run: Cost(1, 1e-3, 1e3))
    text = (tmp_path / "table" / "table.md").read_text()
    results, costs = tables(text.split("\n\n", 1)[1].split("\nMeans")[0])
    row = results["both"]
    assert (row["Accuracy, %"], row["Seeds"]) == ("90.00", "1")
    assert (row["Gap, pp"], row["Epochs"]) == (UNKNOWN, UNKNOWN)
    assert costs["both"]["Parameters"] == "93,322"  # of the one that votes
    assert {costs["both"][title] for title in costs["both"]} == {"both", "93,322", UNKNOWN}
    assert costs["good_0"]["Multiply-adds, M"] == "0.0"
    assert "The parameters of an ensemble are those of all its members that vote." in text
    assert (tmp_path / "table" / "curves.png").exists()


def test_ensembles_alone_have_no_curves(vote, tmp_path):
    (tmp_path / "table").mkdir()
    compare.write(vote[2:], tmp_path / "table", title="One")
    assert "curves.png" not in (tmp_path / "table" / "table.md").read_text()
    assert {file.name for file in (tmp_path / "table").iterdir()} == {
        "table.md",
        "table.csv",
        "table.tex",
        "table.png",
        "cost.png",
    }


def test_an_ensemble_of_an_older_version_is_to_be_made_again(vote):
    (folder,) = vote[2].runs
    summary = folder.summary
    del summary["test_fingerprint"]
    folder.write_json(ENSEMBLE, summary)
    with pytest.raises(RunError, match="did not keep what its test set was. Make the ensemble"):
        compare.pairs(vote)


def test_of_many_systems_each_is_compared_with_the_best(runs):
    groups = []
    for n in range(8):
        (run,) = runs(f"s{n}", 0.5)
        groups.append(Group(f"s{n}", {}, [answering(run, 10 + n)]))
    compared = [sentence.replace(",", "").split()[1:4] for sentence in compare.pairs(groups)]
    assert compared == [["s7", "and", f"s{n}"] for n in reversed(range(7))]


def test_confusions_that_changed_between_two_systems(runs, tmp_path):
    """Means over each system's runs; a pair whose count is the same is left out."""
    before = runs("one", 0.9, 0.9)
    after = runs("other", 0.9)
    matrices = [
        (before[0], [[8, 2, 0], [0, 9, 1], [0, 0, 10]]),
        (before[1], [[6, 4, 0], [0, 9, 1], [0, 0, 10]]),
        (after[0], [[9, 1, 0], [5, 4, 1], [0, 0, 10]]),
    ]
    for run, confusion in matrices:
        run.write_json(TEST, run.test | {"confusion": confusion})
    groups = [Group("one|1", {}, before), Group("other", {}, after)]
    (tmp_path / "table").mkdir()
    compare.write(groups, tmp_path / "table", title="Two")
    text = (tmp_path / "table" / "table.md").read_text()
    _, section = text.split("## Confusions that changed most")
    cat = "&lt;b&gt;cat &amp; dog&lt;/b&gt;"
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert rows[0] == r"| True class | Taken for | one\|1 | other | Difference |"
    assert rows[2:] == [
        f"| {cat} | automobile | 0 | 5 | +5 |",
        f"| automobile | {cat} | 3 | 1 | -2 |",
    ]


def test_a_single_system_has_no_changed_confusions(runs, tmp_path):
    compare.write([Group("one", {}, runs("one", 0.9))], tmp_path, title="One")
    assert "Confusions" not in (tmp_path / "table.md").read_text()
