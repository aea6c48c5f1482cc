"""Several processes that train one model together: how they join, exchange values and end.

All of them run the same command on the data of their own machine. Only the first one writes, into
its run folder.
"""

import ctypes
import dataclasses
import logging
import os
import re
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from imgcls_jax import console
from imgcls_jax.errors import ConfigError
from imgcls_jax.peers import Peers

T = TypeVar("T")

MAX_PORT = 65_535
START_TIMEOUT = 300  # seconds that processes wait at their start for the others
HEARTBEAT_TIMEOUT = 30  # seconds without a heartbeat after which a process counts as gone
# Seconds that processes wait at their end for the others: the first one still tests and reports.
SHUTDOWN_TIMEOUT = 86_400
# Words in the errors of a connection that ended because another process did.
CONNECTION_ERRORS = ("Gloo", "NCCL", "grpc_status")

_process_id = 0
_num_processes = 1
_peers: Peers | None = None
_abort_handler = None  # a reference, since C holds none


def is_primary() -> bool:
    """Returns whether this process is the first one, or the only one."""
    return _process_id == 0


@dataclasses.dataclass(frozen=True)
class Joining:
    """How a process finds the others; by default it is the only one.

    coordinator: HOST:PORT, a free port on the machine of the first process. process_id: from 0.
    is_automatic: the cluster that started the process says all of that.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    is_automatic: bool = False


def join(joining: Joining) -> None:
    """Makes this process one of several. Call it before JAX's first computation.

    Returns when all processes are there. Raises ConfigError for arguments that cannot be, for a
    port that is taken, and if no cluster is found. From then on this process exits, with a message
    and status 1, within a minute after another one is gone.
    """
    if joining == Joining():
        return
    _check_arguments(joining)
    if joining.num_processes == 1:
        return
    import jax

    _print_on_abort(lambda: _not_all_came(joining))
    jax.config.update("jax_enable_preemption_service", False)  # training handles SIGTERM itself
    try:
        jax.distributed.initialize(
            joining.coordinator,
            joining.num_processes,
            joining.process_id,
            initialization_timeout=START_TIMEOUT,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
            shutdown_timeout_seconds=SHUTDOWN_TIMEOUT,
        )
    except ValueError as error:  # no coordinator
        raise ConfigError(
            f"--distributed=auto finds no cluster that says which processes there are ({error}). "
            "Start them by srun or mpirun, on the workers of a TPU pod or as a Kubernetes job "
            "(pip install jax[k8s]), or give each --coordinator, --processes and --process."
        ) from error
    _start()


def _start() -> None:
    """Notes what JAX found, and prepares for the end of another process."""
    global _process_id, _num_processes, _peers
    # Its public functions would start the backend, before its flags are set.
    from jax._src.distributed import global_state

    if global_state.num_processes == 1:
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        return
    _process_id = global_state.process_id
    _num_processes = global_state.num_processes
    host = global_state.coordinator_address.rpartition(":")[0].strip("[]")
    _peers = Peers(global_state.client, host, _process_id)
    _print_on_abort(_process_gone)
    sys.excepthook = _exit_with_error
    if not is_primary():
        # The first process logs the same.
        logging.getLogger("imgcls_jax").setLevel(logging.WARNING)


def _not_all_came(joining: Joining) -> str:
    return (
        f"error: not all of the {joining.num_processes or ''} processes came to "
        f"{joining.coordinator or 'the first one'} within {START_TIMEOUT} s. Start each of them, "
        "with an address that all can reach and a port that is free."
    )


def _check_arguments(joining: Joining) -> None:
    if joining.is_automatic:
        if joining != Joining(is_automatic=True):
            raise ConfigError(
                "--distributed=auto asks the cluster, and --coordinator, --processes and --process "
                "say the same by hand: give one or the other."
            )
        return
    coordinator = joining.coordinator
    num_processes = joining.num_processes
    process_id = joining.process_id
    is_address = re.fullmatch(r".+:\d{1,5}", coordinator or "") and _port(coordinator) <= MAX_PORT
    if is_address and num_processes and process_id in range(num_processes):
        if process_id == 0:
            _check_port(coordinator)
        return
    raise ConfigError(
        f"--coordinator={coordinator} --processes={num_processes} --process={process_id} cannot "
        "be: every process is given all three, the first one's HOST:PORT, how many there are, and "
        "which one it is, from 0, for example --coordinator=10.0.0.1:9000 --processes=2 "
        "--process=1."
    )


def _port(coordinator: str) -> int:
    return int(coordinator.rpartition(":")[2])


def _check_port(coordinator: str) -> None:
    """Raises ConfigError if this process cannot listen on the port: JAX would crash."""
    port = _port(coordinator)
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise ConfigError(
            f"--coordinator={coordinator} cannot be: nothing can listen on port {port} here "
            f"({error}). Give all processes another one."
        ) from error


def leave(status: int) -> int:
    """Returns the exit status of a process that ends early.

    One of several processes exits here, since a normal exit would wait for the others.
    """
    if _num_processes > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def from_primary(function: Callable[[], T]) -> T:
    """Returns to all processes what `function` returns in the first one, which alone calls it.

    All processes must call this. The value consists of texts, numbers, arrays, None, and lists and
    dicts of them: it is sent as msgpack, which executes nothing. A tuple arrives as a list.
    """
    if _num_processes == 1:
        return function()
    from flax import serialization
    from jax.experimental import multihost_utils

    content = np.zeros(0, np.uint8)
    if is_primary():
        value = function()
        if isinstance(value, tuple):
            value = list(value)
        # In place, since a copy would have the keys of dicts in another order.
        packed = serialization.msgpack_serialize(value, in_place=True)
        content = np.frombuffer(packed, np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.uint32(content.size)))
    if not is_primary():
        content = np.zeros(size, np.uint8)
    content = multihost_utils.broadcast_one_to_all(content)
    return serialization.msgpack_restore(np.asarray(content).tobytes())


def check_same(what: str, value: object, primary_value: object) -> None:
    """Raises ConfigError if this process has another config, or other data, than the first one."""
    if value != primary_value:
        raise ConfigError(
            f"Process {_process_id} was given another {what} than the first process. Start all of "
            "them with the same command, except for --process, on the same data."
        )


def global_max(value: float) -> float:
    """Returns the maximum over all processes, rounded to float32. All of them must call this."""
    if _num_processes == 1:
        return value
    from jax.experimental import multihost_utils

    return float(multihost_utils.process_allgather(np.float32(value)).max())


def _process_gone() -> str:
    name = _peers.gone() or f"another one of the {_num_processes} processes"
    return (
        f"error: {name} is gone: killed, failed or cut off. Training stopped in process "
        f"{_process_id} too. What was saved is kept. The same commands, in all {_num_processes} "
        "processes, resume."
    )


def _exit_with_error(kind: type, error: BaseException, trace) -> None:
    """The excepthook: prints one line for a connection that another process ended."""
    text = str(error)
    if any(word in text for word in CONNECTION_ERRORS):
        console.say(_process_gone(), error=True)
    else:
        traceback.print_exception(kind, error, trace)
    leave(1)


def _print_on_abort(message: Callable[[], str]) -> None:
    """Prints what `message` returns, and exits, when JAX aborts this process.

    JAX aborts it when the coordinator or another process no longer answers, and has no other way
    to tell. Python's own signal handlers would run too late.
    """
    global _abort_handler

    def on_abort(number: int) -> None:
        os.write(2, f"{message()}\n".encode())
        os._exit(1)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(on_abort)
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)
    _abort_handler = handler
