"""Limits of time in tests, which a busy machine keeps, too."""

import os
import sys

HANGS = 1800.0  # seconds: a process that takes longer has hung, however busy the machine is


def assert_quick(seconds: float, most: float) -> None:
    """Fails if what took so many seconds should take at most `most`, unless the machine is busy."""
    if seconds <= most:
        return
    load = os.getloadavg()[0]
    cores = os.cpu_count() or 1
    assert load > cores, f"it took {seconds:.1f} s instead of at most {most:g} s"
    # pytest shows it with -s or -rP.
    print(f"busy: {seconds:.1f} s instead of at most {most:g} s, load {load:.1f}", file=sys.stderr)
