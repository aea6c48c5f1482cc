"""Options that the command line gives and that nothing reads are named; those that something reads are not."""

import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import base
from imgcls_jax import api, commands
from imgcls_jax.commands import dry_run
from imgcls_jax.commands import study as studies
from imgcls_jax.config import reads
from imgcls_jax.config.options import flat_options
from imgcls_jax.training import loop
from tests.old_runs import small

TRAINING = [option for option in flat_options(base.get_config()) if option.startswith("train.")]
ALWAYS = [
    "seed",
    "data.source",
    "data.name",
    "data.validation_size",
    "data.train_size",
    "data.test_size",
    "data.split_seed",
]
ALWAYS += [
    "data.transform",
    "data.device_bytes",
    "model.name",
    "model.filters",
    "model.hidden",
    "model.max_parameters",
]
ALWAYS += ["optimizer.name", "optimizer.learning_rate", "optimizer.clip_norm", "schedule.name"]
ALWAYS += ["schedule.warmup_epochs", *TRAINING]


class Begun(Exception):
    """The first epoch would begin."""


def named(options, given, tmp_path, monkeypatch, caplog) -> set[str]:
    """The options, of those given, that a training names before its first epoch."""

    def stop(training):
        raise Begun

    caplog.set_level("INFO", "imgcls_jax")
    monkeypatch.setattr(loop._Training, "run", stop)
    config = small.get_config()
    with config.unlocked():
        config.update_from_flattened_dict(options)
    with pytest.raises(Begun):
        commands.train.train(config, tmp_path / "run", given)
    lines = [record.getMessage() for record in caplog.records]
    return {
        match[1]
        for line in lines
        if (match := re.match(r"config\.(\S+) was given and has no effect", line))
    }


