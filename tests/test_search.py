"""Searches: ranges, both samplers, the table by validation, resuming, and what a dry run says."""

import ast
import csv
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.studies import base as study_base
from configs.studies import search as search_config
from imgcls_jax import api
from imgcls_jax.commands import dry_run, samplers, search, study, trainer
from imgcls_jax.commands import train as train_command
from imgcls_jax.commands.trainer import Outcome
from imgcls_jax.config import ranges
from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.reporting import search as reporting
from imgcls_jax.run.folder import RunFolder
from tests.faults import tiny
from tests.test_dry_run import Pool

ROOT = Path(__file__).parents[1]
RATE = "optimizer.learning_rate"
BATCH = "train.batch_size"
RANGES = ((RATE, "log_uniform(1e-4, 1e-1)"), (BATCH, "choice(8, 16, 32)"))


def config_of(**options):
    config = study_base.get_config()
    config.name = config.title = "tiny_search"
    config.search = RANGES
    config.trials = 6
    row = tiny.get_config()
    row.train.epochs = 1
    config.rows = ConfigDict({"tiny": {"config": row}})
    config.update(options)
    return config


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("uniform(-1, 2.5)", -1, 2.5),
        ("log_uniform(1e-4, 0.1)", 1e-4, 0.1),
        ("integers(2, 5)", 2, 5),
    ],
)
def test_numbers_are_drawn_from_all_of_their_range(text, low, high):
    choices = ranges.parse(text)
    generator = np.random.default_rng(0)
    drawn = [choices.draw(generator) for _ in range(3000)]
    assert low <= min(drawn) and max(drawn) <= high and tuple(choices.extremes) == (low, high)
    assert set(map(type, choices.extremes)) == set(map(type, drawn))  # so checks see what is drawn
    assert all(float(f"{value:.4g}") == value for value in drawn)
    middle = np.median(drawn)
    expected = np.sqrt(low * high) if "log" in text else (low + high) / 2
    assert middle == pytest.approx(expected, rel=0.4)
    if "integers" in text:
        assert set(drawn) == {2, 3, 4, 5} and all(type(value) is int for value in drawn)


