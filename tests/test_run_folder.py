import errno
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from configs import base
from imgcls_jax.config.options import BEFORE, differing, flat_options
from imgcls_jax.errors import RunError
from imgcls_jax.files import writing
from imgcls_jax.run.folder import RunFolder

HOLD = """
import sys
from imgcls_jax.run.folder import RunFolder
with RunFolder(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_locked_until_its_process_ends_even_by_a_kill(tmp_path):
    run = RunFolder(tmp_path / "new" / "run")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(RunError, match="Another process is training into .*another --workdir"),
            run.locked(),
        ):
            pass
        holder.kill()
    with run.locked():
        pass
    with run.locked():  # and again, once it was let go
        pass


def test_whoever_has_patience_gets_the_lock_of_a_process_that_ends(tmp_path):
    run = RunFolder(tmp_path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        threading.Timer(0.3, holder.kill).start()
        with run.locked(patience=30):
            assert holder.wait() == -signal.SIGKILL


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EROFS])
def test_what_fails_for_want_of_room_says_so_whoever_wrote(tmp_path, number):
    """Orbax and TensorFlow raise errors of other classes."""
    for error in (
        OSError(number, os.strerror(number)),
        ValueError(f"Failed to write: {os.strerror(number)} [28]"),
    ):
        with pytest.raises(
            RunError, match=f"run cannot be written: {os.strerror(number)}. Nothing that was saved"
        ):
            with writing(tmp_path / "run"):
                raise RuntimeError("the background thread failed") from error
    with pytest.raises(ValueError, match="other"), writing(tmp_path):
        raise ValueError("other")


def test_damaged_files_are_named_with_what_to_do(tmp_path):
    run = RunFolder(tmp_path)
    (tmp_path / "test.json").write_text('{"accuracy": 0.')
    (tmp_path / "metrics.jsonl").write_bytes(bytes(30) + b"\n")
    np.savez(tmp_path / "predictions.npz", probabilities=np.zeros((5, 3)), labels=np.zeros(5))
    os.truncate(tmp_path / "predictions.npz", 300)
    for name, read in (
        ("test.json", lambda: run.test),
        ("metrics.jsonl", lambda: run.history),
        ("predictions.npz", lambda: run.predictions),
    ):
        with pytest.raises(
            RunError, match=rf"{name} is damaged \(.*\). Delete it and report.html, and the run's"
        ):
            read()


def test_options_of_another_version_count_as_what_was_done_without_them():
    old, new = (
        {"train.epochs": 3, "seed": 0},
        {"train.epochs": 3, "seed": 1, "adapt.phases": "", "train.average": 0.0},
    )
    assert differing(old, new, free=["seed"]) == [] and differing(new, old, free=[]) == ["seed"]
    assert differing(old, new | {"train.average": 0.9}, free=["seed"]) == ["train.average"]
    assert differing(old, new | {"train.views": "none"}, free=["seed"]) == []
    assert differing(new | {"train.views": "flip"}, old, free=["seed"]) == ["train.views"]


def test_todays_defaults_are_what_was_done_before():
    options = flat_options(base.get_config())
    assert {key: options[key] for key in BEFORE} == BEFORE
