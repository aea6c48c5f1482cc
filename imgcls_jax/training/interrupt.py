"""SIGTERM and Ctrl-C as a flag that the loop reads between two dispatches."""

import contextlib
import os
import signal
from collections.abc import Iterator


class Interrupted(Exception):
    """Training was asked to stop, and has saved everything."""

    def __init__(self, signal_number: int):
        super().__init__(signal.Signals(signal_number).name)
        self.exit_status = (
            128 + signal_number
        )  # what shells report of a process that a signal ended


class Interrupt:
    """The signal that came, or 0."""

    received: int = 0


@contextlib.contextmanager
def catch_signals() -> Iterator[Interrupt]:
    """Within, the first SIGTERM or SIGINT is only noted; a second one acts as if none had been caught."""
    interrupt = Interrupt()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number, frame):
        interrupt.received = number
        # Not by print: where the signal came in the middle of another one it would raise an error there.
        with contextlib.suppress(OSError):
            os.write(
                1,
                f"\n{signal.Signals(number).name}: saving, then stopping. Once more stops at once.\n".encode(),
            )
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
