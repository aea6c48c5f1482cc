"""Names in scripts that matplotlib's own font does not have."""

import logging

import numpy as np
import pytest
from matplotlib import font_manager, rcParams
from PIL import Image

from imgcls_jax.data.checks import check
from imgcls_jax.reporting import run_report
from imgcls_jax.reporting.plots import confusion, fonts, style
from imgcls_jax.run.folder import DATA

CJK = ("猫", "犬", "owl")


@pytest.fixture(autouse=True)
def only_matplotlibs_own(monkeypatch):
    """As on a machine without other fonts; afterwards everything is as before."""
    caches = (fonts.drawable, fonts._covered, fonts._glyphs, fonts.text_width)
    own = [entry for entry in font_manager.fontManager.ttflist if entry.name.startswith("DejaVu")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setitem(rcParams, "font.family", ["sans-serif"])
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def make_font(path, characters: str):
    """A font that has these characters, each a square, and no others."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((0, 900))
    pen.lineTo((900, 900))
    pen.lineTo((900, 0))
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"u{ord(character):X}" for character in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(character): f"u{ord(character):X}" for character in characters})
    builder.setupGlyf({name: square for name in names})
    builder.setupHorizontalMetrics({name: (1000, 0) for name in names})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def test_a_name_without_a_font_becomes_its_number_and_a_line_says_so(caplog):
    assert fonts.legible(CJK) == ["class 0", "class 1", "owl"]
    assert "the characters of 2 class names (猫, 犬): pictures show numbers" in caplog.text
    caplog.clear()
    drawable = ["cat", "Größe", "żółw", "сова", "γάτα"]
    assert fonts.legible(drawable) == drawable
    assert not caplog.text
    assert fonts.shorten("run of 猫") == "run of \N{REPLACEMENT CHARACTER}"


def test_an_installed_font_that_has_the_characters_is_used(tmp_path, caplog):
    make_font(tmp_path / "squares.ttf", "猫犬")
    font_manager.fontManager.addfont(tmp_path / "squares.ttf")
    assert fonts.legible(CJK) == list(CJK)
    assert not caplog.text
    assert rcParams["font.family"] == ["sans-serif", "Squares"]
    figure = confusion.draw([[3, 1], [0, 4]], CJK[:2])  # of a missing glyph matplotlib would warn
    style.save(figure, tmp_path / "confusion.png")
    assert fonts.text_width("猫猫", 10) == pytest.approx(19, abs=1)
    assert fonts.legible(("鳥",)) == ["class 0"]


def test_the_page_of_a_run_says_which_class_has_which_number(make_dataset, make_run, caplog):
    train = make_dataset(45, class_names=CJK)
    test = make_dataset(30, class_names=CJK)
    run = make_run(test)
    run.write_json(DATA, check({"train": train, "validation": test, "test": test}))
    with caplog.at_level(logging.WARNING):
        run_report.write(run, train=train, test=test)
    page = (run.path / "report.html").read_text()
    assert "For want of a font pictures show numbers: class 0 is 猫, class 1 is 犬." in page
    warnings = [record for record in caplog.records if "No installed font" in record.message]
    assert len(warnings) == 1
    assert np.asarray(Image.open(run.path / "dashboard.png").convert("L")).min() < 100
