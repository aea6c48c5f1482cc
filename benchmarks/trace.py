"""Traces one epoch of configs/quickstart.py: python -m benchmarks.trace

Prints, as JSON, which functions of imgcls_jax run while the training prepares its data and trains
the first epoch. With $BENCHMARKED_CHECKOUT they are those of another checkout.
"""

import contextlib
import importlib
import inspect
import json
import os
import pkgutil
import sys
import tempfile
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from benchmarks.worker import use_checkout

FIRST_READ = "load_digits"  # scikit-learn's function that reads the images
EPOCH_START = "epoch_batches"  # our function that draws the order of an epoch's examples
METRICS_FILE = "metrics.jsonl"  # the file that gets a line when an epoch ends
# Python's names for the frames of comprehensions, which are no functions of their own.
COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}

Function = tuple[str, str]  # file below the package, and qualified name


class Tracer:
    """Collects functions of a package, from two points of a training to the end of its epoch.

    since_read: functions that ran, or were running, from the first read of the images on.
    since_epoch_start: the same, from the start of the first epoch on.
    """

    def __init__(self, package: Path):
        self._prefix = f"{package}{os.sep}"
        self.since_read: set[Function] | None = None
        self.since_epoch_start: set[Function] | None = None
        self.finished = False

    def start(self) -> None:
        sys.addaudithook(self._on_audit_event)
        threading.setprofile(self._on_profile_event)
        sys.setprofile(self._on_profile_event)

    def _stop(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)
        self.finished = True

    def _on_profile_event(
        self,
        frame: FrameType,
        event: str,
        _: Any,
    ) -> None:
        if event != "call" or self.finished:
            return
        name = frame.f_code.co_name
        if name == FIRST_READ and self.since_read is None:
            self.since_read = self._running(frame)
        if name == EPOCH_START and self.since_epoch_start is None:
            self.since_epoch_start = self._running(frame)
        function = self._function(frame.f_code)
        if function is None:
            return
        if self.since_read is not None:
            self.since_read.add(function)
        if self.since_epoch_start is not None:
            self.since_epoch_start.add(function)

    def _on_audit_event(self, event: str, arguments: tuple) -> None:
        """Stops when the epoch's line is written."""
        if event != "open" or self.since_epoch_start is None or self.finished:
            return
        path, _, flags = arguments
        is_written = flags & (os.O_WRONLY | os.O_RDWR)
        if is_written and os.path.basename(str(path)) == METRICS_FILE:
            self._stop()

    def _running(self, frame: FrameType | None) -> set[Function]:
        """Returns the package's functions that are on the stack."""
        functions = set()
        while frame is not None:
            function = self._function(frame.f_code)
            if function is not None:
                functions.add(function)
            frame = frame.f_back
        return functions

    def _function(self, code: CodeType) -> Function | None:
        """Returns the function of the package that has this code, None for any other code."""
        is_function = code.co_flags & inspect.CO_OPTIMIZED  # bodies of modules and classes are not
        if not is_function or code.co_name in COMPREHENSIONS:
            return None
        file = code.co_filename
        if not file.startswith(self._prefix):
            return None
        return file.removeprefix(self._prefix), code.co_qualname


def import_everything(package: Any) -> None:
    """Imports all modules of the package, so that the trace has no functions that imports call.

    Modules whose optional dependencies are not installed are left out.
    """
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)


def trace() -> Tracer:
    """Trains one epoch of configs/quickstart.py in a temporary folder."""
    import imgcls_jax
    from configs import quickstart
    from imgcls_jax.commands import train

    import_everything(imgcls_jax)
    (package,) = imgcls_jax.__path__
    tracer = Tracer(Path(package))
    config = quickstart.get_config()
    config.train.epochs = 1
    with tempfile.TemporaryDirectory() as folder:
        config.data.cache = os.path.join(folder, "cache")
        tracer.start()
        train.train(config, Path(folder, "run"))
    if not tracer.finished:
        raise RuntimeError(f"no epoch was traced: {FIRST_READ}, {EPOCH_START} or {METRICS_FILE}")
    return tracer


def main() -> None:
    use_checkout()
    tracer = trace()
    functions = {
        "since_read": sorted(tracer.since_read),
        "since_epoch_start": sorted(tracer.since_epoch_start),
    }
    print(json.dumps(functions))


if __name__ == "__main__":
    main()
