"""Checkpoints as storage: what is kept, what is detected as damaged, what is refused."""

import logging
import shutil

import numpy as np
import pytest
import tensorstore

from imgcls_jax.errors import RunError
from imgcls_jax.run.checkpoints import Checkpoints, shapes

MODEL = {"params": {"kernel": np.ones((64, 64), np.float32)}, "model_state": {}}
TRAINING = {"step": np.int32(0), "momentum": np.zeros(3, np.float32)}


def save(checkpoints, step):
    model = {"params": {"kernel": MODEL["params"]["kernel"] * step}, "model_state": {}}
    training = TRAINING | {"step": np.int32(step)}
    progress = {"epoch": step, "best_step": min(step, 2)}
    checkpoints.save(step, model=model, training=training, progress=progress)


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of steps 1 to 5, of which 2 was the best."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in range(1, 6):
        save(checkpoints, step)
    checkpoints.close()
    return tmp_path / "checkpoints"


def restore(folder):
    checkpoints = Checkpoints(folder)
    try:
        expected = {"model": shapes(MODEL), "training": shapes(TRAINING)}
        return checkpoints.restore(lambda progress: expected)
    finally:
        checkpoints.close()


def best(folder):
    checkpoints = Checkpoints(folder, read_only=True)
    try:
        return checkpoints.restore_best(shapes(MODEL))
    finally:
        checkpoints.close()


def damage(folder, step):
    """Flips a byte in every file of the step's arrays."""
    for file in (folder / str(step)).rglob("*"):
        is_array = file.is_file() and "d" in file.parts and "ocdbt" not in file.name
        if is_array and file.stat().st_size > 200:
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)


def test_the_newest_two_and_the_best_are_kept_and_come_back_to_the_bit(folder):
    steps = {child.name for child in folder.iterdir() if child.name.isdigit()}
    assert steps == {"2", "4", "5"}
    step, model, training, progress = restore(folder)
    assert (step, progress, training["step"]) == (5, {"epoch": 5, "best_step": 2}, 5)
    assert np.array_equal(model["params"]["kernel"], 5 * MODEL["params"]["kernel"])
    step, model = best(folder)
    assert step == 2 and np.array_equal(model["params"]["kernel"], 2 * MODEL["params"]["kernel"])


def test_a_damaged_best_stops_training_and_a_missing_one_is_named(folder, caplog):
    damage(folder, 2)
    message = "/2, the best checkpoint, is damaged; 5, the newest, is whole. Put it back"
    with pytest.raises(RunError, match=message):
        restore(folder)
    shutil.rmtree(folder / "2")
    with caplog.at_level(logging.WARNING):
        assert restore(folder)[0] == 5
    assert "/2 is missing, the best checkpoint" in caplog.text


def test_progress_is_verified_too(folder):
    file = folder / "5" / "progress" / "metadata"
    file.write_text(file.read_text().replace('"epoch": 5', '"epoch": 6'))
    assert restore(folder)[0] == 4


def test_nothing_saved_is_nothing_restored(tmp_path):
    assert restore(tmp_path / "checkpoints") is None


def test_a_damaged_checkpoint_is_skipped_with_a_warning_and_its_step_can_be_saved_again(
    folder, caplog
):
    damage(folder, 5)
    with caplog.at_level(logging.WARNING):
        assert restore(folder)[0] == 4
    assert "5 is damaged" in caplog.text
    assert "damaged-5, which can be deleted" in caplog.text
    assert (folder / "damaged-5" / "model").is_dir()
    checkpoints = Checkpoints(folder)
    save(checkpoints, 5)
    checkpoints.close()
    assert restore(folder)[0] == 5


@pytest.mark.parametrize(
    "what", ["truncated", "missing arrays", "missing progress", "empty folder", "temporary"]
)
def test_a_partial_checkpoint_is_skipped(folder, what):
    newest = folder / "5"
    if what == "truncated":
        for file in newest.rglob("*"):
            if file.is_file():
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif what == "missing arrays":
        for file in sorted((newest / "model").rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
    elif what == "missing progress":
        for file in (newest / "progress").iterdir():
            file.unlink()
    elif what == "empty folder":
        (folder / "7").mkdir()
    else:
        newest.rename(folder / "5.orbax-checkpoint-tmp")
    expected = 4
    if what == "empty folder":
        expected = 5
    assert restore(folder)[0] == expected


def test_if_the_best_is_damaged_the_newest_whole_one_is_used(folder, caplog):
    damage(folder, 2)
    with caplog.at_level(logging.WARNING):
        assert best(folder)[0] == 5
    assert "2 is damaged" in caplog.text


def test_other_shapes_are_not_restored(folder):
    other = {"params": {"kernel": np.ones((64, 63), np.float32)}, "model_state": {}}
    checkpoints = Checkpoints(folder, read_only=True)
    with pytest.raises(RunError, match="no whole checkpoint of this model"):
        checkpoints.restore_best(shapes(other))
    checkpoints.close()


def test_no_checkpoints_folder_is_a_clear_error(tmp_path):
    with pytest.raises(RunError, match="has saved no checkpoint"):
        Checkpoints(tmp_path / "checkpoints", read_only=True)


def test_saving_a_step_twice_is_an_error(folder):
    checkpoints = Checkpoints(folder)
    with pytest.raises(RunError, match="nothing was saved"):
        save(checkpoints, 5)
    checkpoints.close()


@pytest.mark.parametrize("expected", [shapes(MODEL), None])
def test_an_array_that_only_claims_to_be_huge_is_not_read(tmp_path, expected, caplog):
    """What is not stored of an array is zeros: a terabyte of them has a few hundred bytes."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    save(checkpoints, 1)
    checkpoints.close()
    folder = checkpoints.folder / "1" / "model"
    database = {"driver": "ocdbt", "base": f"file://{folder}/", "path": "params.kernel/"}
    tensorstore.open(
        {"driver": "zarr", "kvstore": database},
        dtype="float32",
        shape=[2**38],
        create=True,
        delete_existing=True,
    ).result()
    checkpoints = Checkpoints(tmp_path / "checkpoints", read_only=True)
    with pytest.raises(RunError, match="holds no whole checkpoint"):
        checkpoints.restore_best(expected)
    checkpoints.close()
    assert "its model arrays take 1,099,511,627,776 bytes, more than" in caplog.text
