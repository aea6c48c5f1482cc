"""What the faults are tried on: an undisturbed run, and one that was stopped on its way."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.faults import faults, kills, outcome


@dataclasses.dataclass(frozen=True)
class Undisturbed:
    folder: Path
    lengths: dict[str, float]  # seconds that its last stages took
    outcome: dict[str, Any]


@pytest.fixture(scope="package")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "whole"
    lengths = kills.undisturbed(folder)
    return Undisturbed(folder, lengths, outcome.of(folder))


@pytest.fixture(scope="package")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun") / "begun"
    faults.begin(folder)
    return folder
