"""Writes the runs that older versions leave when stopped, for test_old_runs.py. From the root:

    python -m tests.old_runs.write 5b1c72b 31ea3c6

Each commit trains tests/old_runs/small.py in its own worktree, is stopped after an epoch by
SIGTERM, and its run folder becomes tests/old_runs/COMMIT.tar.xz. A release adds its own.
"""

import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from imgcls_jax.run.folder import EVENTS, OLD_EVENTS

HERE = Path(__file__).parent
LEFT_OUT = (".lock", OLD_EVENTS, EVENTS)  # a resumed run writes them again


def write(commit: str) -> Path:
    """Writes the run folder that the commit leaves after its first epoch."""
    with tempfile.TemporaryDirectory() as folder:
        tree, run = Path(folder, "tree"), Path(folder, "run")
        subprocess.run(["git", "worktree", "add", "-q", "--detach", tree, commit], check=True)
        try:
            command = [sys.executable, "launch.py", "--config", HERE / "small.py", "--workdir", run]
            process = subprocess.Popen(
                command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for line in process.stdout:
                if line.startswith("epoch 1/"):
                    process.send_signal(signal.SIGTERM)
            if process.wait() != 128 + signal.SIGTERM:
                raise RuntimeError(f"{commit} was not stopped: exit status {process.returncode}")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], check=True)
        archive = HERE / f"{commit}.tar.xz"
        with tarfile.open(archive, "w:xz") as file:
            file.add(run, "run", filter=_kept)
    return archive


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    if Path(member.name).name.startswith(LEFT_OUT):
        return None
    return member


if __name__ == "__main__":
    for commit in sys.argv[1:]:
        print(write(commit))
