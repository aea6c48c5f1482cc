"""These tests need requirements-parity.txt: only `pytest tests/parity` runs them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))  # generated.py


def pytest_ignore_collect(config):
    arguments = config.invocation_params.args
    if any("tests/parity" in str(argument) for argument in arguments):
        return None
    return True


@pytest.fixture
def table(request):
    """table(cell, ...) adds a row to what is printed at the end."""
    return lambda *cells: request.node.user_properties.append(("row", cells))


def pytest_terminal_summary(terminalreporter):
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    rows = [row for report in reports for name, row in report.user_properties if name == "row"]
    if rows:
        terminalreporter.section("measured errors, as shares of the reference's largest entry")
    for row in sorted(rows):
        terminalreporter.write_line("| " + " | ".join(row) + " |")
