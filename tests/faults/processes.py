"""Real processes of launch.py and imgcls, to be watched and ended.

They are forked off one process that has imported everything already, as JAX takes seconds to import; from
there on they do what `python launch.py` does. `plain` ones are started by that very command.
"""

import contextlib
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST = 1800.0  # seconds that a process may take to end on a machine however busy

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(
    [
        *("imgcls_jax.training.event_files", "sklearn.datasets", "matplotlib.figure", "PIL.Image"),
        *("imgcls_jax.commands.study", "imgcls_jax.training.loop", "imgcls_jax.evaluation.predict"),
        *("imgcls_jax.reporting.run_report", "imgcls_jax.reporting.plots.dashboard"),
    ]
)

if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # in a shell's background, whose processes would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Launched:
    """One process of launch.py; what it prints goes into the file `output`."""

    def __init__(self, arguments: list[str], output: Path, *, plain: bool = False, **conditions):
        """conditions: those of `_launch`."""
        self.output = output
        self.output.unlink(missing_ok=True)
        if plain:
            with open(output, "wb") as file:
                command = [sys.executable, "launch.py", *arguments]
                self._process = subprocess.Popen(
                    command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
                )
        else:
            self._process = FORKING.Process(
                target=_launch, args=(arguments, output), kwargs=conditions
            )
            self._process.start()

    @property
    def code(self) -> int | None:
        """The exit status, negative where a signal ended it; None while it runs."""
        return (
            self._process.poll()
            if isinstance(self._process, subprocess.Popen)
            else self._process.exitcode
        )

    @property
    def printed(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def send(self, number: int) -> None:
        while self.code is None and not self.output.exists():
            time.sleep(0.001)  # what is forked is not there yet
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(self._process.pid, number)

    def wait(self) -> int:
        """The exit status. Raises TimeoutError for a process that hangs, and ends it."""
        latest = time.monotonic() + LONGEST
        while self.code is None:
            if time.monotonic() > latest:
                self.send(signal.SIGKILL)
                raise TimeoutError(f"still there after {LONGEST:.0f} s:\n{self.printed[-2000:]}")
            time.sleep(0.01)
        return self.code


def _launch(
    arguments: list[str],
    output: Path,
    *,
    largest_file: int = 0,
    clock: bool = False,
    command: str = "launch.py",
    compiled: Path | None = None,
    cwd: Path = ROOT,
) -> None:
    """What a process does.

    command: "launch.py" or "imgcls". largest_file: bytes beyond which writing fails, as on a full
    disk. clock: it is set back by a day after a second. compiled: the folder of compiled programs,
    if it is another. cwd: the working folder.
    """
    cat = None
    try:
        with open(output, "wb") as file:
            if largest_file:  # what is printed goes through a process that is not bound by it
                cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
            for stream in (1, 2):
                os.dup2(cat.stdin.fileno() if cat else file.fileno(), stream)
        if largest_file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        if clock:
            now, latest = time.time, time.time() + 1
            time.time = lambda: now() - 86400 * (now() > latest)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
            compiled or os.environ["JAX_COMPILATION_CACHE_DIR"]
        )
        os.chdir(cwd)
        sys.path.insert(0, str(ROOT))
        sys.argv = [command, *arguments]
        if command == "imgcls":
            runpy.run_module("imgcls_jax", run_name="__main__")
        else:
            runpy.run_path(str(ROOT / command), run_name="__main__")
    except KeyboardInterrupt:  # before launch.py catches it: Python itself would end like this
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        sys.stdout.flush()
        if cat:
            cat.stdin.close()
            os.closerange(1, 3)
            cat.wait()
