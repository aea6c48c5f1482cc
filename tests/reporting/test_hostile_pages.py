"""Markup in every field of every JSON file of a run: on no page does a script run, in Chromium and by its text."""

import ast
import html.parser
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
from imgcls_jax.evaluation.predict import write as write_predictions
from imgcls_jax.reporting import calibration as calibration_page
from imgcls_jax.reporting import ensemble as ensemble_page
from imgcls_jax.reporting import explain, index, page, robustness, run_report, tables
from imgcls_jax.run.folder import ENSEMBLE, PREDICTIONS, RunFolder
from tests.reporting.test_browser import chromium, visit  # noqa: F401  fixtures

# Ends an attribute in either quotes, a tag, a title, a style sheet, a script and a template; then runs something.
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
    """Two runs with every file that a page is made of, and their test set, whose classes have hostile names."""
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
        robustness.write(
            run, {"examples": 9, "clean": 0.9, "mean": 0.5, "corruptions": {HOSTILE: [0.5] * 5}}
        )
        Image.new("RGB", (300, 200)).save(run.path / "explain.png")
        run.write_json("explain.json", {"method": "gradcam", "examples": []})
        Image.new("RGB", (300, 200)).save(run.path / "dashboard.png")
        made.append(run)
    return made, test


def spoil(value, key: str = ""):
    """The content of a JSON file with hostile texts in the place of all texts, and as further names."""
    if isinstance(value, dict):
        return {name: spoil(each, name) for name, each in value.items()} | (
            {KEY: HOSTILE} if key else {}
        )
    if isinstance(value, list):
        return [spoil(each, key) for each in value]
    return HOSTILE if isinstance(value, str) and key != "method" else value


def spoil_files(run: RunFolder) -> None:
    for name in ("config.json", "environment.json"):
        run.write_json(
            name, spoil(json.loads((run.path / name).read_text())) | {"x": HOSTILE, KEY: HOSTILE}
        )
    report = run.read_json("data.json")
    run.write_json(
        "data.json",
        report | {"fingerprint": HOSTILE, "more": {HOSTILE: [HOSTILE]}, HOSTILE: HOSTILE},
    )


def is_harmless(visited) -> None:
    """Nothing ran: neither what changes the title, nor what opens a dialog; and no tag came of a text."""
    assert visited.title() != "1"
    assert visited.locator("img[src=x]").count() == 0 and visited.locator("script").count() <= 1
    assert "49" not in visited.title()


def test_no_script_runs_on_the_page_of_a_run(runs, visit):  # noqa: F811
    (run, _), test = runs
    spoil_files(run)
    run_report.write(run, train=test, test=test)
    visited = visit(run.path / "report.html")
    is_harmless(visited)
    assert visited.locator("script").count() == 0
    for text in visited.locator("header .lead b").all_text_contents()[:2]:
        assert text == HOSTILE
    assert visited.locator("th", has_text="onerror").count() > 5
    assert visited.get_by_alt_text(HOSTILE, exact=True).count() == 8


def test_no_script_runs_on_the_page_of_an_ensemble(runs, visit, tmp_path):  # noqa: F811
    members, test = runs
    both = RunFolder(tmp_path / "runs" / "both")
    both.path.mkdir()
    voted, validation, found = voting.vote(members, "equal")
    write_predictions(both, (voted, test.labels), validation)
    calibration.write(both)
    for member in found["members"]:
        member["run"] = f"runs/{HOSTILE}".replace("/", "\\")
    both.write_json(ENSEMBLE, found | {"rule": HOSTILE})
    ensemble_page.write(both, members, test)
    is_harmless(visit(both.path / "report.html"))


def test_no_script_but_ours_runs_on_the_page_of_an_index(runs, visit, tmp_path):  # noqa: F811
    for run in runs[0]:
        spoil_files(run)
        test = json.loads((run.path / "test.json").read_text())
        run.write_json(
            "test.json",
            test | dict.fromkeys(("seed", "study", "device", "model", "data", HOSTILE), HOSTILE),
        )
        (run.path / "report.html").write_text("")
    shutil.copytree(runs[0][0].path, tmp_path / "runs" / "'\"><img src=x onerror=alert(1)>")
    index.write(tmp_path)
    visited = visit(tmp_path / "index.html")
    is_harmless(visited)
    assert visited.locator(".runs tbody tr").count() == 3
    assert (
        visited.locator("output").text_content() == "3 of 3 runs"
    )  # the script of the index did run
    assert {
        row.get_attribute("data-value") for row in visited.locator("td[data-title=Seed]").all()
    } == {"0", "1"}


@pytest.mark.parametrize("script", ["document.title=1", "window.x=1;" * 3])
def test_a_page_runs_no_script_that_it_was_not_made_with(script, chromium, tmp_path):  # noqa: F811
    """Even where markup gets into a page, its policy keeps the script from running."""
    markup = page.Markup(
        f"<h1>a</h1><script>{script}</script><img src=x onerror={script!r}><style>h1 {{}}</style>"
    )
    (tmp_path / "a.html").write_text(page.page("a", markup, script="window.ours=1"))
    visited = chromium.new_page()
    visited.goto((tmp_path / "a.html").as_uri())
    assert visited.title() == "a" and not visited.evaluate("'x' in window")
    visited.close()


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def pieces(run: RunFolder, test) -> str:
    """What of a run's pages is made of its JSON files."""
    made = [
        run_report._header(run),
        run_report._data(run.data),
        run_report._environment(run.environment),
        run_report._config(run.config.to_dict()),
        tables.classes(run.test, run.predictions[0], test),
        calibration_page.section(run),
        robustness.section(run),
        explain.section(run),
    ]
    return page.page(run.name, page.Markup().join(made))


def leaves(value, path=()):
    """The ways to every value that holds no others."""
    if isinstance(value, dict | list) and value:
        for key in list(value) if isinstance(value, dict) else range(min(len(value), 2)):
            yield from leaves(value[key], (*path, key))
    else:
        yield path


@pytest.mark.parametrize("name", [*FILES, "explain.json"])
def test_a_hostile_text_in_the_place_of_any_value(name, runs, tmp_path, monkeypatch):
    """It is refused in a line where a figure is expected; elsewhere it is shown as text."""
    from imgcls_jax.reporting import plots

    monkeypatch.setattr(plots, "save", lambda *arguments, **options: None)
    (run, _), test = runs
    Image.new("RGB", (300, 200)).save(run.path / "calibration.png")
    (run.path / "report.html").write_text("")
    content = (run.path / name).read_text()
    harmless = pieces(run, test)
    expected = [tag for tag, _ in Tags(harmless).found]
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
        for each in (text, (tmp_path / "runs" / "index.html").read_text()):
            tags = Tags(each).found
            assert [tag for tag, _ in tags].count("script") == (0 if each is text else 1)
            assert not any(
                "onerror" in attributes or attributes.get("src") == "x" for _, attributes in tags
            )
        if name not in ("data.json", "test.json"):  # where a class of another name has other images
            assert [tag for tag, _ in Tags(text).found] == expected, path
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
    assert r"\x1b[2J" in printed.out and "a \\x1b[2J" in printed.err and "\n\tb" in printed.err


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
