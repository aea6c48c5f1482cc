"""The short form of the fault campaign: a run that is killed in each of its stages, and a study."""

import random
import shutil

from tests.faults import kills, outcome, writers
from tests.faults.kills import LAST_STEP, RUNS, STAGES, STUDY_STAGES


def test_a_run_killed_in_each_stage_comes_out_the_same(undisturbed, tmp_path):
    assert (
        undisturbed.outcome["newest checkpoint"][0] == LAST_STEP
        and undisturbed.outcome["each step once"]
    )
    found = kills.kill_run(
        tmp_path / "run", STAGES, draw=random.Random(3), lengths=undisturbed.lengths
    )
    assert len(found) >= 3, "the run was quicker than its kills"
    assert outcome.differences(undisturbed.outcome, outcome.of(tmp_path / "run")) == []


def test_a_study_killed_in_a_run_and_at_its_table_comes_out_the_same(tmp_path):
    """Of an undisturbed study the last run and the tables are taken away, and made again in spite of kills."""
    whole, study = tmp_path / "whole", tmp_path / "study"
    lengths = kills.undisturbed(whole, "tiny_study") | {STUDY_STAGES[0]: 2.0}
    shutil.copytree(whole, study)
    for path in (study / "wide-seed1", *study.glob("table.*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = kills.kill_study(study, STUDY_STAGES, draw=random.Random(1), lengths=lengths)
    assert found and kills.finished_runs(study) == RUNS
    assert outcome.of_table(study) == outcome.of_table(whole) and len(outcome.of_table(study)) == 2
    assert (
        outcome.differences(outcome.of(whole / "wide-seed1"), outcome.of(study / "wide-seed1"))
        == []
    )


def test_a_command_killed_while_it_writes_into_a_runs_folder_leaves_what_it_should(
    undisturbed, tmp_path
):
    tried = writers.Writers(tmp_path / "writers", undisturbed.folder, undisturbed.outcome)
    assert tried.kill("publish", 2, draw=random.Random(5)) is not None
    assert tried.kill("report", 2, draw=random.Random(5))


def test_two_commands_on_one_folder_do_not_meet(undisturbed, tmp_path):
    tried = writers.Writers(tmp_path / "writers", undisturbed.folder, undisturbed.outcome)
    tried.race("report", "explain", draw=random.Random(7))
