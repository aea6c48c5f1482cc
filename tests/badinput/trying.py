"""How bad input is tried, and how often."""

import os

import pytest
from hypothesis import HealthCheck, settings

from imgcls_jax.errors import UserError

TIMES = int(os.environ.get("BADINPUT_EXAMPLES", "1"))


def examples(count: int) -> settings:
    """So many examples, the same each time; of the long form more, and others each time."""
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Tried:
    """Counts what is tried, and holds the errors to their form."""

    def __init__(self):
        self.refused = self.harmless = 0

    def refuses(self, function, *arguments, lines: int = 1, **options) -> str:
        """The message with which the call refuses its input."""
        with pytest.raises(UserError) as refusal:
            function(*arguments, **options)
        return self.message(refusal.value, lines=lines)

    def either(self, function, *arguments, **options):
        """What the call returns, or None where it refuses its input."""
        try:
            found = function(*arguments, **options)
        except UserError as error:
            self.message(error)
            return None
        self.harmless += 1
        return found

    def message(self, error: UserError, *, lines: int = 1) -> str:
        self.refused += 1
        text = str(error)
        assert text.strip() and len(text.splitlines()) <= lines and len(text) < 3000, text
        return text
