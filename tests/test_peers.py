"""Connections that say which of several processes is gone."""

import socket
import time

import pytest
from limits import assert_quick

from imgcls_jax import peers
from imgcls_jax.peers import Peers


class Store:
    """JAX's store of keys and values, of one process."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value):
        self.values[key] = value

    def blocking_key_value_get(self, key, milliseconds):
        return self.values[key]


@pytest.fixture
def three(monkeypatch):
    """The connections of three processes on three machines."""
    store = Store()
    processes = []
    for process_id in range(3):
        monkeypatch.setattr(socket, "gethostname", lambda number=process_id: f"node{number}")
        processes.append(Peers(store, "localhost", process_id))
    primary = processes[0]
    deadline = time.monotonic() + 30
    while len(primary._connections) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(primary._connections.values()) == {"process 1 on node1", "process 2 on node2"}
    yield processes
    for connection in primary._connections:
        connection.close()


def end(three, name):
    """Closes the connection of a process at the first one, as its end would."""
    connections = three[0]._connections
    (connection,) = [key for key, value in connections.items() if value == name]
    connection.shutdown(socket.SHUT_RDWR)


def test_all_know_the_first_one_that_ended(three):
    started = time.perf_counter()
    end(three, "process 2 on node2")
    assert [three[0].gone(), three[1].gone()] == ["process 2 on node2"] * 2
    end(three, "process 1 on node1")  # because of the other
    assert three[0].gone() == "process 2 on node2"
    assert_quick(time.perf_counter() - started, 2)


def test_the_first_process_ends(three):
    connections = {name: connection for connection, name in three[0]._connections.items()}
    connections["process 1 on node1"].shutdown(socket.SHUT_WR)  # as the end of the first one does
    assert three[1].gone() == "process 0 on node0"


def test_nobody_is_named_where_processes_cannot_connect(monkeypatch):
    monkeypatch.setattr(peers, "PATIENCE", 0.01)
    store = Store()
    store.key_value_set(peers.KEY, "1 process 0 on node0")  # nobody listens on port 1
    assert Peers(store, "localhost", 1).gone() == ""


def test_a_stranger_who_sends_anything_is_printable_and_bounded(three):
    connection, other = socket.socketpair()
    with connection, other:
        other.sendall(b"\x1b[31m" + b"a" * 1000)
        name = peers._received(connection)
    assert "\x1b" not in name and len(name) < 2 * peers.MOST_BYTES
