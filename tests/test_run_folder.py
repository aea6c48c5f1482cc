"""A run folder: its lock, its damaged files, and options of other versions."""

import errno
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from imgcls_jax.config.options import differing
from imgcls_jax.errors import RunError
from imgcls_jax.files import writing
from imgcls_jax.run.folder import RunFolder

HOLDER = """
import sys
from imgcls_jax.run.folder import RunFolder
with RunFolder(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(run: RunFolder) -> subprocess.Popen:
    """Starts a process that locks the folder, says so, and waits."""
    command = [sys.executable, "-c", HOLDER, str(run.path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_folder_is_locked_until_its_process_ends_even_by_a_kill(tmp_path):
    run = RunFolder(tmp_path / "new" / "run")
    with hold(run) as holder:
        assert holder.stdout.readline() == "held\n"
        refusal = "Another process is training into .*another --workdir"
        with pytest.raises(RunError, match=refusal), run.locked():
            pass
        holder.kill()
    with run.locked():
        pass
    with run.locked():  # again, after it was released
        pass


def test_patience_waits_for_the_process_that_holds_the_lock(tmp_path):
    run = RunFolder(tmp_path)
    with hold(run) as holder:
        assert holder.stdout.readline() == "held\n"
        threading.Timer(0.3, holder.kill).start()
        with run.locked(patience=30):
            assert holder.wait() == -signal.SIGKILL


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EROFS])
def test_errors_for_lack_of_room_say_so_whatever_wrote(tmp_path, number):
    """Orbax and TensorFlow raise errors of other classes."""
    reason = os.strerror(number)
    message = f"run cannot be written: {reason}. Nothing that was saved"
    for error in (OSError(number, reason), ValueError(f"Failed to write: {reason} [28]")):
        with pytest.raises(RunError, match=message), writing(tmp_path / "run"):
            raise RuntimeError("the background thread failed") from error
    with pytest.raises(ValueError, match="other"), writing(tmp_path):
        raise ValueError("other")


def test_damaged_files_are_named_with_what_to_do(tmp_path):
    run = RunFolder(tmp_path)
    (tmp_path / "test.json").write_text('{"accuracy": 0.')
    (tmp_path / "metrics.jsonl").write_bytes(bytes(30) + b"\n")
    np.savez(tmp_path / "predictions.npz", probabilities=np.zeros((5, 3)), labels=np.zeros(5))
    os.truncate(tmp_path / "predictions.npz", 300)
    readers = {
        "test.json": lambda: run.test,
        "metrics.jsonl": lambda: run.history,
        "predictions.npz": lambda: run.predictions,
    }
    for name, read in readers.items():
        message = rf"{name} is damaged \(.*\). Delete it and report.html, and the run's"
        with pytest.raises(RunError, match=message):
            read()


def test_an_option_that_another_version_lacks_counts_as_off():
    old = {"train.epochs": 3, "seed": 0}
    new = {"train.epochs": 3, "seed": 1, "adapt.phases": "", "train.ema_decay": 0.0}
    assert differing(old, new, ignored=["seed"]) == []
    assert differing(new, old, ignored=[]) == ["seed"]
    assert differing(old, new | {"train.ema_decay": 0.9}, ignored=["seed"]) == ["train.ema_decay"]
    assert differing(new | {"train.tta": "flip"}, old, ignored=["seed"]) == ["train.tta"]
