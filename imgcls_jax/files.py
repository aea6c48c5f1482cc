"""Files that are either whole or not there, whenever a process is killed.

Also finds and removes the partial files that killed processes left.
"""

import contextlib
import errno
import io
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import filelock
import numpy as np

from imgcls_jax import distributed
from imgcls_jax.errors import RunError, UserError
from imgcls_jax.foreign import NO_FOLLOW, NO_WAITING

# Names of partial files that `replacing` makes. Older versions had the process id in them.
PARTIAL = re.compile(r"\..+\.[0-9a-f]+\.partial")
ANY_PARTIAL = re.compile(r"\..+\.partial")
SETTLED = 0.5  # seconds in which threads that are ending still write
# System errors that are not a program's fault: the disk is full, or cannot be written to.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Opens a new file to write to, which replaces `path` at the end and is removed on failure.

    Its name is unique, so that processes which write the same file do not disturb each other, and
    never follows a link. It is locked while it is open: `sweep` takes an unlocked one for a file
    whose process was killed.
    """
    partial, file = _open_partial(path)
    renames_open_files = sys.platform != "win32"
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if renames_open_files:
                os.replace(partial, path)
        if not renames_open_files:
            os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)  # the disk may be full because of it
        raise


def _open_partial(path: Path) -> tuple[Path, IO[bytes]]:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW
    while True:
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
        file = os.fdopen(os.open(partial, flags, 0o666), "w+b")
        if lock(file) and os.fstat(file.fileno()).st_nlink:
            return partial, file
        file.close()  # another process removed it before it was locked


def sweep(folder: Path, names: re.Pattern = PARTIAL) -> None:
    """Removes the files of such names in `folder` that killed processes left.

    Files that are still being written stay.
    """
    with contextlib.suppress(OSError):  # a file that cannot be removed does no harm
        partials = [path for path in folder.iterdir() if names.fullmatch(path.name)]
        for path in partials:
            _remove_abandoned(path)


def _remove_abandoned(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | NO_FOLLOW | NO_WAITING)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and lock(file):
                path.unlink()


def lock(file: IO, *, shared: bool = False, wait: bool = False) -> bool:
    """Locks an open file. Returns whether it could; if not, another process has the lock.

    The lock ends when the file is closed or the process ends. shared: several processes may have
    the lock at a time, and none may have it alone. wait: until another process releases it.
    """
    if shared:
        return _lock_shared(file)
    return filelock.lock_descriptor(file.fileno(), blocking=wait)


def _lock_shared(file: IO) -> bool:
    """Locks a file as several processes may. filelock has no such lock, and Windows goes without."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def is_at(file: IO, path: Path) -> bool:
    """Returns whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns errors that mean a full or read-only disk into a RunError that says so.

    path: what is written in the `with` block.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = _disk_error(error)
        if not reason:
            raise
        raise RunError(
            f"{path} cannot be written: {reason}. Nothing that was saved is lost. Free some space "
            "and repeat the command: it goes on from there."
        ) from error


def _disk_error(error: BaseException) -> str | None:
    """Returns the system's words for a full or read-only disk where the error has them.

    Orbax raises errors of its own, with the system's words in their text.
    """
    texts = []
    cause: BaseException | None = error
    while cause:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    for number in DISK_ERRORS:
        words = os.strerror(number)
        if any(words in text for text in texts):
            return words
    return None


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that is either whole or not there, whenever the process is killed.

    Of several processes only the first one writes. Raises RunError if the disk is full.
    """
    if not distributed.is_primary():
        return
    with writing(path), replacing(path) as file:
        file.write(content)


def remove_while(folder: Path, condition: Callable[[], bool]) -> None:
    """Removes a folder, and again what threads that are ending write there within half a second.

    condition: what has to hold of the folder each time.
    """
    latest = time.monotonic() + SETTLED
    while time.monotonic() < latest:
        with contextlib.suppress(OSError):  # it is gone, or written to at this moment
            if condition():
                shutil.rmtree(folder)
        time.sleep(SETTLED / 20)


def check_links(paths: Iterable[Path]) -> None:
    """Raises RunError if one of the paths is a link to what is not there."""
    for path in paths:
        if path.is_symlink() and not path.exists():
            raise RunError(
                f"{path} is a link to {os.readlink(path)}, which is not there. Make it, mount its "
                "disk, or give another --workdir."
            )


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Writes a compressed .npz file as `write_atomically` does."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())
