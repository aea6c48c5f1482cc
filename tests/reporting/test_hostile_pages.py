"""Markup in every field of every JSON file of a run: no script runs on any page.

Checked in Chromium and by the text of the pages.
"""

import ast
import html.parser
import io
import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from imgcls_jax import console
from imgcls_jax.errors import RunError, UserError
from imgcls_jax.evaluation import calibration
from imgcls_jax.evaluation import ensemble as voting
from imgcls_jax.evaluation.predict import write_predictions
from imgcls_jax.reporting import calibration as calibration_page
from imgcls_jax.reporting import ensemble as ensemble_page
from imgcls_jax.reporting import explain, index, page, robustness, run_report, tables
from imgcls_jax.run.folder import ENSEMBLE, PREDICTIONS, RunFolder
from tests.reporting.test_browser import chromium, visit  # noqa: F401  fixtures

# Ends an attribute in either quotes, a tag, a title, a style sheet, a script and a template; then
# runs something.
HOSTILE = (
    "'\"></title></style></script></pre></select>{{ 7*7 }}<script>document.title=1</script>"
    "<img src=x onerror=alert(1)>"
)
KEY = HOSTILE.replace(".", "")  # which a config may have
FILES = (
    "config.json",
    "environment.json",
    "data.json",
    "test.json",
    "calibration.json",
    "robustness.json",
)
NAMES = (HOSTILE, f"javascript:alert(1)//{HOSTILE}", "plain")


@pytest.fixture
def runs(make_dataset, make_run):
    """Two runs with every file that pages are made of, and a test set with hostile class names."""
    test = make_dataset(60, class_names=NAMES)
    made = []
    for seed in (0, 1):
        run = make_run(test, name=f"runs/one-seed{seed}", seed=seed)
        with np.load(run.path / PREDICTIONS) as arrays:
            validation = {f"validation_{key}": arrays[key] for key in arrays}
            np.savez(run.path / PREDICTIONS, **arrays, **validation)
        report = run.data
        report["splits"]["validation"] = report["splits"]["test"]
        run.write_json("data.json", report)
        calibration.write(run)
        corruptions = {HOSTILE: [0.5] * 5}
        results = {"examples": 9, "clean": 0.9, "mean": 0.5, "corruptions": corruptions}
        robustness.write(run, results)
        Image.new("RGB", (300, 200)).save(run.path / "explain.png")
        run.write_json("explain.json", {"method": "gradcam", "examples": []})
        Image.new("RGB", (300, 200)).save(run.path / "dashboard.png")
        made.append(run)
    return made, test


def spoil(value, key: str = ""):
    """The content of a JSON file with hostile texts in the place of all texts, and as new names."""
    if isinstance(value, dict):
        spoilt = {name: spoil(inner, name) for name, inner in value.items()}
        if key:
            spoilt[KEY] = HOSTILE
        return spoilt
    if isinstance(value, list):
        return [spoil(inner, key) for inner in value]
    if isinstance(value, str) and key != "method":
        return HOSTILE
    return value


def spoil_files(run: RunFolder) -> None:
    for name in ("config.json", "environment.json"):
        content = json.loads((run.path / name).read_text())
        run.write_json(name, spoil(content) | {"x": HOSTILE, KEY: HOSTILE})
    report = run.read_json("data.json")
    spoilt = {"fingerprint": HOSTILE, "more": {HOSTILE: [HOSTILE]}, HOSTILE: HOSTILE}
    run.write_json("data.json", report | spoilt)


def assert_harmless(visited) -> None:
    """Nothing ran that changes the title or opens a dialog, and no text became a tag."""
    assert visited.title() != "1"
    assert "49" not in visited.title()
    assert visited.locator("img[src=x]").count() == 0
    assert visited.locator("script").count() <= 1


def test_no_script_runs_on_the_page_of_a_run(runs, visit):  # noqa: F811
    (run, _), test = runs
    spoil_files(run)
    run_report.write(run, train=test, test=test)
    visited = visit(run.path / "report.html")
    assert_harmless(visited)
    assert visited.locator("script").text_content() == page.scripts(page.SORTING)
    for text in visited.locator("header .lead b").all_text_contents()[:2]:
        assert text == HOSTILE
    assert visited.locator("th", has_text="onerror").count() > 5
    assert visited.get_by_alt_text(HOSTILE, exact=True).count() == 8


def test_no_script_runs_on_the_page_of_an_ensemble(runs, visit, tmp_path):  # noqa: F811
    members, test = runs
    both = RunFolder(tmp_path / "runs" / "both")
    both.path.mkdir()
    voted, validation, summary = voting.vote(members, "equal")
    write_predictions(both, (voted, test.labels), validation)
    calibration.write(both)
    for member in summary["members"]:
        member["run"] = f"runs/{HOSTILE}".replace("/", "\\")
    both.write_json(ENSEMBLE, summary | {"rule": HOSTILE})
    ensemble_page.write(both, members, test)
    assert_harmless(visit(both.path / "report.html"))


