"""Headless Chromium for tests, which are skipped where it or playwright is missing."""

import contextlib
import shutil

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic")


@contextlib.contextmanager
def launched(*arguments: str):
    """Yields a browser of playwright's. arguments: of the program, besides ARGUMENTS."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: requirements-dev.txt"
    )
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is on the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*ARGUMENTS, *arguments])
        yield browser
        browser.close()
