"""The table of options, and what is written from it or follows from it."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import base
from imgcls_jax.commands import options as command
from imgcls_jax.config.kinds import Section
from imgcls_jax.config.options import (
    NOT_IDENTITY,
    OLD_NAMES,
    OPTIONS,
    differing,
    flat_options,
    upgrade,
)
from imgcls_jax.errors import ConfigError
from imgcls_jax.training import checks, phases

ROOT = Path(__file__).parents[1]


def test_the_base_config_and_the_page_of_options_are_those_of_the_table():
    assert (ROOT / "configs/base.py").read_text() == command.base_config()
    assert (ROOT / "docs/options.md").read_text() == command.markdown()
    defaults = {
        path: option.default
        for path, option in OPTIONS.items()
        if not isinstance(option.kind, Section)
    }
    assert flat_options(base.get_config()) == defaults


def test_every_default_is_accepted_and_every_choice_has_its_table():
    checks.check(base.get_config())
    chosen = {path for path, option in OPTIONS.items() if str(option.kind) == "one of the names"}
    assert chosen == set(checks.CHOICES) - {"objective"}
    for path in chosen:
        assert " | " in checks.choices_text(path)


def test_an_option_is_found_by_a_word(capsys):
    arguments = ConfigDict({"word": "pct_st", "format": "text"})
    command.run(arguments)
    printed = capsys.readouterr().out
    assert "--config.schedule.pct_start=0.3" in printed and "onecycle" in printed
    with pytest.raises(ConfigError, match="No option has 'nonesuch'"):
        command.run(ConfigDict({"word": "nonesuch", "format": "text"}))
    with pytest.raises(ConfigError, match="leave out 'seed'"):
        command.run(ConfigDict({"word": "seed", "format": "base"}))


@pytest.mark.parametrize("old_name", OLD_NAMES)
def test_an_old_name_is_refused_with_the_new_one(old_name):
    config = base.get_config()
    section, _, key = old_name.rpartition(".")
    with config.unlocked():
        config[section][key] = 0.5
    with pytest.raises(ConfigError, match=f"{old_name} is now {OLD_NAMES[old_name]}"):
        checks.check(config)


def old_config(**changes) -> dict:
    """A config as a run folder of version 0.1 has it."""
    flat = flat_options(base.get_config())
    for old_name, new_name in OLD_NAMES.items():
        flat[old_name] = flat.pop(new_name)
    for path in ("train.parallel", "optimizer.rho", "data.fit"):
        del flat[path]
    flat |= {"optimizer.momentum": 0.9} | changes
    config = ConfigDict()
    for path, value in flat.items():
        *parents, key = path.split(".")
        section = config
        for parent in parents:
            if parent not in section:
                section[parent] = ConfigDict()
            section = section[parent]
        section[key] = value
    return config.to_dict()


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, {}),
        ({"train.average": 0.9}, {"train.ema_decay": 0.9}),
        ({"data.train": 100}, {"data.train_size": 100}),
        (
            {"optimizer.name": "momentum"},
            {"optimizer.name": "sgd", "optimizer.momentum": 0.9},
        ),
        ({"optimizer.name": "sgd"}, {"optimizer.name": "sgd"}),
        ({"schedule.final": 0.5, "seed": 3}, {"schedule.end_factor": 0.5, "seed": 3}),
    ],
)
def test_a_run_folder_of_an_older_version_has_todays_config(changes, expected):
    config = flat_options(upgrade(old_config(**changes)))
    today = flat_options(base.get_config()) | expected
    today = {path: list(v) if isinstance(v, tuple) else v for path, v in today.items()}
    config = {path: list(v) if isinstance(v, tuple) else v for path, v in config.items()}
    assert differing(config, today, ignored=()) == []
    assert config["data.fit"] == "stretch"  # as all runs were until 0.1
    assert upgrade(upgrade(old_config(**changes))) == upgrade(old_config(**changes))


def test_phases_of_an_older_version_have_todays_names():
    old = old_config()
    old["adapt"]["phases"] = {
        "a": {"schedule": {"final": 0.1}, "optimizer": {"name": "momentum", "momentum": 0.5}}
    }
    config = ConfigDict(upgrade(old))
    (phase,) = phases.of(config).values()
    assert phase.schedule.end_factor == 0.1
    assert (phase.optimizer.name, phase.optimizer.momentum) == ("sgd", 0.5)


def test_runs_that_differ_in_paths_and_devices_alone_are_the_same_run():
    config = flat_options(base.get_config())
    moved = config | {"data.path": "elsewhere", "train.cpu_devices": 2, "train.parallel": "pmap"}
    assert differing(config, moved, ignored=NOT_IDENTITY) == []
    assert differing(config, config | {"train.epochs": 3}, ignored=NOT_IDENTITY) == ["train.epochs"]
