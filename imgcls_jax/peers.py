"""Says which of several processes is gone.

JAX says that one is, and not which. Here every process keeps a connection to the first one, which
the operating system closes when either of them ends, however it ends. The first process tells the
others whose connection was closed.
"""

import contextlib
import selectors
import socket
import threading

from imgcls_jax.errors import printable

KEY = "imgcls_jax/peers"  # of the first process' port, in JAX's store of keys and values
TIMEOUT = 10  # seconds to connect
PATIENCE = 2.0  # seconds that a process which lost another one waits for its name
MOST_BYTES = 300  # of a name


class Peers:
    """The connections between this process and the others. Without them no name is known.

    store: JAX's client, which has keys and values. host: of the first process, as others reach it.
    """

    def __init__(self, store, host: str, process_id: int):
        self._name = ""
        self._is_known = threading.Event()
        self._connections: dict[socket.socket, str] = {}
        with contextlib.suppress(OSError, RuntimeError):  # names are a convenience
            if process_id == 0:
                self._listen(store)
            else:
                self._connect(store, host, process_id)

    def gone(self) -> str:
        """Returns the name of the first process that ended, "" if it is not known."""
        self._is_known.wait(PATIENCE)
        return self._name

    def _listen(self, store) -> None:
        listener = _listener()
        port = listener.getsockname()[1]
        store.key_value_set(KEY, f"{port} {_name(0)}")
        threading.Thread(target=self._serve, args=[listener], daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        """Accepts connections until one of them ends, and then tells the others whose it was."""
        with selectors.DefaultSelector() as selector, listener:
            selector.register(listener, selectors.EVENT_READ)
            while not self._is_known.is_set():
                for key, _ in selector.select():
                    if key.fileobj is listener:
                        self._accept(listener, selector)
                    else:
                        self._tell(key.fileobj)

    def _accept(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            connection.settimeout(TIMEOUT)
            name = _received(connection)
            if name:
                self._connections[connection] = name
                selector.register(connection, selectors.EVENT_READ)

    def _tell(self, ended: socket.socket) -> None:
        """Tells the other processes whose connection ended."""
        name = self._connections.pop(ended)
        ended.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.sendall(name.encode())
        self._note(name)

    def _connect(self, store, host: str, process_id: int) -> None:
        port, name = store.blocking_key_value_get(KEY, 1000 * TIMEOUT).split(" ", 1)
        connection = socket.create_connection((host, int(port)), TIMEOUT)
        connection.settimeout(None)
        connection.sendall(_name(process_id).encode())
        threading.Thread(target=self._wait, args=[connection, name], daemon=True).start()

    def _wait(self, connection: socket.socket, primary_name: str) -> None:
        with connection:
            self._note(_received(connection) or primary_name)

    def _note(self, name: str) -> None:
        if not self._is_known.is_set():
            self._name = name
            self._is_known.set()


def _name(process_id: int) -> str:
    return f"process {process_id} on {socket.gethostname()}"


def _listener() -> socket.socket:
    """Returns a socket that listens on a free port."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _received(connection: socket.socket) -> str:
    """Returns a name that another process sent, "" if it ended instead."""
    try:
        content = connection.recv(MOST_BYTES)
    except OSError:
        return ""
    return printable(content.decode(errors="replace"))
