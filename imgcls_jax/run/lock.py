"""The lock of a run folder: one process at a time writes into it."""

import os
import time
from pathlib import Path
from typing import IO

from imgcls_jax import files
from imgcls_jax.errors import RunError
from imgcls_jax.foreign import NO_FOLLOW, NO_WAITING

POLL_SECONDS = 0.05


class FolderInUseError(RunError):
    """Another process has the lock of a folder."""


class FolderLock:
    """A lock file, held open and locked by the process that writes into its folder.

    The operating system releases the lock when the process ends, however it ends.
    """

    def __init__(self, path: Path, *, patience: float = 0.0, shared: bool = False):
        """Creates the folder if needed and takes the lock.

        patience: seconds to wait for another process to release it. shared: several processes may
        have the lock at a time. Raises FolderInUseError if another process does not release it,
        and RunError if the lock file cannot be written.
        """
        self.path = path
        self._file = _acquire(path, time.monotonic() + patience, shared=shared)

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    @property
    def is_in_place(self) -> bool:
        """Whether the folder still has the path at which the lock was taken."""
        return files.is_at(self._file, self.path)

    def is_only_one(self) -> bool:
        """Whether no other process shares the lock, which none can from then on."""
        return files.lock(self._file)

    def remove(self) -> None:
        """Removes the lock file; a process that waits for the lock makes another one."""
        if self.is_in_place:
            self.path.unlink()

    def check_in_place(self, cause: Exception | None = None) -> None:
        """Raises RunError, from `cause`, if the folder was renamed or deleted since."""
        if not self.is_in_place:
            raise RunError(
                f"{self.path.parent} was renamed or deleted while this process wrote into it, "
                "which stopped. What was saved is in the folder wherever it is now: with "
                "--workdir=FOLDER the same command continues there."
            ) from cause


def is_locked(path: Path) -> bool:
    """Returns whether a process has the lock of this file."""
    try:
        descriptor = os.open(path, os.O_RDWR | NO_FOLLOW | NO_WAITING)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        return not files.lock(file)


def _acquire(path: Path, deadline: float, *, shared: bool) -> IO:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open(path)
        if file is None:
            continue
        has_lock = files.lock(file, shared=shared)
        if has_lock and files.is_at(file, path):
            return file
        file.close()
        if not has_lock and time.monotonic() >= deadline:
            raise FolderInUseError(
                f"Another process is training into {path.parent}, or writing into it. "
                "Wait until it is done, or give another --workdir."
            )
        time.sleep(POLL_SECONDS)


def _open(path: Path) -> IO | None:
    """Opens the lock file, which is created if needed; None if its folder was just removed."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o666)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}.") from error
    return os.fdopen(descriptor, "r+b")
