"""The claim on a run: of several processes that train one study, one has the run trained."""

import contextlib
from collections.abc import Iterator

from imgcls_jax.run.folder import CLAIM, RunFolder
from imgcls_jax.run.lock import FolderLock, is_locked


@contextlib.contextmanager
def claimed(run: RunFolder, *, patience: float = 0.0) -> Iterator[None]:
    """Reserves a folder for this process and for those that it starts, which lock it.

    The folder is created if needed, and removed at the end if it stayed empty. patience: seconds to
    wait for another process to release it. Raises FolderInUseError if that one does not, and
    RunError if the folder cannot be written.
    """
    run.check_writable()
    is_new = run.is_new
    with FolderLock(run.path / CLAIM, patience=patience) as claim:
        try:
            yield
        finally:
            claim.remove()
            if is_new:
                with contextlib.suppress(OSError):  # it is not empty
                    run.path.rmdir()


def is_claimed(run: RunFolder) -> bool:
    """Returns whether a process has reserved the run's folder."""
    return is_locked(run.path / CLAIM)
