"""Signals are heard, whatever is running when they come."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from limits import HANGS

from imgcls_jax import console
from imgcls_jax.training.interrupt import catch_signals


def test_outside_the_main_thread_no_signal_is_awaited():
    before = signal.getsignal(signal.SIGTERM)

    def wait():
        with catch_signals() as interrupt:
            return interrupt.received, signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor() as threads:
        assert threads.submit(wait).result() == (0, before)


IN_A_CALLBACK = """
import gc, signal, time
from imgcls_jax import console

def collected(phase, info):
    gc.callbacks.clear()
    signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
console.set_up()
gc.callbacks.append(collected)
try:
    gc.collect()
    time.sleep(20)
    print("not stopped")
except KeyboardInterrupt:
    print("stopped")
"""


def test_ctrl_c_in_a_callback_of_the_garbage_collection_is_not_lost():
    ended = subprocess.run(
        [sys.executable, "-c", IN_A_CALLBACK], capture_output=True, text=True, timeout=HANGS
    )
    assert ended.stdout == "stopped\n" and not ended.stderr


def test_ctrl_c_waits_until_what_must_not_be_interrupted_is_done():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    done = []
    try:
        with pytest.raises(KeyboardInterrupt), console.interrupts_wait():
            signal.raise_signal(signal.SIGINT)
            done.append("imported")
        assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a shell's background
        with console.interrupts_wait():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_in_the_middle_of_printing_is_noted(monkeypatch, capfd):
    class Printing:
        def write(self, text):
            raise RuntimeError("reentrant call")  # as of Python's own buffers

    with catch_signals() as interrupt, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Printing())
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.received == signal.SIGTERM
    assert "SIGTERM: saving, then stopping" in capfd.readouterr().out
