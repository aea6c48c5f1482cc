"""Two commands on one folder: the one that writes holds the lock, then decides what to do."""

import contextlib
import shutil
import threading

import pytest

from configs import base
from imgcls_jax import commands, data
from imgcls_jax.errors import RunError
from imgcls_jax.files import write_atomically
from imgcls_jax.run import publish as publishing
from imgcls_jax.run.folder import RunFolder
from tests.old_runs import small


def changed(**options):
    config = small.get_config()
    config.train.epochs = 1
    config.update_from_flattened_dict(options)
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("locks") / "finished"
    commands.train.train(changed(), folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return RunFolder(shutil.copytree(finished, tmp_path / "run"))


def test_a_folder_in_which_another_command_trains_meanwhile_is_not_resumed(
    finished, run, monkeypatch
):
    """The other trains after this one looked at the empty folder and before it has the lock."""
    folder = run.path.with_name("new")
    locked = RunFolder.locked

    @contextlib.contextmanager
    def after_another(self, **options):
        if not folder.exists():
            shutil.copytree(finished, folder)
        with locked(self, **options):
            yield

    monkeypatch.setattr(RunFolder, "locked", after_another)
    before = (finished / "test.json").read_bytes()
    with pytest.raises(RunError, match="holds the run of another config"):
        commands.train.train(changed(seed=7), folder)
    assert (folder / "test.json").read_bytes() == before
    assert RunFolder(folder).config.seed == 0


def test_what_the_same_command_finished_meanwhile_is_finished(finished, run, monkeypatch, caplog):
    caplog.set_level("INFO", "imgcls_jax")
    folder = run.path.with_name("new")
    check_writable = RunFolder.check_writable

    def after_another(self):
        if not folder.exists():
            shutil.copytree(finished, folder)
        check_writable(self)

    monkeypatch.setattr(RunFolder, "check_writable", after_another)
    commands.train.train(changed(), folder)
    assert "is finished" in caplog.text and "Resuming" not in caplog.text


def test_a_command_that_loads_data_holds_the_lock(tmp_path, monkeypatch):
    """Another one that starts meanwhile is refused; the figures are those of the first config."""
    folder = tmp_path / "run"
    load = data.load
    refusals = []

    def load_while_another_starts(config, **options):
        if not refusals:
            with pytest.raises(RunError, match="Another process is training into") as refusal:
                commands.train.train(changed(), folder)
            refusals.append(refusal)
        return load(config, **options)

    monkeypatch.setattr(data, "load", load_while_another_starts)
    commands.train.train(changed(seed=7), folder)
    assert refusals
    run = RunFolder(folder)
    assert run.config.seed == 7 and run.finished


WRITERS = {
    "train": lambda path: commands.train.train(changed(), path),
    "report": lambda path: commands.report.report([str(path)]),
    "robustness": lambda path: commands.robustness.robustness([path]),
    "explain": lambda path: commands.explain.explain([path], method="saliency"),
    "export": lambda path: commands.export.export([path]),
    "publish": lambda path: commands.publish.publish([str(path)]),
    "show_data": lambda path: commands.show_data.show_data(changed(), path),
    "profile": lambda path: commands.profile.profile(changed(), path),
    "find_lr": lambda path: commands.find_lr.find_lr(changed(), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_command_that_writes_into_a_folder_is_refused_while_another_one_does(
    name, run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if name == "train":
        (run.path / "report.html").unlink()  # of a finished run it prints the figures
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    refusal = "Another process is training into .*, or writing into it"
    with run.locked(), pytest.raises(RunError, match=refusal):
        WRITERS[name](run.path)
    before.pop(run.path / ".lock", None)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", [commands.ensemble.ensemble, commands.compare.compare])
def test_a_command_on_several_runs_is_refused_while_another_one_writes_into_its_folder(
    command, run, tmp_path
):
    other = shutil.copytree(run.path, tmp_path / "other")
    target = tmp_path / "target"
    with RunFolder(target).locked(), pytest.raises(RunError, match="Another process"):
        command([str(run.path), str(other)], workdir=target)


def test_of_two_predictions_at_a_time_both_print_and_one_draws(
    run, tmp_path, monkeypatch, capsys, caplog
):
    from PIL import Image

    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(commands.predict, "PATIENCE", 0.1)
    caplog.set_level("INFO", "imgcls_jax")
    with run.locked():
        commands.predict.predict(str(run.path), [str(tmp_path / "a.png")])
    assert '"class"' in capsys.readouterr().out and not (run.path / "predicted.png").exists()
    assert "1 image classified" in caplog.text and "Another process" in caplog.text


def test_publishing_copies_whole_files(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = publishing.publish(run.path)
    assert (target / "test.json").read_bytes() == (run.path / "test.json").read_bytes()
    assert not list(target.glob("*partial*")) and not list(target.glob(".*.partial"))


def test_a_refused_command_leaves_no_folder(tmp_path):
    from imgcls_jax.errors import DataError

    with pytest.raises(DataError):
        config = base.get_config()
        config.data.update(source="idx", path=str(tmp_path))
        commands.train.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_many_writers_of_one_file_do_not_tear_it(tmp_path):
    contents = [bytes([number]) * 300_000 for number in range(6)]
    errors = []

    def write(content):
        try:
            for _ in range(15):
                write_atomically(tmp_path / "file", content)
                assert (tmp_path / "file").read_bytes() in contents
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_whose_lock_is_a_link_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "elsewhere")
    run = RunFolder(tmp_path / "run")
    with pytest.raises(RunError, match="lock is a link that leaves its folder"), run.locked():
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_was_renamed_is_not_written_again(tmp_path):
    run = RunFolder(tmp_path / "run")
    moved = tmp_path / "moved"
    message = "was renamed or deleted while this process wrote into it.*--workdir=FOLDER"
    with pytest.raises(RunError, match=message), run.locked():
        run.path.rename(moved)
        # As a background thread may still do:
        (run.path / "checkpoints" / "7.orbax-checkpoint-tmp").mkdir(parents=True)
        run.check_there()
    assert not run.path.exists() and (moved / ".lock").exists()