def test_no_script_but_ours_runs_on_the_page_of_an_index(runs, visit, tmp_path):  # noqa: F811
    for run in runs[0]:
        spoil_files(run)
        test = json.loads((run.path / "test.json").read_text())
        keys = ("seed", "study", "device", "model", "data", HOSTILE)
        run.write_json("test.json", test | dict.fromkeys(keys, HOSTILE))
        (run.path / "report.html").write_text("")
    shutil.copytree(runs[0][0].path, tmp_path / "runs" / "'\"><img src=x onerror=alert(1)>")
    index.write(tmp_path)
    visited = visit(tmp_path / "index.html")
    assert_harmless(visited)
    assert visited.locator(".runs tbody tr").count() == 3
    # The script of the index did run.
    assert visited.locator("output").text_content() == "3 of 3 runs"
    seeds = visited.locator("td[data-title=Seed]").all()
    assert {cell.get_attribute("data-value") for cell in seeds} == {"0", "1"}


@pytest.mark.parametrize("script", ["document.title=1", "window.x=1;" * 3])
def test_a_page_runs_no_script_that_it_was_not_made_with(script, chromium, tmp_path):  # noqa: F811
    """Even where markup gets into a page, its policy keeps the script from running."""
    markup = page.Markup(
        f"<h1>a</h1><script>{script}</script><img src=x onerror={script!r}><style>h1 {{}}</style>"
    )
    (tmp_path / "a.html").write_text(page.page("a", markup, script="window.ours=1"))
    visited = chromium.new_page()
    visited.goto((tmp_path / "a.html").as_uri())
    assert visited.title() == "a"
    assert not visited.evaluate("'x' in window")
    visited.close()


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def pieces(run: RunFolder, test) -> str:
    """The parts of a run's page that are made of its JSON files."""
    parts = [
        run_report._header(run),
        run_report._data(run.data),
        run_report._environment(run.environment),
        run_report._config(run.config.to_dict()),
        tables.classes(run.test, run.predictions[0], test),
        calibration_page.section(run),
        robustness.section(run),
        explain.section(run),
    ]
    return page.page(run.name, page.Markup().join(parts))


def leaves(value, path=()):
    """The ways to every value that holds no others."""
    keys = ()
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list):
        keys = range(min(len(value), 2))
    if not keys:
        yield path
    for key in keys:
        yield from leaves(value[key], (*path, key))


def assert_no_tags_of_texts(html: str, *, scripts: int) -> None:
    tags = Tags(html).tags
    assert [tag for tag, _ in tags].count("script") == scripts
    for _, attributes in tags:
        assert "onerror" not in attributes
        assert attributes.get("src") != "x"


@pytest.mark.parametrize("name", [*FILES, "explain.json"])
def test_a_hostile_text_in_the_place_of_any_value(name, runs, tmp_path, monkeypatch):
    """It is refused in one line if a figure is expected there; elsewhere it is shown as text."""
    from imgcls_jax.reporting.plots import style

    monkeypatch.setattr(style, "save", lambda *arguments, **options: None)
    blank = io.BytesIO()
    Image.new("RGB", (30, 20)).save(blank, format="png")
    monkeypatch.setattr(style, "png", lambda figure: blank.getvalue())
    (run, _), test = runs
    Image.new("RGB", (300, 200)).save(run.path / "calibration.png")
    (run.path / "report.html").write_text("")
    content = (run.path / name).read_text()
    harmless = pieces(run, test)
    expected = [tag for tag, _ in Tags(harmless).tags]
    shown = refused = 0
    for path in leaves(json.loads(content)):
        spoilt = json.loads(content)
        place = spoilt
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = HOSTILE
        run.write_json(name, spoilt)
        try:
            text = pieces(run, test)
            index.write(tmp_path / "runs")
        except UserError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
            continue
        shown += 1
        assert_no_tags_of_texts(text, scripts=0)
        assert_no_tags_of_texts((tmp_path / "runs" / "index.html").read_text(), scripts=1)
        if name not in ("data.json", "test.json"):  # where a class of another name has other images
            assert [tag for tag, _ in Tags(text).tags] == expected, path
    assert shown or refused
    run.write_json(name, json.loads(content))
    assert pieces(run, test)


ESCAPES = "\x1b[2J\x1b]0;mine\x07\x9b31m\u202egnp\r\u2028"


def test_a_terminal_obeys_no_name(capsys):
    log = logging.Logger("names")
    log.addHandler(console.handler())
    log.warning("a %s\n\tb", ESCAPES)
    console.say(f"c {ESCAPES}")
    console.say(f"error: {ESCAPES}", error=True)
    printed = capsys.readouterr()
    for character in set(ESCAPES) - set("[2J]0;mine31mgnp"):
        assert character not in printed.out + printed.err
    assert r"\x1b[2J" in printed.out
    assert "a \\x1b[2J" in printed.err
    assert "\n\tb" in printed.err


def test_every_line_on_the_terminal_goes_through_console():
    from tests.test_structure import ROOT

    for path in [ROOT / "launch.py", *(ROOT / "imgcls_jax").rglob("*.py")]:
        calls = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        ]
        names = [ast.unparse(call.func) for call in calls]
        count = names.count("print") + names.count("logging.StreamHandler")
        limit = 2 if path.name == "console.py" else 0
        assert count <= limit, f"{path}: use console.say or console.handler"


def test_a_picture_that_is_none_stops_the_page_with_a_line(tmp_path):
    for content in (b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\xff" * 50):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(RunError, match="a.png cannot be read"):
            page.chart(tmp_path / "a.png", "a")
