import subprocess
import sys

import pytest

from imgcls_jax.errors import RunError
from imgcls_jax.run_folder import RunFolder, differing

HOLD = """
import sys
from imgcls_jax.run_folder import RunFolder
with RunFolder(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_locked_until_its_process_ends_even_by_a_kill(tmp_path):
    run = RunFolder(tmp_path / "new" / "run")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="Another process is training into .*another --workdir"), run.locked():
            pass
        holder.kill()
    with run.locked():
        pass
    with run.locked():  # and again, once it was let go
        pass


def test_options_of_another_version_count_as_off():
    old, new = {"train.epochs": 3, "seed": 0}, {"train.epochs": 3, "seed": 1, "adapt.phases": "", "train.average": 0.0}
    assert differing(old, new, free=["seed"]) == [] and differing(new, old, free=[]) == ["seed"]
    assert differing(old, new | {"train.average": 0.9}, free=["seed"]) == ["train.average"]