CASES = {
    "adam, constant": (
        {},
        ["optimizer.beta1", "optimizer.beta2", "optimizer.eps", "optimizer.weight_decay", *ALWAYS],
        [
            "optimizer.momentum",
            "optimizer.nesterov",
            "optimizer.decay_vectors",
            "schedule.end_factor",
            "data.path",
        ]
        + [
            "data.cache",
            "pretrained.cache",
            "adapt.lora.rank",
            "adapt.frozen_statistics",
            "adapt.feature_bytes",
        ],
    ),
    "no decay": (
        {"optimizer.name": "adamw"},
        ["optimizer.weight_decay"],
        ["optimizer.decay_vectors"],
    ),
    "sgd, plateau": (
        {"optimizer.name": "sgd", "schedule.name": "plateau", "optimizer.weight_decay": 0.1},
        [
            "optimizer.momentum",
            "schedule.factor",
            "schedule.patience",
            "schedule.min_rate",
            "optimizer.decay_vectors",
        ],
        [
            "optimizer.nesterov",  # there is no momentum
            "optimizer.rho",
            "optimizer.beta1",
            "optimizer.eps",
            "schedule.pct_start",
            "schedule.step_epochs",
        ],
    ),
    "momentum, cosine, a frozen part": (
        {
            "optimizer.name": "sgd",
            "optimizer.momentum": 0.9,
            "schedule.name": "cosine",
            "adapt.trainable": ("^classifier/",),
        },
        [
            "optimizer.momentum",
            "optimizer.nesterov",
            "schedule.end_factor",
            "adapt.frozen_statistics",
        ],
        ["schedule.factor", "optimizer.beta2", "adapt.lora.alpha"],
    ),
    "step, low-rank pairs": (
        {"schedule.name": "step", "adapt.lora.targets": ("conv_0/kernel",)},
        [
            "schedule.factor",
            "schedule.step_epochs",
            "adapt.lora.rank",
            "adapt.lora.alpha",
            "adapt.lora.full",
        ],
        ["schedule.patience"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_nothing_reads_is_named(name, tmp_path, monkeypatch, caplog):
    options, read, unread = CASES[name]
    assert named(options, [*read, *unread], tmp_path, monkeypatch, caplog) == {*unread}


def test_what_every_phase_says_for_itself_is_of_no_effect_in_the_config(
    tmp_path, monkeypatch, caplog
):
    one = ("train.epochs", "optimizer.learning_rate", "optimizer.momentum")
    optimizer = {"learning_rate": 0.1, "momentum": 0.5}
    phases = {"a": {"optimizer": optimizer}, "b": {"optimizer": optimizer | {"name": "sgd"}}}
    phases = ConfigDict({name: phase | {"train": {"epochs": 1}} for name, phase in phases.items()})
    given = [
        *one,
        "adapt.phases.a.optimizer.momentum",
        "adapt.phases.b.optimizer.momentum",
        "train.early_stopping",
    ]
    unread = named({"adapt.phases": phases}, given, tmp_path, monkeypatch, caplog)
    assert unread == {*one, "adapt.phases.a.optimizer.momentum"}


def test_options_of_a_model_that_its_code_does_not_ask_for_are_named(tmp_path, monkeypatch, caplog):
    model = {
        "name": "se_resnet",
        "blocks": (1, 1, 1),
        "width": 4,
        "se": "none",
        "se_ratio": 2,
        "dropout": 0.1,
    }
    config, given = small.get_config(), [f"model.{key}" for key in model]
    config.model = ConfigDict(config.model.to_dict() | model)
    for key in ("filters", "hidden"):
        del config.model[key]
    monkeypatch.setattr(small, "get_config", lambda: config)
    assert named({}, given, tmp_path, monkeypatch, caplog) == {"model.se_ratio"}


def test_the_sentence_says_what_was_chosen(caplog):
    config = reads.recorded(small.get_config(), ["optimizer.momentum"])
    assert reads.unread(config) == [
        "config.optimizer.momentum was given and has no effect: nothing here reads it (optimizer.name is 'adam')."
    ]
    config.optimizer.momentum  # noqa: B018
    assert reads.unread(config) == [] and reads.unread(small.get_config()) == []


def test_checking_an_option_is_not_reading_it():
    given = ["train.epochs", "optimizer.learning_rate", "data.folds", "train.label_smoothing"]
    config = api.check_config(reads.recorded(small.get_config(), given))
    assert len(reads.unread(config)) == len(given)


def test_what_goes_over_all_options_reads_none():
    config = reads.recorded(small.get_config(), ["optimizer.momentum", "seed"])
    (
        config.to_dict(),
        config.to_json_best_effort(),
        flat_options(config),
        str(config),
        config.items(),
    )
    copy = config.copy_and_resolve_references()
    assert len(reads.unread(config)) == len(reads.unread(copy)) == 2
    assert copy.seed == 0 and len(reads.unread(config)) == 1


def test_options_of_a_studys_rows_and_of_its_grid_are_given_to_its_runs():
    config = ConfigDict(
        {"name": "s", "title": "", "seeds": (0,), "needs": {"first": small.get_config()}}
    )
    config.rows = ConfigDict(
        {"a": {"config": small.get_config()}, "b": {"config": small.get_config()}}
    )
    config.grid = (("optimizer.momentum", (0.1, 0.2)),)
    given = ["seeds", "rows.a.config.schedule.factor", "needs.first.optimizer.eps"]
    first, *runs = studies.plan(config, Path("study"), given)
    assert first.changed == ("optimizer.eps",)
    assert {run.row[0]: run.changed for run in runs} == {
        "a": ("schedule.factor", "optimizer.momentum"),
        "b": ("optimizer.momentum",),
    }


def test_runs_whose_steps_take_as_long_are_of_one_kind():
    def kind(**options):
        config = small.get_config()
        config.update_from_flattened_dict(
            {key.replace("_in_", "."): value for key, value in options.items()}
        )
        return dry_run._kind(config)

    assert kind() == kind(seed=3, name="other", optimizer_in_learning_rate=0.5, train_in_epochs=9)
    assert kind() == kind(schedule_in_name="cosine", schedule_in_end_factor=0.1)
    assert kind() == kind(data_in_fold=1, train_in_tracker="mlflow", adapt_in_lora_in_alpha=8.0)
    others = [
        kind(model_in_hidden=3),
        kind(train_in_batch_size=8),
        kind(data_in_name="x"),
        kind(optimizer_in_name="sgd"),
    ]
    assert len({kind(), *others}) == 5
