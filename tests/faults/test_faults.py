"""The short form of the fault campaign: each fault once."""

import pytest

from tests.faults.faults import FAULTS, Case, Impossible


@pytest.mark.parametrize("name", FAULTS)
def test_after_a_fault_the_run_comes_out_the_same_or_says_what_to_do(
    name, undisturbed, begun, tmp_path
):
    try:
        FAULTS[name](Case(tmp_path / "run", undisturbed.folder, begun, undisturbed.outcome))
    except Impossible as reason:
        pytest.skip(str(reason))
