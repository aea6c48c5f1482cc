"""`python -m imgcls_jax`: its help, what it refuses, and the older forms that it replaces."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from limits import HANGS

from imgcls_jax import __main__, console
from imgcls_jax.commands import COMMANDS

ROOT = Path(__file__).parents[1]
NAMES = [module.__name__.rpartition(".")[2].replace("_", "-") for module in COMMANDS]


def run(*command, code: int = 0) -> str:
    """What a program prints, from the repository's folder."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=HANGS
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_help_lists_the_commands_and_loads_nothing_that_takes_long():
    code = "import sys; from imgcls_jax import __main__; __main__.parse(['--help'])"
    listed = run("-c", code)
    assert all(f"\n    {name} " in listed for name in NAMES), listed
    loaded = run("-X", "importtime", "-m", "imgcls_jax", "--help")
    assert not any(
        f" {name}\n" in loaded for name in ("jax", "flax", "tensorflow", "matplotlib", "numpy")
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        __main__.parse([name, "--help"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: imgcls {name} ") and len(printed.splitlines()) > 5


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "required: COMMAND"),
        (["explode"], "invalid choice: 'explode'"),
        (["explain"], "required: RUN"),
        (["explain", "run", "--limit=5"], "unrecognized arguments: --limit=5"),
        (["explain", "run", "--config.seed=1"], "unrecognized arguments: --config.seed=1"),
        (["predict", "run"], "required: IMAGE"),
        (["reproduce", "results", "runs"], "unrecognized arguments: runs"),
        (["train", "configs/quickstart.py", "--limit=5"], "unrecognized arguments: --limit=5"),
        (["train", "a.py", "--config.seed", "3"], "3. A value follows its option after ="),
        (["weights"], "required: ACTION"),
    ],
)
def test_what_a_command_does_not_take_is_refused(arguments, says, capsys):
    with pytest.raises(SystemExit, match="2"):
        __main__.parse(arguments)
    assert says in capsys.readouterr().err


def test_a_config_with_changes(tmp_path):
    printed = run(
        "-m",
        "imgcls_jax",
        "show-data",
        "configs/quickstart.py",
        f"--workdir={tmp_path}",
        "--config.seed=3",
    )
    assert str(tmp_path / "show_data.png") in printed and (tmp_path / "show_data.png").exists()
    for arguments, says in (
        (["configs/nothing.py"], "There is no config in configs/nothing.py"),
        (["configs/quickstart.py", "--config.sed=3"], "sed"),
        (["configs/studies/mnist_models.py"], "not of a study"),
    ):
        assert says in run("-m", "imgcls_jax", "show-data", *arguments, code=2)
    arguments = ("configs/quickstart.py", "--plan=h100", f"--workdir={tmp_path}")
    assert "--workdir has no effect" in run("-m", "imgcls_jax", "profile", *arguments, code=2)


@pytest.mark.parametrize(
    "older, newer",
    [
        (["--mode=explain", "--method=saliency", "nowhere"], "explain --method=saliency nowhere"),
        (["--mode", "predict", "nowhere", "--images", "a.png"], "predict nowhere a.png"),
        (
            ["--mode=ensemble", "nowhere", "there", "--weights=2,1"],
            "ensemble --weights=2,1 nowhere there",
        ),
        (
            [
                "--mode=show_data",
                "--config=configs/quickstart.py",
                "--config.seed",
                "3",
                "--config.data.transform=flip|flop(1)",
            ],
            "show-data configs/quickstart.py --config.seed=3 "
            "'--config.data.transform=flip|flop(1)'",
        ),
    ],
)
def test_an_older_form_names_the_new_one_and_does_it(older, newer):
    printed = run("launch.py", *older, code=2)
    assert f"{older[0].replace('=', ' ')}" in printed
    assert f" is now: python -m imgcls_jax {newer}\n" in printed
    assert printed.splitlines()[-1].startswith("error: ")


def end_without_a_reader(*command) -> str:
    """What `COMMAND | head` prints as errors where head has ended."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=HANGS,
    )
    os.close(writing)
    assert done.returncode == console.NO_READER, done.stderr
    return done.stderr


@pytest.mark.parametrize("command", ["-m imgcls_jax options", "launch.py --help"])
def test_lines_that_nobody_reads_end_a_command_quietly(command):
    assert end_without_a_reader(*command.split()) == ""


def test_a_broken_pipe_to_something_else_is_an_error():
    def broken():
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        __main__.guarded(broken)


def test_a_printed_command_can_be_pasted(monkeypatch):
    arguments = [
        "--config=configs/a.py",
        "--config.grid=(('optimizer.learning_rate', (.1, .01)),)",
        "a b",
    ]
    for program, typed in (
        ("/there/launch.py", ["python", "launch.py"]),
        ("/there/imgcls_jax/__main__.py", ["python", "-m", "imgcls_jax"]),
        ("/venv/bin/imgcls", ["imgcls"]),
    ):
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        pasted = subprocess.run(
            ["sh", "-c", f"printf '%s\\n' {console.command_line()}"],
            capture_output=True,
            text=True,
            env=os.environ,
        )
        assert pasted.stdout.splitlines() == [*typed, *arguments]
