"""Files that are either whole or not there, whenever a process is killed, and what killed processes leave of them."""

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from imgcls_jax import distributed
from imgcls_jax.errors import RunError, UserError

OWN = re.compile(
    r"\..+\.[0-9a-f]+\.partial"
)  # names that `replacing` gives; versions before had the process' number
ANY = re.compile(r"\..+\.partial")
UNWRITABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
)  # system errors that are no fault of a program


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file to write to, which takes the place of `path` at the end; where that fails it is removed.

    Its name is its own, so that processes which write the same file do not meet; it is never a link's target. It is
    locked for as long as it is open, by which `sweep` knows a file whose process is gone.
    """
    partial, file = _open(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)  # it would take room where there is none
        raise


def _open(path: Path) -> tuple[Path, IO[bytes]]:
    while True:
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
        file = os.fdopen(
            os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "w+b"
        )
        if lock(file) and os.fstat(file.fileno()).st_nlink:
            return partial, file
        file.close()  # it was swept away before it had its lock


def sweep(folder: Path, names: re.Pattern = OWN) -> None:
    """Removes the files of such names in `folder` that killed processes have left; those being written stay."""
    with contextlib.suppress(OSError):  # what cannot be removed is in nobody's way
        for path in [path for path in folder.iterdir() if names.fullmatch(path.name)]:
            _remove_abandoned(path)


def _remove_abandoned(path: Path) -> None:
    with contextlib.suppress(OSError):
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(number, "rb") as file:
            if stat.S_ISREG(os.fstat(number).st_mode) and lock(file):
                path.unlink()


def lock(file: IO) -> bool:
    """Takes the lock on an open file, unless another process has it; it ends with the file, or with the process."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def is_at(file: IO, path: Path) -> bool:
    """Whether the open file is the one that `path` names now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within, what fails since there is no room at `path`, or no writing, fails with a RunError that says so."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Orbax and TensorFlow have errors of their own, with the system's words in their text
        chain = [error]
        while cause := chain[-1].__cause__ or chain[-1].__context__:
            chain.append(cause)
        texts = " ".join(map(str, chain))
        reason = next((words for words in map(os.strerror, UNWRITABLE) if words in texts), None)
        if not reason:
            raise
        raise RunError(
            f"{path} cannot be written: {reason}. Nothing that was saved is lost: where there is room again, the same "
            "command goes on from there."
        ) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that is either whole or not there, whenever the process is killed. Only the first process does.

    Raises RunError where there is no room for it.
    """
    if not distributed.is_primary():
        return
    with writing(path), replacing(path) as file:
        file.write(content)


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """The same of a compressed NPZ file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())
