"""Downloads from a local server that sends what no good server would."""

import contextlib
import hashlib
import socket
import threading
import time

import numpy as np
import pytest
from limits import assert_quick

from imgcls_jax.errors import DataError, printable
from imgcls_jax.pretrained import download
from imgcls_jax.pretrained.catalog import CATALOG, Weights

CONTENT = np.random.default_rng(0).bytes(50_000)
START = CONTENT[:100]
MANY = b"9" * 5000
OK = b"HTTP/1.1 200 OK\r\n"
PART = b"HTTP/1.1 206 Partial Content\r\n"


def length(value: bytes) -> bytes:
    return OK + b"Content-Length: " + value + b"\r\n\r\n" + CONTENT


# Whole answers, and what the error says of them.
ANSWERS = {
    "a length that is a word": (length(b"abc"), "announces a length of 'abc'"),
    "a negative length": (length(b"-5"), "announces a length of '-5'"),
    "a length with many digits": (length(MANY), "announces a length of '9999"),
    "a length beyond the file's": (
        length(b"1" + b"0" * 17),
        "announces 100,000,000,000,000,000 bytes",
    ),
    "a length with escapes": (length(b"\x1b[2J1"), r"announces a length of '\\\\x1b\[2J1'"),
    "no bytes": (OK + b"Content-Length: 0\r\n\r\n", "it is empty"),
    "an end at once": (b"", "without response"),
    "no HTTP": (b"\x00\xff" * 5000, "failed: "),
    "chunks, which may never end": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n",
        "the server sends chunks",
    ),
    "a reason with escapes": (
        b"HTTP/1.1 404 \x1b[2J\x1b]0;mine\x07no\r\nContent-Length: 0\r\n\r\n",
        r"404 \\x1b\[2J",
    ),
    "a long header": (OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n", "failed: "),
    "many headers": (OK + b"".join(b"X-%d: a\r\n" % k for k in range(500)) + b"\r\n", "failed: "),
    "a redirection to a file": (
        b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hosts\r\n\r\n",
        "failed: ",
    ),
    "a redirection to another service": (
        b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1:1/x\r\n\r\n",
        "unknown url type",
    ),
    "an endless redirection": (b"HTTP/1.1 302 Found\r\nLocation: /w.pth\r\n\r\n", "failed: "),
}
RANGES = {
    "a position with many digits": b"bytes " + MANY + b"-49999/50000",
    "a position that is a word": b"bytes abc-49999/50000",
    "another position": b"bytes 5-49999/50000",
}


class Server:
    """Answers every connection with `send(connection)`."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.send = lambda connection: None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with contextlib.suppress(OSError), connection:
            connection.recv(65_536)
            self.send(connection)
            connection.shutdown(socket.SHUT_WR)
            # If it were closed at once, the other side could lose what is on its way.
            while connection.recv(65_536):
                pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    yield server
    server.socket.close()


@pytest.fixture
def weights(server):
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Weights(
        model="m", url=f"http://127.0.0.1:{server.port}/w.pth", sha256=digest[:8], megabytes=0.05
    )


def assert_refused(weights, folder, text: str) -> None:
    """The error has a line with the reason, and four on what to fetch and where to put it."""
    with pytest.raises(DataError, match=text) as error:
        download.fetch(weights, folder)
    message = str(error.value)
    assert len(message.splitlines()) == 5
    assert len(message) < 1500
    assert printable(message, keep="\n") == message


@pytest.mark.parametrize("name", ANSWERS)
def test_an_invalid_answer(name, server, weights, tmp_path):
    answer, text = ANSWERS[name]
    server.send = lambda connection: connection.sendall(answer)
    assert_refused(weights, tmp_path, text)


@pytest.mark.parametrize("name", RANGES)
def test_an_invalid_part(name, server, weights, tmp_path):
    (tmp_path / ".w.pth.partial").write_bytes(START)
    answer = PART + b"Content-Range: " + RANGES[name] + b"\r\n\r\n" + CONTENT[100:]
    server.send = lambda connection: connection.sendall(answer)
    assert_refused(weights, tmp_path, "another part of the file")


@pytest.mark.parametrize(
    "headers", [OK + b"\r\n", OK + b"Content-Length: 60000\r\n\r\n"], ids=["no length", "a length"]
)
def test_an_endless_body_is_cut_at_the_size_of_the_file(
    headers, server, weights, tmp_path, monkeypatch
):
    sent = []

    def send(connection):
        connection.sendall(OK + headers + b"\r\n")
        while True:
            connection.sendall(bytes(1 << 16))
            sent.append(1 << 16)

    server.send = send
    monkeypatch.setattr(download, "CHUNK", 1 << 16)
    assert_refused(weights, tmp_path, "more comes than|the SHA256 of the file")
    assert sum(sent) < 4 * weights.most_bytes
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == 0


def test_a_body_that_comes_byte_by_byte_is_given_up(server, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0.5)

    def send(connection):
        connection.sendall(OK + b"Content-Length: 50000\r\n\r\n")
        for number in range(100):
            connection.sendall(CONTENT[number : number + 1])
            time.sleep(0.1)

    server.send = send
    start = time.monotonic()
    assert_refused(weights, tmp_path, r"only \d+ bytes came in 0.5 s")
    assert_quick(time.monotonic() - start, 5)


def test_a_slow_body_is_waited_for(server, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 1.5)  # on a busy machine a part may be late

    def send(connection):
        connection.sendall(OK + b"Content-Length: 50000\r\n\r\n")
        for start in range(0, 50_000, 5000):
            connection.sendall(CONTENT[start : start + 5000])
            time.sleep(0.2)

    server.send = send
    assert download.fetch(weights, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("name", [".w.pth.partial", ".w.pth.lock"])
def test_links_in_the_cache_are_not_written_through(name, server, weights, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / name).symlink_to(victim)
    server.send = lambda connection: connection.sendall(length(b"50000"))
    with pytest.raises(DataError, match="symbolic links"):
        download.fetch(weights, tmp_path / "cache")
    assert victim.read_text() == "mine"


def test_every_published_file_is_smaller_than_its_bound():
    for weights in CATALOG.values():
        assert 1e6 * (weights.megabytes or 0) < weights.most_bytes < 1e9
        assert 4 * weights.parameters < weights.most_bytes
