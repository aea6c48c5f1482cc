"""SIGTERM and Ctrl-C as a flag that the loop reads between two dispatches."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


class Interrupted(Exception):
    """Training was asked to stop, and has saved everything."""

    def __init__(self, signal_number: int):
        super().__init__(signal.Signals(signal_number).name)
        self.exit_status = 128 + signal_number  # as shells report a process that a signal ended


class Interrupt:
    """The number of the signal that came, or 0."""

    received: int = 0


@contextlib.contextmanager
def catch_signals() -> Iterator[Interrupt]:
    """Notes the first SIGTERM or SIGINT inside; a second one acts as if none had been caught.

    Outside the main thread, to which Python gives signals, none is noted.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore_handlers():
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def note(number, frame):
        interrupt.received = number
        name = signal.Signals(number).name
        message = f"\n{name}: saving, then stopping. Once more stops at once.\n"
        # print would raise an error if the signal came in the middle of another print.
        with contextlib.suppress(OSError):
            os.write(1, message.encode())
        restore_handlers()

    for number in handlers:
        signal.signal(number, note)
    try:
        yield interrupt
    finally:
        restore_handlers()
