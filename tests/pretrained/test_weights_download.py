"""Downloads from a local server that serves well, cuts, sends another file, or hangs."""

import hashlib
import http.server
import logging
import socket
import threading

import numpy as np
import pytest

from imgcls_jax.errors import DataError
from imgcls_jax.pretrained import download
from imgcls_jax.pretrained.catalog import Weights

CONTENT = np.random.default_rng(0).bytes(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.can_resume = True
        self.cuts: list[int] = []  # after how many bytes each of the next connections is cut
        self.status = 200
        self.hang = None  # "headers" or "body": where it stops to send
        self.ranges_asked: list[str | None] = []  # the Range of each request
        self.released = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers["Range"]
        server.ranges_asked.append(asked)
        if server.hang == "headers":
            server.released.wait(30)
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if asked and server.can_resume:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        size = len(server.content)
        if start and start >= size:
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        if server.hang == "body":
            self.wfile.write(body[:1000])
            server.hang = None
            server.released.wait(30)
            return
        if server.cuts:
            body = body[: server.cuts.pop(0)]
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def weights(server):
    url = f"http://127.0.0.1:{server.server_port}/models/w.pth"
    return Weights(model="m", url=url, sha256=SHA256[:8])


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "a" / "cache"


def files(cache):
    """The names of the files in the cache without locks."""
    return sorted(file.name for file in cache.iterdir() if not file.name.endswith(".lock"))


def write_partial(cache, content):
    cache.mkdir(parents=True)
    (cache / ".w.pth.partial").write_bytes(content)


def test_downloaded_once(server, weights, cache):
    path = download.fetch(weights, cache)
    assert path == cache / "w.pth" == download.cached_path(weights, cache)
    assert path.read_bytes() == CONTENT
    assert files(cache) == ["w.pth"]
    download.fetch(weights, cache)
    assert server.ranges_asked == [None]


def test_verified_by_md5_where_that_is_known(server, weights, cache):
    right = Weights(model="m", url=weights.url, md5=MD5)
    assert download.fetch(right, cache).read_bytes() == CONTENT
    wrong = Weights(model="m", url=weights.url, md5="00" + MD5[2:])
    with pytest.raises(DataError, match="its MD5 is 00"):
        download.fetch(wrong, cache)


def test_a_cut_download_is_resumed(server, weights, cache, caplog):
    server.cuts = [300_000, 100_000]
    with caplog.at_level(logging.WARNING):
        assert download.fetch(weights, cache).read_bytes() == CONTENT
    assert server.ranges_asked == [None, "bytes=300000-", "bytes=400000-"]
    assert "going on from byte 300000" in caplog.text
    assert files(cache) == ["w.pth"]


def test_a_cut_download_starts_again_if_the_server_cannot_resume(server, weights, cache):
    server.cuts = [300_000]
    server.can_resume = False
    assert download.fetch(weights, cache).read_bytes() == CONTENT
    assert server.ranges_asked == [None, "bytes=300000-"]


def test_a_download_with_many_cuts_stops_and_is_resumed_by_the_next_process(
    server, weights, cache, monkeypatch
):
    monkeypatch.setattr(download, "RESUMES", 2)
    server.cuts = [100_000, 100_000]
    with pytest.raises(DataError, match="cut 2 times"):
        download.fetch(weights, cache)
    assert files(cache) == [".w.pth.partial"]
    assert download.fetch(weights, cache).read_bytes() == CONTENT
    assert server.ranges_asked[2:] == ["bytes=200000-"]


def test_a_partial_download_of_an_earlier_process_is_resumed(server, weights, cache):
    write_partial(cache, CONTENT[:500_000])
    assert download.fetch(weights, cache).read_bytes() == CONTENT
    assert server.ranges_asked == ["bytes=500000-"]


@pytest.mark.parametrize("start", [b"other" * 1000, CONTENT + b"more"], ids=["other", "longer"])
def test_another_partial_file_of_an_earlier_process_is_downloaded_again(
    server, weights, cache, start, caplog
):
    write_partial(cache, start)
    assert download.fetch(weights, cache).read_bytes() == CONTENT
    assert server.ranges_asked == [f"bytes={len(start)}-", None]
    assert "once more" in caplog.text


def test_a_complete_download_of_an_earlier_process_is_used(server, weights, cache):
    write_partial(cache, CONTENT)
    assert download.fetch(weights, cache).read_bytes() == CONTENT
    assert server.ranges_asked == [f"bytes={len(CONTENT)}-"]  # answered by 416


def test_a_file_of_another_hash_is_refused_after_a_second_try(server, weights, cache):
    server.content = b"<!DOCTYPE html><p>Log in to the network</p>"
    with pytest.raises(DataError) as error:
        download.fetch(weights, cache)
    for part in (
        weights.url,
        f"begins with {SHA256[:8]}",
        str(cache / "w.pth"),
        "HTML",
        "downloaded twice",
    ):
        assert part in str(error.value)
    assert server.ranges_asked == [None, None]
    assert files(cache) == []


def test_an_empty_answer_is_refused(server, weights, cache):
    server.content = b""
    with pytest.raises(DataError, match="it is empty"):
        download.fetch(weights, cache)
    assert files(cache) == []


def test_a_damaged_file_in_the_cache_is_downloaded_again(server, weights, cache, caplog):
    download.fetch(weights, cache).write_bytes(CONTENT[:-1] + b"x")
    assert download.fetch(weights, cache).read_bytes() == CONTENT
    assert len(server.ranges_asked) == 2
    assert "w.pth is damaged" in caplog.text


@pytest.mark.parametrize("status", [404, 503])
def test_an_error_of_the_server(server, weights, cache, status):
    server.status = status
    message = rf"the server answers {status} (?s:.*)fetch by hand:  {weights.url}"
    with pytest.raises(DataError, match=message):
        download.fetch(weights, cache)
    assert len(server.ranges_asked) == 1
    assert files(cache) == []


def test_a_server_that_does_not_answer_is_given_up(server, weights, cache, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0.2)
    server.hang = "headers"
    with pytest.raises(DataError, match=r"(no answer|no byte) in 0\.2 s"):
        download.fetch(weights, cache)


def test_a_server_that_stops_in_the_middle_is_asked_for_the_rest(
    server, weights, cache, monkeypatch
):
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    server.hang = "body"
    assert download.fetch(weights, cache).read_bytes() == CONTENT
    assert server.ranges_asked == [None, "bytes=1000-"]


def test_without_a_network_the_error_says_what_to_fetch_and_where_to_put_it(cache):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        _, port = unused.getsockname()
        weights = Weights(model="m", url=f"http://127.0.0.1:{port}/w.pth", sha256="0123abcd")
        with pytest.raises(DataError) as error:
            download.fetch(weights, cache)
    for part in (
        "Connection refused",
        weights.url,
        "SHA-256 begins with 0123abcd",
        str(cache / "w.pth"),
    ):
        assert part in str(error.value)


def test_looking_up_a_host_has_a_time_limit(weights, cache, monkeypatch):
    """The time without a network is bounded by PATIENCE, whatever the resolver does."""
    awake = threading.Event()

    def getaddrinfo(*arguments, **options):
        awake.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(download, "PATIENCE", 0.1)
    with pytest.raises(DataError, match=r"no answer in 0\.1 s"):
        download.fetch(weights, cache)
    awake.set()


def test_the_limit_is_below_ten_seconds():
    assert download.PATIENCE < 10


def test_two_at_once_download_once(server, weights, cache):
    server.cuts = [300_000]  # so that it takes two requests
    paths = []

    def fetch():
        paths.append(download.fetch(weights, cache))

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [cache / "w.pth"] * 2
    assert len(server.ranges_asked) == 2


def test_a_cache_that_cannot_be_written(server, weights, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="put it there"):
        download.fetch(weights, tmp_path / "file" / "cache")


def test_a_file_placed_by_hand_needs_no_network(cache):
    cache.mkdir(parents=True)
    (cache / "w.pth").write_bytes(CONTENT)
    weights = Weights(model="m", url="http://127.0.0.1:1/w.pth", sha256=SHA256[:8])
    assert download.fetch(weights, cache) == cache / "w.pth"
