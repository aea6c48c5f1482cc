"""Bad input, tried on what reads it, and counted: `python -m pytest tests/badinput` ends with the number.

Whatever is tried ends with an error of imgcls_jax.errors in one line, or is harmless: it is read as what it says.
BADINPUT_EXAMPLES=10 tries ten times as many examples in each property test, drawn anew each time.
"""

import pytest

from tests.badinput.trying import Tried


@pytest.fixture
def tried(record_property):
    counts = Tried()
    yield counts
    record_property("refused", counts.refused)
    record_property("harmless", counts.harmless)


def pytest_terminal_summary(terminalreporter):
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    counted = [
        dict(each.user_properties) for each in reports if getattr(each, "when", "") == "teardown"
    ]
    refused, harmless = (
        sum(each.get(key, 0) for each in counted) for key in ("refused", "harmless")
    )
    if refused:
        terminalreporter.write_line(
            f"Bad inputs tried: {refused + harmless:,}. {refused:,} were refused with an error of one line, "
            f"{harmless:,} were read as what they say."
        )
