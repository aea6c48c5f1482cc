"""Several processes that train one model together: how they join, agree on something, and end.

All run the same command on data of their own machine; the first one alone writes, and its run folder is the only one.
"""

import ctypes
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from imgcls_jax.errors import ConfigError

T = TypeVar("T")

SILENCE = 30  # seconds without a sign of life after which a process counts as gone
PATIENCE = 300  # seconds that processes wait at their start for the others
A_DAY = (
    86_400  # longer than the first process tests and reports while the others wait for it to end
)

_index, _count = 0, 1
_on_abort = None  # kept here, since C holds no reference to it


def is_primary() -> bool:
    """Whether this process is the first, or the only one."""
    return _index == 0


def join(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Makes this process number `index` of `count`; to be called before JAX' first computation. Without arguments it
    stays alone.

    coordinator: HOST:PORT, a free port of the first process' machine. Returns when all are there. Raises ConfigError
    for arguments that cannot be. From here on this process ends, with a message and status 1, within a minute after
    another one is gone.
    """
    global _index, _count
    if (coordinator, count, index) == (None, None, None):
        return
    if (
        not re.fullmatch(r".+:\d+", coordinator or "")
        or not count
        or index is None
        or not 0 <= index < count
    ):
        raise ConfigError(
            f"--coordinator={coordinator} --processes={count} --process={index} cannot be: every process is given all "
            "three, the first one's HOST:PORT, how many there are, and which one it is, from 0, for example "
            "--coordinator=10.0.0.1:9000 --processes=2 --process=1."
        )
    if count == 1:
        return
    import jax

    _say_at_abort(
        f"error: not all of the {count} processes came to {coordinator} within {PATIENCE} s. Start each of them, with "
        "an address that all can reach and a port that is free."
    )
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is ours
    jax.distributed.initialize(
        coordinator,
        count,
        index,
        initialization_timeout=PATIENCE,
        heartbeat_timeout_seconds=SILENCE,
        shutdown_timeout_seconds=A_DAY,
    )
    _index, _count = index, count
    _say_at_abort(_gone())
    sys.excepthook = _end_with
    if not is_primary():
        logging.getLogger("imgcls_jax").setLevel(
            logging.WARNING
        )  # what there is to say the first one says


def leave(status: int) -> int:
    """The exit status of a process that ends out of turn; one of several ends here, so that it does not wait for the
    others as it would in good order."""
    if _count > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def from_primary(function: Callable[[], T]) -> T:
    """What `function` gives in the first process, which alone calls it; all must come here.

    It gives texts, numbers, arrays, None, and lists and dicts of them, which are sent as msgpack: data that nothing
    executes. A tuple of such arrives as a list.
    """
    if _count == 1:
        return function()
    from flax import serialization
    from jax.experimental import multihost_utils

    value = function() if is_primary() else None
    value = list(value) if isinstance(value, tuple) else value
    # In place, since a copy would have the keys of dicts in another order.
    content = np.frombuffer(
        serialization.msgpack_serialize(value, in_place=True) if is_primary() else b"", np.uint8
    )
    size = int(multihost_utils.broadcast_one_to_all(np.uint32(content.size)))
    sent = multihost_utils.broadcast_one_to_all(
        content if is_primary() else np.zeros(size, np.uint8)
    )
    return serialization.msgpack_restore(np.asarray(sent).tobytes())


def check_same(what: str, mine: object, theirs: object) -> None:
    """Raises ConfigError where this process has another config, or other data, than the first one (`theirs`)."""
    if mine != theirs:
        raise ConfigError(
            f"Process {_index} was given another {what} than the first process: start all of them with the same "
            "command, but for --process, on the same data."
        )


def global_max(value: float) -> float:
    """The highest of the processes' values, to the resolution of float32; all must come here."""
    if _count == 1:
        return value
    from jax.experimental import multihost_utils

    return float(multihost_utils.process_allgather(np.float32(value)).max())


def _gone() -> str:
    return (
        f"error: another one of the {_count} processes is gone: killed, failed or cut off. Training stopped in process "
        f"{_index} too; what was saved is kept. The same commands, in all processes, resume."
    )


def _end_with(kind: type, error: BaseException, trace) -> None:
    """The excepthook: of a connection that another process' end has broken it says that, of other errors all."""
    if any(connection in str(error) for connection in ("Gloo", "NCCL", "grpc_status")):
        print(_gone(), file=sys.stderr)
    else:
        traceback.print_exception(kind, error, trace)
    leave(1)


def _say_at_abort(message: str) -> None:
    """Has this process end with `message` where JAX aborts it, as it does when the coordinator or another process no
    longer answers.

    JAX has no other way to hear of that; Python's own signal handlers come too late to an abort.
    """
    global _on_abort

    def say(number: int) -> None:
        os.write(2, f"{message}\n".encode())
        os._exit(1)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(say)
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)
    _on_abort = handler
