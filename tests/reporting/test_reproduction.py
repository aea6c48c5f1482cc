"""The reproduction table: that it is what its command writes, and says what its sources say."""

import csv
import shutil
from pathlib import Path

import pytest

from imgcls_jax.errors import RunError
from imgcls_jax.reporting import reproduction
from imgcls_jax.reporting.compare_rows import Group, summarize
from imgcls_jax.run.folder import RunFolder
from tests.test_structure import load

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def systems():
    with open(RESULTS / reproduction.SYSTEMS, newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_tables_are_what_the_command_writes():
    table, short_table = reproduction.render(RESULTS)
    advice = "run: python -m imgcls_jax reproduce results"
    assert (RESULTS / "README.md").read_text() == table, advice
    in_readme = reproduction.between(ROOT / "README.md")
    assert in_readme.strip() == short_table.strip(), advice
    assert (RESULTS / reproduction.PICTURE).exists()


def test_every_row_names_a_config_and_a_run_or_what_it_waits_for(systems):
    for system in systems:
        assert (ROOT / "configs" / f"{system['config']}.py").exists(), system
        path = RESULTS / system["ours"]
        has_runs = path.exists() or list(path.parent.glob(f"{path.name}-seed*"))
        is_same = system["ours"].startswith(reproduction.SAME)
        assert has_runs or is_same or system["waits for"], system
        assert system["row"][0] in reproduction.REPORTS


def test_reported_figures_are_those_of_the_studies(systems):
    checked = 0
    for system in systems:
        study, _, label = system["ours"].partition("/")
        config = Path("configs/studies", f"{study}.py")
        rows = load(config).rows if (ROOT / config).exists() else {}
        if system["accuracy"] and label in rows:
            reported = rows[label].reported
            assert float(system["accuracy"]) == reported.accuracy, system
            assert system["accuracy"] in system["reported"]
            for figure in ("gap", "epochs"):
                if figure in reported:
                    assert float(system[figure]) == reported[figure], system
                    checked += 1
    assert checked == 10


LINES = [
    "A1,one,91.5,91.5,-2,5,study/a,,widths,cifar_fast,",
    "A2,two,80,80,7,,study/b,,,cifar_fast,a GPU",
    "A3,three,,,,,page,,,cifar_fast,",
    "A4,four,,,,,page,a model of B,,cifar_fast,",
    "A5,five,91,91,,,row A1,,,cifar_fast,",
    "A6,six,named,,,,study/a,,,cifar_fast,",
    "A7,seven,90,90,,,study/a,the head alone,,cifar_fast,",
    '"A1, 2 epochs",one,,,,,study/a,,2 epochs,cifar_fast,',
]


def write_systems(folder: Path, lines: list[str]):
    text = "\n".join([",".join(reproduction.COLUMNS), *lines])
    (folder / reproduction.SYSTEMS).write_text(text)


@pytest.fixture
def folder(tmp_path, make_run, make_dataset):
    """A folder of results with LINES, and the runs and the page that these name."""
    for seed, accuracy in enumerate((0.91, 0.93)):
        results = {"accuracy": accuracy}
        make_run(make_dataset(9), name=f"study/a-seed{seed}", seed=seed, results=results)
    write_systems(tmp_path, LINES)
    (tmp_path / "page").touch()
    return tmp_path


@pytest.fixture
def readme(tmp_path):
    file = tmp_path / "FRONT.md"
    file.write_text(f"before\n{reproduction.BEGIN}old\n{reproduction.END}after\n")
    return file


def test_the_summary_counts_the_rows_of_each_kind(folder, readme):
    assert reproduction.write(folder, readme) == (
        "7 rows: 1 with a figure beside a reported one, 1 with another row's runs, "
        "1 with a figure where none was reported, 1 with a stand-in's figure, 1 shown, "
        "1 shown of a stand-in; 1 waiting: 1 for a GPU. Beside them: 1 of our own."
    )


def test_a_figure_is_the_mean_of_its_runs(folder, readme):
    reproduction.write(folder, readme)
    table = (folder / "README.md").read_text()
    runs = [RunFolder(folder / "study" / f"a-seed{seed}") for seed in (0, 1)]
    (row,) = summarize([Group("", {}, runs)])
    figure = "[92.00 (67.17–98.48)](study/table.md)"
    assert f"| A1 | one | 91.5 | {figure} | {row.gap:+.1f}; reported -2.0 | 2 |" in table
    assert "; reported 5 |" in table and "| widths |" in table
    assert "| A2 | two | 80 | *waits for a GPU* | reported +7.0 |" in table
    assert "| [shown](page) |" in table
    assert "| [shown](page), stand-in: a model of B |" in table
    assert f"| {figure}, the runs of A1 |" in table
    assert f"| seven | 90 | {figure}, stand-in: the head alone |" in table


def test_the_readme_gets_the_rows_with_figures_and_keeps_the_rest(folder, readme):
    reproduction.write(folder, readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "old" not in text and "| A1 | one |" in text
    assert (folder / reproduction.PICTURE).stat().st_size > 1000


def test_a_row_cannot_have_the_runs_of_a_row_without_any(folder):
    write_systems(folder, [LINES[4]])
    with pytest.raises(RunError, match="row A5 has the runs of row A1, which has none"):
        reproduction.render(folder)


def test_a_readme_without_a_place_for_the_table_is_refused(folder, readme):
    readme.write_text("no place")
    with pytest.raises(RunError, match="has no place for the table"):
        reproduction.write(folder, readme)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(RunError, match=r"systems\.csv is missing"):
        reproduction.render(tmp_path)
    shutil.copy(RESULTS / "mnist_models" / "table.csv", tmp_path / reproduction.SYSTEMS)
    with pytest.raises(RunError, match="has the columns"):
        reproduction.render(tmp_path)
