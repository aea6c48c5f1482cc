"""The command line as users write it: what is given is used, or said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from limits import HANGS
from ml_collections import ConfigDict

from configs import base
from imgcls_jax import models
from imgcls_jax.commands import overrides
from tests.old_runs import small

ROOT = Path(__file__).parents[1]
READ = """
import json, sys
from absl import app
from imgcls_jax import console
from imgcls_jax.commands import overrides
config = overrides.define_config("config", "")
app.run(lambda _: print(config.value.to_json_best_effort()), flags_parser=console.parse_flags)
"""


def read(*arguments: str, config: str = "configs/mnist_cnn.py", code: int = 0) -> tuple[dict, str]:
    """The config of a command line, and what was said of it."""
    import json

    command = [sys.executable, "-c", READ, "--config", config, *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS)
    assert ended.returncode == code and "Traceback" not in ended.stderr, ended.stderr
    return json.loads(ended.stdout) if not code else {}, ended.stderr


def launch(*arguments: str, cwd: Path = ROOT) -> str:
    """What launch.py says of arguments that it refuses."""
    ended = subprocess.run(
        [sys.executable, ROOT / "launch.py", *arguments], cwd=cwd, capture_output=True, text=True
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("error: ") == 1, ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.stderr


def test_of_an_option_given_twice_the_last_one_wins_tuples_too():
    config, _ = read(
        *(
            "--config.model.filters=(8,)",
            "--config.model.filters=(16,)",
            "--config.seed=1",
            "--config.seed=2",
        ),
        *("--config.schedule.step_epochs=1", "--config.schedule.step_epochs", "2,3"),
    )
    assert (config["model"]["filters"], config["seed"], config["schedule"]["step_epochs"]) == (
        [16],
        2,
        [2, 3],
    )


def test_what_is_no_tuple_is_refused():
    assert "is no tuple" in read("--config.model.filters={8: 1}", code=2)[1]


def test_a_text_without_a_value_can_have_none_again():
    config, _ = read(
        "--config.data.path=there", "--config.data.path=None", "--config.model.pretrained=None"
    )
    assert config["data"]["path"] is None and config["model"]["pretrained"] is None


def test_the_options_of_a_model_are_those_of_the_model_finally_chosen():
    config, said = read(
        *("--config.model.name=cnn", "--config.model.filters=(8,)", "--config.model.dropout=.2"),
        config="configs/mnist_lstm.py",
    )
    assert config["model"].items() >= {"name": "cnn", "filters": [8], "dropout": 0.2}.items()
    models.create(ConfigDict(config["model"]), num_classes=2)
    left_out = set(ConfigDict(base.get_config()).model) ^ {"name", "pretrained", "max_parameters"}
    assert not left_out and all(line.startswith("config.model.") for line in said.splitlines())


def test_options_of_the_model_that_the_file_chose_are_left_out_with_a_word():
    config, said = read("--config.model.name=lstm")
    assert "filters" not in config["model"]
    assert (
        "config.model.filters of the config file is left out: the model 'lstm' has no such option"
        in said
    )


def test_an_option_that_the_chosen_model_has_not_is_refused_with_those_it_has():
    said = read("--config.model.name=lstm", "--config.model.filters=(8,)", code=2)[1]
    assert "The model 'lstm' has no option 'filters' (config.model.filters). Its options:" in said


def test_options_of_an_objective_and_of_models_inside_models_too():
    config, _ = read(
        "--config.objective.name=distill",
        "--config.objective.teacher=runs/a",
        config="configs/base.py",
    )
    assert config["objective"] == {"name": "distill", "teacher": "runs/a"}
    config, _ = read(
        *(
            "--config.model.name=hybrid",
            "--config.model.backbones=('cnn',)",
            "--config.model.options.cnn.hidden=9",
        )
    )
    assert config["model"]["options"] == {"cnn": {"hidden": 9}}


def test_rows_of_studies_too():
    config, _ = read(
        *(
            "--config.rows.lstm.config.model.name=cnn",
            "--config.rows.lstm.config.model.filters=4,5",
        ),
        config="configs/studies/mnist_models.py",
    )
    assert config["rows"]["lstm"]["config"]["model"]["filters"] == [4, 5]


@pytest.mark.parametrize(
    "arguments, says",
    [
        (
            ["--mode=explain", "--limit=5", "run"],
            "--limit has no effect here: --mode explain takes --method",
        ),
        (
            ["--mode=report", "--config=configs/quickstart.py", "run"],
            "--config has no effect here: --mode report",
        ),
        (
            ["--config=configs/quickstart.py", "--weights=fitted"],
            "--weights has no effect here: --mode train takes",
        ),
        (["--mode=index", "--profile", "runs"], "--profile and --mode index are two things to do"),
        (
            ["--config=configs/quickstart.py", "--profile", "--dry_run"],
            "--profile and --dry_run are two things",
        ),
        (["--mode=predict", "--workdir=there", "run"], "--workdir has no effect here"),
    ],
)
def test_a_flag_that_the_command_does_not_read_is_refused(arguments, says, tmp_path):
    assert says in launch(*arguments)


def test_from_another_folder_the_configs_are_named(tmp_path):
    said = launch(cwd=tmp_path)
    assert f"give --config {os.path.relpath(ROOT, tmp_path)}/configs/NAME.py" in said
    assert "quickstart" in said
    said = launch("--config=configs/quickstart.py", cwd=tmp_path)
    assert "There is no config in configs/quickstart.py" in said and "mnist_cnn" in said


def test_the_home_folder_in_workdir(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    class Flags(dict):
        config_filename = "configs/small.py"
        override_values = {"name": "other", "optimizer": {"momentum": 0.5}}

    monkeypatch.setattr(overrides.flags, "FLAGS", {"config": Flags()})
    monkeypatch.setattr(
        overrides.config_flags, "get_override_values", lambda flag: flag.override_values
    )
    folder, changed = overrides.choose_workdir("~/there", small.get_config())
    assert folder == tmp_path / "there" and changed == ("name", "optimizer.momentum")
    folder, changed = overrides.choose_workdir(None, small.get_config())
    assert folder == Path("runs/small") and changed == ("optimizer.momentum",)
