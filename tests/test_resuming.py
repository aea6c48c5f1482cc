"""What a command resumes, and what it says of a folder that it does not resume."""

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