def test_a_choice_may_be_of_words_numbers_and_tuples():
    choices = ranges.parse("choice(adam, 'sgd', (16, 32), True, 0.5)")
    assert choices.values == ("adam", "sgd", (16, 32), True, 0.5)
    generator = np.random.default_rng(0)
    assert {repr(choices.draw(generator)) for _ in range(100)} == set(map(repr, choices.values))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"search": 3}, "give pairs of an option and its range"),
        ({"search": ((RATE, 0.1),)}, "give pairs of an option and its range"),
        ({"search": ((RATE, "log_uniform(0, 1)"),)}, "0 has no logarithm"),
        ({"search": ((RATE, "uniform(1, 1)"),)}, "1 is not below 1"),
        ({"search": ((RATE, "uniform(1)"),)}, "the arguments do not fit uniform"),
        ({"search": ((RATE, "uniform(a, b)"),)}, "'a' is no number"),
        ({"search": ((RATE, "loguniform(1, 2)"),)}, "Did you mean 'log_uniform'"),
        ({"search": ((RATE, "uniform(1, 2"),)}, "it is not of the form name(argument, ...)"),
        ({"search": ((RATE, "choice(1)"),)}, "at least two different values"),
        ({"search": ((BATCH, "integers(1, 2.5)"),)}, "are not both whole numbers"),
        (
            {"search": ((BATCH, "integers(0, 2)"),)},
            "rows.tiny.config.train.batch_size is 0: give 1",
        ),
        ({"search": ((BATCH, "choice(a, b)"),)}, "A value of config.search is of the wrong type"),
        ({"search": (("train.batch_siz", "choice(1, 2)"),)}, "Did you mean 'train.batch_size'?"),
        ({"search": (RANGES[0], RANGES[0])}, "give each option once"),
        ({"search": (("train.monitor", "choice(loss, accuracy)"),)}, "has to be the same in all"),
        ({"search": (("data.validation_size", "uniform(.1, .2)"),)}, "the same validation images"),
        ({"search": (("data.long_tail", "uniform(1, 9)"),)}, "the same validation images"),
        ({"search": (("data.corrections", "choice(a, b)"),)}, "the same validation images"),
        ({"trials": 0}, "trials is 0: give 1 or more"),
        ({"search_seed": -1}, "search_seed is -1"),
        ({"sampler": "optun"}, "Did you mean 'optuna'?"),
        ({"grid": ((RATE, (0.1,)),)}, "a study of one row without config.grid"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_anything_is_trained(
    options, words, tmp_path, monkeypatch
):
    monkeypatch.setattr(trainer, "_train_run", lambda *_: pytest.fail("a run was trained"))
    config = config_of()
    with config.ignore_type():
        config.update(options)
    with pytest.raises(ConfigError, match=re.escape(words)):
        search.train(config, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_without_optuna_the_error_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r'pip install -e "\.\[search\]"'):
        search.train(config_of(sampler="optuna"), tmp_path)


def score_of(config) -> float:
    """A validation accuracy that is best at a rate of 0.01, and rises with the batch."""
    return (
        0.9
        - 0.1 * abs(np.log10(config.optimizer.learning_rate) + 2)
        + config.train.batch_size / 1e3
    )


@pytest.fixture
def trained(monkeypatch):
    """The names of the runs that are trained, which takes no time and gives `score_of`."""
    names = []

    def train_in_process(run, deadline):
        names.append(run.name)
        folder = RunFolder(run.folder)
        config = api.check_config(run.config)
        test = json.loads((ROOT / "results" / "cifar_fast" / "test.json").read_text())
        test |= {"validation_accuracy": score_of(config), "accuracy": 0.123, "epochs": 1}
        folder.write_json("config.json", config.to_dict())
        folder.write_json("test.json", test)
        (folder.path / "predictions.npz").touch()
        (folder.path / "report.html").touch()
        return Outcome.FINISHED

    monkeypatch.setattr(trainer, "_train_in_process", train_in_process)
    monkeypatch.setattr("sys.argv", ["launch.py", "--config", "a b.py"])
    return names


def rows_of(folder):
    with open(folder / "table.csv") as file:
        return list(csv.DictReader(file))


def test_a_random_search_is_ranked_by_validation_and_goes_on(trained, tmp_path, caplog):
    caplog.set_level("INFO", "imgcls_jax")
    folder = tmp_path / "study"
    train_command.train(config_of(), folder)
    assert trained == [f"trial{number}-seed0" for number in range(6)]
    rows = rows_of(folder)
    values = [float(row["validation_accuracy"]) for row in rows]
    assert len(rows) == 6 and values == sorted(values, reverse=True)
    table = (folder / "table.md").read_text()
    assert "0.123" not in table and "12.30" not in table and "no part in the choice" in table
    assert "Rank correlation" in table and (folder / "table.png").stat().st_size > 1000
    assert f"learning_rate={rows[0][RATE]}, batch_size={rows[0][BATCH]}" in caplog.text

    trained.clear()
    train_command.train(config_of(trials=8), folder)
    assert trained == ["trial6-seed0", "trial7-seed0"]
    first = [(row["trial"], row[RATE]) for row in rows_of(folder) if int(row["trial"]) < 6]
    assert sorted(first) == sorted((row["trial"], row[RATE]) for row in rows)


@pytest.mark.parametrize("sampler", ["random", "optuna"])
def test_trials_of_another_config_are_refused_and_are_in_no_table(sampler, trained, tmp_path):
    if sampler == "optuna":
        pytest.importorskip("optuna")
    folder = tmp_path / "study"
    config = config_of(sampler=sampler, trials=2)
    search.train(config, folder)
    before = (folder / "table.md").read_text()
    config.trials = 3
    config.rows.tiny.config.train.epochs = 2
    words = r"trial0-seed0 holds the run of another config:\n  train.epochs: 1 there, 2 now"
    with pytest.raises(RunError, match=words):
        search.train(config, folder)
    assert trained == ["trial0-seed0", "trial1-seed0"]
    assert (folder / "table.md").read_text() == before
    outcomes = dict.fromkeys((folder / name for name in trained), Outcome.FINISHED)
    outcomes[folder / "trial1-seed0"] = Outcome.FAILED
    finished = search.Search(config_of(sampler=sampler, trials=2), folder).finished(outcomes)
    assert [trial.number for trial in finished] == [0]


def test_optuna_does_not_go_on_in_another_direction(tmp_path):
    pytest.importorskip("optuna")
    config = config_of(sampler="optuna")
    search.Search(config, tmp_path).sampler.options(0)
    config.rows.tiny.config.train.monitor = "loss"
    with pytest.raises(RunError, match="was to maximize its metric.*to minimize now"):
        search.Search(config, tmp_path).sampler.options(0)


def test_the_command_that_tests_the_best_options_can_be_pasted(trained, tmp_path):
    folder = tmp_path / "study"
    config = config_of(seeds=(0, 1), trials=4)
    train_command.train(config, folder)
    assert trained[:3] == ["trial0-seed0", "trial0-seed1", "trial1-seed0"]
    line = (folder / "table.md").read_text().splitlines()[-1]
    program, *arguments = shlex.split(line.strip())
    assert (program, arguments[:3]) == ("python", ["launch.py", "--config", "a b.py"])
    changes = dict(argument.split("=", 1) for argument in arguments[3:])
    assert changes["--workdir"] == f"{folder}-best" and changes["--config.search"] == "()"
    config.search = ()
    config.grid = ast.literal_eval(changes["--config.grid"])
    config.seeds = ast.literal_eval(changes["--config.seeds"])
    runs = study.plan(config, folder)
    assert [run.config.seed for run in runs] == [2, 3, 4]  # none that the search used
    best = rows_of(folder)[0]
    assert runs[0].config.optimizer.learning_rate == float(best[RATE])
    assert runs[0].config.train.batch_size == int(best[BATCH])


def test_the_command_uses_seeds_where_a_row_has_its_own(trained, tmp_path):
    config = config_of(trials=2)
    config.rows.tiny.seeds = (4, 7)
    train_command.train(config, tmp_path / "study")
    line = (tmp_path / "study" / "table.md").read_text().splitlines()[-1]
    assert "--config.rows.tiny.seeds=8,9,10" in line


def test_folds_are_not_called_seeds_and_their_test_images_not_new(trained, tmp_path):
    config = config_of(trials=2)
    config.rows.tiny.config.data.folds = 3
    train_command.train(config, tmp_path / "study")
    table = (tmp_path / "study" / "table.md").read_text()
    assert "in the kept epoch, the mean over 3 folds." in table
    assert "has had its part in the choice" in table and "has no part" not in table


def test_a_search_whose_time_is_spent_chooses_no_more(trained, tmp_path, caplog):
    pytest.importorskip("optuna")
    caplog.set_level("INFO", "imgcls_jax")
    config = config_of(sampler="optuna", budget=1e-9)
    search.train(config, tmp_path / "study")
    assert "6 of 6 runs are not finished: trial0-seed0, trial1-seed0" in caplog.text
    assert trained == [] and not (tmp_path / "study" / samplers.JOURNAL).exists()


def test_a_trial_that_fails_is_left_out(trained, tmp_path, monkeypatch, caplog):
    train_in_process = trainer._train_in_process
    failing = {"trial1-seed0"}

    def train_or_fail(run, deadline):
        if run.name in failing:
            return Outcome.FAILED
        return train_in_process(run, deadline)

    monkeypatch.setattr(trainer, "_train_in_process", train_or_fail)
    search.train(config_of(trials=3), tmp_path / "study")
    assert {row["trial"] for row in rows_of(tmp_path / "study")} == {"0", "2"}
    assert "1 of 3 runs failed" in caplog.text and not (tmp_path / "study" / "table.png").exists()
    failing |= {f"trial{number}-seed0" for number in range(3)}
    with pytest.raises(RunError, match="All 3 runs failed"):
        search.train(config_of(trials=3), tmp_path / "other")


def test_optuna_learns_resumes_and_stores_its_trials_in_the_folder(trained, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    folder = tmp_path / "study"
    config = config_of(sampler="optuna", trials=25)
    train_in_process = trainer._train_in_process

    def train_until_killed(run, deadline):
        if run.name == "trial3-seed0":
            raise KeyboardInterrupt
        return train_in_process(run, deadline)

    monkeypatch.setattr(trainer, "_train_in_process", train_until_killed)
    with pytest.raises(KeyboardInterrupt):
        search.train(config, folder)
    stopped = search.Search(config, folder).preview()[3].config
    with open(folder / samplers.JOURNAL, "ab") as journal:
        journal.write(b'{"op_code": 4, "worker_id"')  # as a process leaves it that is killed

    monkeypatch.setattr(trainer, "_train_in_process", train_in_process)
    search.train(config, folder)
    assert trained == [f"trial{number}-seed0" for number in range(25)]
    resumed = RunFolder(folder / "trial3-seed0").config
    assert resumed.optimizer.learning_rate == stopped.optimizer.learning_rate
    assert resumed.train.batch_size == stopped.train.batch_size
    assert "fANOVA" in (folder / "table.md").read_text()
    values = {int(row["trial"]): float(row["validation_accuracy"]) for row in rows_of(folder)}
    chosen = np.mean([values[number] for number in range(15, 25)])
    drawn = np.mean([values[number] for number in range(10)])  # by chance, before TPE begins
    assert chosen > drawn

    other = config_of(sampler="optuna", search=RANGES[:1])
    with pytest.raises(RunError, match="a search over other ranges.*Give another --workdir"):
        search.train(other, folder)
    other = config_of(sampler="optuna", seeds=(1, 2))
    with pytest.raises(RunError, match="a search with other seeds or folds: seed0. Give another"):
        search.train(other, folder)
    (folder / samplers.JOURNAL).write_bytes(b"nonsense\n")
    with pytest.raises(RunError, match="journal is damaged"):
        search.train(config, folder)


def test_optuna_s_trials_are_asked_once_by_processes_that_share_them(tmp_path):
    pytest.importorskip("optuna")
    config = config_of(sampler="optuna")
    tmp_path.joinpath("study").mkdir()
    first = search.Search(config, tmp_path / "study")
    second = search.Search(config, tmp_path / "study")
    options = [first.sampler.options(0), second.sampler.options(1), first.sampler.options(2)]
    assert [second.sampler.options(number) for number in range(3)] == options
    assert second.sampler.preview(2) == options[2]
    assert len({str(one) for one in options}) == 3


def test_two_real_trials_of_optuna(tmp_path, monkeypatch):
    pytest.importorskip("optuna")

    def train_here(run, deadline):
        api.train(run.config, run.folder)
        return Outcome.FINISHED

    monkeypatch.setattr(trainer, "_train_in_process", train_here)
    config = config_of(sampler="optuna", trials=2, search=RANGES[:1])
    train_command.train(config, tmp_path / "study")
    rows = rows_of(tmp_path / "study")
    for row in rows:
        run = RunFolder(tmp_path / "study" / f"trial{row['trial']}-seed0")
        assert run.finished and run.config.optimizer.learning_rate == float(row[RATE])
        assert run.test["validation_accuracy"] == float(row["validation_accuracy"])
    assert len(rows) == 2


@pytest.mark.parametrize("sampler", ["random", "optuna"])
def test_a_dry_run_of_a_search_says_what_it_takes(sampler, trained, tmp_path, monkeypatch, capsys):
    if sampler == "optuna":
        pytest.importorskip("optuna")
    monkeypatch.setattr(dry_run, "ProcessPoolExecutor", Pool)
    folder = tmp_path / "study"
    search.train(config_of(sampler=sampler, trials=2), folder)
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    dry_run.show(config_of(sampler=sampler, trials=4), folder)
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("| trial")]
    assert [" finished " in row for row in rows] == [True, True, False, False]
    assert all(re.search(r"\(learning_rate=\S+, batch_size=\d+\)", row) for row in rows)
    assert "nothing was trained" in printed and ("Optuna chooses" in printed) == (
        sampler != "random"
    )
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert after == before


def test_a_dry_run_measures_a_few_kinds_of_trials(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dry_run, "ProcessPoolExecutor", Pool)
    config = config_of(trials=12, search=((BATCH, "integers(8, 200)"),))
    dry_run.show(config, tmp_path / "study")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| trial")]
    assert len(rows) == 12 and sum("| new | 10 | 4 |" in row for row in rows) == 5
    assert all("6 min" in row for row in rows)  # also of those that were not measured
    assert not (tmp_path / "study").exists()


def test_rank_correlations_of_numbers_and_of_words():
    trials = []
    for number in range(20):
        options = {"a.rate": number / 10, "b.rate": 1, "word": "ab"[number % 2], "odd": number % 2}
        trials.append(reporting.Trial(number, options, number % 2 + number / 1e3, []))
    correlations = reporting.rank_correlations(trials)
    assert correlations["word"] == pytest.approx(correlations["odd"]) and correlations["odd"] > 0.8
    assert 0 < correlations["a.rate"] < correlations["odd"] and correlations["b.rate"] == 0
    assert reporting.rank_correlations(trials[:3]) == {}
    names = ranges.short_names(["a.rate", "b.rate", "optimizer.name", "train.epochs"])
    assert list(names.values()) == ["a.rate", "b.rate", "optimizer.name", "epochs"]


def test_a_config_by_name_has_a_search(tmp_path):
    config = search_config.get_config("mnist_cnn")
    run = search.Search(config, tmp_path).preview()[0]
    assert run.folder == tmp_path / "trial0-seed0" and run.config.data.name == "mnist"
    assert 1e-4 <= run.config.optimizer.learning_rate <= 1e-1
    with pytest.raises(ValueError, match=r"There is no configs/none\.py"):
        search_config.get_config("none")
