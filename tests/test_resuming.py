"""What a command resumes, and what it says of a folder that it does not resume."""

import shutil
import tarfile
from pathlib import Path

import pytest

from imgcls_jax import commands
from imgcls_jax.errors import RunError
from imgcls_jax.run import resuming
from imgcls_jax.run.folder import RunFolder
from tests.old_runs import small

ARCHIVE = next((Path(__file__).parent / "old_runs").glob("31ea3c6.tar.xz"))


@pytest.fixture
def begun(tmp_path):
    with tarfile.open(ARCHIVE) as file:
        file.extractall(tmp_path, filter="data")
    return RunFolder(tmp_path / "run")


def test_more_epochs_are_refused_with_the_way_forward_which_works(begun, tmp_path):
    config = small.get_config()
    config.train.epochs = 9
    with pytest.raises(RunError, match="train.epochs: 6 there, 9 now") as refusal:
        commands.train.train(config, begun.path)
    advice = f"With another name and --config.model.pretrained={begun.path} it starts from"
    assert advice in str(refusal.value)
    config.model.pretrained = str(begun.path)
    config.train.epochs = 1
    further = commands.train.train(config, tmp_path / "further")
    assert further.finished
    assert further.history[0]["train_loss"] < begun.history[0]["train_loss"]


def test_results_without_checkpoints_are_those_of_their_config(begun):
    """Another config's training reported them as its own."""
    shutil.rmtree(begun.path / "checkpoints")
    (begun.path / "checkpoints").mkdir()
    for name in ("test.json", "predictions.npz"):
        (begun.path / name).touch()
    config = small.get_config()
    config.train.epochs = 9
    with pytest.raises(RunError, match="train.epochs: 6 there, 9 now"):
        commands.train.train(config, begun.path)


def test_figures_of_weights_that_are_gone_do_not_stay(begun):
    shutil.rmtree(begun.path / "checkpoints")
    for name in ("robustness.json", "test.json"):
        (begun.path / name).write_text("of the weights before")
    run = commands.train.train(small.get_config(), begun.path)
    assert run.test["epochs"] == 6
    assert not (run.path / "robustness.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"test.json": "{}", "train.json": "{}"},  # annotations of a data set
        {"config.json": '{"model_type": "vit"}', "model.safetensors": ""},  # a model of others
    ],
)
def test_a_folder_of_something_else_is_left_as_it_is(content, tmp_path):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match="holds other files and no run"):
        commands.train.train(small.get_config(), tmp_path)
    for name, text in content.items():
        assert (tmp_path / name).read_text() == text


def test_a_run_without_its_environment_goes_on(begun, caplog):
    (begun.path / "environment.json").unlink()
    run = commands.train.train(small.get_config(), begun.path)
    assert run.finished and "environment.json is missing" in caplog.text
    assert "Resuming" in caplog.text or run.test["epochs"] == 6


def test_a_link_to_what_is_not_there_is_named(tmp_path):
    (tmp_path / "runs").symlink_to(tmp_path / "unplugged")
    with pytest.raises(RunError, match="runs is a link to .*unplugged, which is not there"):
        commands.train.train(small.get_config(), tmp_path / "runs" / "small")


def test_of_another_model_nothing_can_start(begun):
    config = small.get_config()
    config.model.hidden = 7
    with pytest.raises(RunError, match="holds the run of another config") as refusal:
        commands.train.train(config, begun.path)
    assert "pretrained" not in str(refusal.value)


def test_the_batch_size_of_the_evaluation_is_free_to_change(begun):
    config = small.get_config()
    config.train.eval_batch_size = 32
    assert not resuming.finished(config, begun)


WRITERS = {
    "show_data": commands.show_data.show_data,
    "profile": commands.profile.profile,
    "find_lr": commands.find_lr.find_lr,
}


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}


@pytest.mark.parametrize("use", WRITERS)
def test_nothing_is_written_into_the_folder_of_another_run(begun, use, caplog):
    caplog.set_level("INFO", "imgcls_jax")
    config = small.get_config()
    config.train.batch_size = 16
    before = files_of(begun.path)
    WRITERS[use](config, begun.path)
    beside = begun.path.with_name(f"run-{use}")
    assert files_of(begun.path) == before and any(beside.iterdir())
    assert f"{begun.path} holds the run of another config: {beside} is used" in caplog.text


def test_a_command_writes_into_the_folder_of_its_own_run(begun):
    commands.show_data.show_data(small.get_config(), begun.path)
    assert (begun.path / "show_data.png").exists()
    assert not begun.path.with_name("run-show_data").exists()


def test_the_folder_beside_may_hold_another_run_too(begun):
    begun.path.with_name("run-show_data").symlink_to(begun.path)
    config = small.get_config()
    config.train.batch_size = 16
    with pytest.raises(RunError, match="run-show_data holds the run of another config"):
        commands.show_data.show_data(config, begun.path)


def test_a_dry_run_refuses_the_folder_of_another_run(begun, capsys):
    config = small.get_config()
    config.train.batch_size = 16
    before = files_of(begun.path)
    commands.dry_run.show(config, begun.path)
    printed = capsys.readouterr().out
    assert "| cannot start |" in printed and "holds the run of another config" in printed
    assert files_of(begun.path) == before
