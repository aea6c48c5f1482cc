"""The pages of runs and of folders of runs, in headless Chromium."""

import browsers
import numpy as np
import pytest
from PIL import Image

from imgcls_jax.evaluation import calibration
from imgcls_jax.reporting import calibration as calibration_page
from imgcls_jax.reporting import index, robustness, run_report
from imgcls_jax.reporting import page as pages
from imgcls_jax.run.folder import PREDICTIONS

HOSTILE = '<img src=x onerror="document.title=1"> \'&amp;'  # no name of a folder may hold a slash
SCRIPT = "</script><script>document.title=1</script>"
PHONE = {"viewport": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def chromium():
    with browsers.launched() as browser:
        yield browser


@pytest.fixture
def visit(chromium):
    """visit(path, **context): the page of a file.

    Errors, messages, and requests of anything but files fail the test.
    """
    contexts = []
    complaints = []

    def note_request(request):
        if not request.url.startswith(("file:", "data:")):
            complaints.append(request.url)

    def open_page(path, **options):
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", note_request)
        page.goto(path.resolve().as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture
def folder(tmp_path, make_dataset, make_run):
    """Five runs, two of them of a study, one with hostile and long names, one with a picture."""
    test = make_dataset(60)
    hostile = {"data": {"name": HOSTILE}, "model": {"name": SCRIPT}}
    lstm = {"model": {"name": "lstm"}}

    def make(name, accuracy, **options):
        return make_run(test, name=name, results={"accuracy": accuracy}, **options)

    make("middle", 0.9)
    make("worst", 0.085, changes=lstm)
    make(HOSTILE, 0.7, changes=hostile, device="many_words" * 30)
    make("study/good-seed1", 0.98, seed=1, device=HOSTILE)
    best = make("study/best-seed0", 0.991)
    for config in tmp_path.rglob("config.json"):
        (config.parent / "report.html").write_text(f"<h1>{config.parent.parent.name}</h1>")
    Image.new("RGB", (1600, 1100), "orange").save(best.path / "dashboard.png")
    index.write(tmp_path)
    return tmp_path


def shown(page, key: str) -> list[str]:
    """The texts of a column in the rows to be seen, from top to bottom."""
    position = page.locator(f"th[data-key={key}]").evaluate("head => head.cellIndex")
    return page.eval_on_selector_all(
        ".runs tbody tr",
        "(rows, n) => rows.filter(row => !row.hidden).map(row => row.cells[n].textContent)",
        position,
    )


def test_columns_sort_both_ways(folder, visit):
    page = visit(folder / "index.html")
    best_first = ["99.10 %", "98.00 %", "90.00 %", "70.00 %", "8.50 %"]
    head = page.locator("th[data-key=accuracy]")
    assert head.get_attribute("aria-sort") is None
    head.get_by_role("button").click()
    assert shown(page, "accuracy") == best_first
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").press("Enter")
    assert shown(page, "accuracy") == best_first[::-1]
    assert head.get_attribute("aria-sort") == "ascending"
    page.get_by_label("All columns").check()
    study = page.locator("th[data-key=study]")
    for order in ("ascending", "descending"):  # what is unknown stays last
        study.get_by_role("button").click()
        assert study.get_attribute("aria-sort") == order
        assert head.get_attribute("aria-sort") is None
        assert shown(page, "study") == ["study"] * 2 + ["\N{EN DASH}"] * 3


def test_rows_are_filtered_by_words_and_choices(folder, visit):
    page = visit(folder / "index.html")
    assert page.locator("output").text_content() == "5 of 5 runs"
    page.get_by_label("Search").fill("SEED stu")
    assert shown(page, "name") == ["best-seed0", "good-seed1"]
    assert page.locator("output").text_content() == "2 of 5 runs"
    page.get_by_label("Search").fill("")
    page.get_by_label("Model").select_option("lstm")
    assert shown(page, "name") == ["worst"]
    page.get_by_label("Study").select_option("study")
    assert shown(page, "name") == []
    page.get_by_label("Model").select_option("all")
    page.locator("th[data-key=accuracy] button").click()
    assert shown(page, "accuracy") == ["99.10 %", "98.00 %"]


def test_a_name_leads_to_the_page_of_its_run(folder, visit):
    page = visit(folder / "index.html")
    page.get_by_role("link", name="best-seed0").click()
    assert page.locator("h1").text_content() == "study"
    page.go_back()
    page.get_by_role("link", name=HOSTILE).click()
    assert page.locator("h1").text_content() == folder.name


def test_names_from_outside_are_text(folder, visit):
    page = visit(folder / "index.html")
    assert page.title() == f"Runs: {folder.name}"
    assert [HOSTILE] == [name for name in shown(page, "name") if "<" in name]
    assert HOSTILE in shown(page, "data")
    assert HOSTILE in shown(page, "device")
    page.get_by_label("Model").select_option(SCRIPT)
    assert shown(page, "accuracy") == ["70.00 %"]
    assert page.locator("img").count() == 1  # the one thumbnail


def test_without_javascript_the_index_is_a_plain_table(folder, visit):
    page = visit(folder / "index.html", java_script_enabled=False)
    assert page.locator(".runs tbody tr").count() == 5
    assert not page.locator("form").is_visible()
    assert page.locator("button").count() == 0


def visible_titles(page) -> list[str]:
    heads = page.locator(".runs thead th").all()
    return [head.text_content() for head in heads if head.is_visible()]


@pytest.mark.parametrize("java_script_enabled", [True, False])
def test_the_index_is_a_table_of_six_columns_and_the_rest_on_demand(
    java_script_enabled, folder, visit
):
    desktop = {"viewport": {"width": 1280, "height": 900}}
    page = visit(folder / "index.html", java_script_enabled=java_script_enabled, **desktop)
    row = page.locator(".runs tbody tr").first
    assert row.evaluate("row => getComputedStyle(row).display") == "table-row"
    assert visible_titles(page) == ["Name", "Data", "Model", "Accuracy", "Loss", "Time"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.get_by_label("All columns").check()
    assert len(visible_titles(page)) == 1 + len(index.COLUMNS)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_the_index_shows_cards_on_a_phone(folder, visit):
    page = visit(folder / "index.html", **PHONE)
    card = page.locator(".runs tbody tr").first
    assert card.evaluate("row => getComputedStyle(row).display") == "grid"
    assert not card.locator("td[data-title=Device]").is_visible()
    page.get_by_label("All columns").check()
    assert card.locator("td[data-title=Device]").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.fixture
def run(make_dataset, make_run):
    """A run of three classes with its page."""
    test = make_dataset(200)
    run = make_run(test, seed=1)
    run_report.write(run, train=test, test=test)
    return run


def first_cells(table, column: int) -> list[str]:
    rows = table.locator("tbody tr").all()
    return [row.locator("th, td").nth(column).text_content() for row in rows]


def test_the_table_of_classes_is_sorted_worst_first_and_by_any_column(run, visit):
    page = visit(run.path / "report.html")
    table = page.locator("table.sortable")
    f1 = [float(text) for text in first_cells(table, 3)]
    assert f1 == sorted(f1) and len(set(f1)) == 3
    assert table.locator("[aria-sort]").text_content() == "F1"
    table.get_by_role("button", name="F1").click()
    assert [float(text) for text in first_cells(table, 3)] == f1[::-1]
    table.get_by_role("button", name="Class").click()
    assert first_cells(table, 0) == ["<b>cat & dog</b>", "automobile", "costs $5 or $6"]
    plain = visit(run.path / "report.html", java_script_enabled=False).locator("table.sortable")
    assert [float(text) for text in first_cells(plain, 3)] == f1
    assert plain.get_by_role("button").count() == 0


@pytest.mark.parametrize("width", [390, 500])
def test_curves_matrix_and_calibration_fit_a_phone(width, run, visit):
    with np.load(run.path / PREDICTIONS) as arrays:
        validation = {f"validation_{key}": arrays[key] for key in arrays}
        np.savez(run.path / PREDICTIONS, **arrays, **validation)
    data = run.data
    data["splits"]["validation"] = data["splits"]["test"]
    run.write_json("data.json", data)
    calibration.write(run)
    html = pages.page("a", calibration_page.section(run))
    (run.path / "calibration.html").write_text(html)
    charts = 0
    for name in ("report.html", "calibration.html"):
        page = visit(run.path / name, viewport={"width": width, "height": 844})
        for chart in page.locator("img.fits").all():
            box = chart.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            size = chart.evaluate("image => image.naturalWidth")
            assert size <= 1.3 * box["width"]  # hardly smaller than drawn
            charts += 1
    assert charts == 3


def colours(page) -> list[list[int]]:
    """The red, green and blue of the page's background and of its text."""
    colour = "key => getComputedStyle(document.body)[key].match(/\\d+/g).map(Number)"
    return page.evaluate(f"['backgroundColor', 'color'].map({colour})")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_index_on_a_phone(scheme, folder, visit):
    page = visit(folder / "index.html", color_scheme=scheme, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    background, ink = colours(page)
    dark, light = ink, background
    if scheme == "dark":
        dark, light = background, ink
    assert max(dark) < 70
    assert min(light) > 200
    page.locator("th[data-key=accuracy] button").click()
    assert shown(page, "accuracy")[0] == "99.10 %"


def test_the_page_of_a_run_on_a_phone(make_dataset, make_run, visit):
    names = ("automobile_" * 8, SCRIPT, HOSTILE)
    train = make_dataset(90, class_names=names)
    test = make_dataset(60, class_names=names)
    run = make_run(test, name="a_long_name_of_a_run_" * 5)
    results = {
        "examples": 9,
        "clean": 0.9,
        "mean": 0.5,
        "corruptions": {"fog": [0.7, 0.6, 0.5, 0.4, 0.3]},
    }
    robustness.write(run, results)
    run_report.write(run, train=train, test=test)

    page = visit(run.path / "report.html", **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.title().startswith("a_long_name")
    assert page.locator("script").text_content() == pages.scripts(pages.SORTING)
    assert page.get_by_alt_text(HOSTILE, exact=True).count() == 8
    assert min(colours(page)[0]) > 200
    page = visit(run.path / "report.html", color_scheme="dark")
    assert max(colours(page)[0]) < 70
