"""The demo's application over HTTP, with a classifier that takes no time."""

import base64
import io
import ipaddress
import re
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import imgcls_jax
from imgcls_jax.commands import demo as command
from imgcls_jax.data.image_files import Reader
from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.evaluation.calibration import apply_temperature
from imgcls_jax.evaluation.images import Prediction
from tests.demo.conftest import TYPE, png

pytest.importorskip("starlette", reason="starlette is not installed: requirements-demo.txt")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: requirements-demo.txt")

from imgcls_jax.demo import app, model, server  # noqa: E402

ALL_OF_IPV6 = str(ipaddress.IPv6Address(0))
HOSTILE = "</script><script>alert(1)</script>"
PROBABILITIES = np.array([0.7, 0.2, 0.1])


class Ordered:
    """Says the first class for dark images and the last for light ones, one caller at a time."""

    name = "<b>ordered & safe</b>"
    class_names = ("dark", "grey", HOSTILE)
    shape = (4, 4, 1)
    batch_size = 1
    reader = Reader(shape)

    def __init__(self):
        self.lock = threading.Lock()
        self.error = None

    def probabilities(self, images):
        assert self.lock.acquire(blocking=False), "two requests at once"
        time.sleep(0.01)
        self.lock.release()
        if self.error:
            raise self.error
        if images.mean() > 127:
            return PROBABILITIES[None, ::-1]
        return PROBABILITIES[None]


@pytest.fixture
def classifier():
    return Ordered()


@pytest.fixture
def client(classifier, serve):
    return serve(app.create(model.DemoModel(classifier), hosts=server.LOOPBACK_HOSTS))


def picture(brightness: int, side: int = 4) -> bytes:
    return png(np.full((side, side), brightness, np.uint8))


def test_the_page_escapes_names_and_loads_its_own_files_alone(client):
    status, headers, html = client.get()
    assert status == 200
    html = html.decode()
    assert "&lt;b&gt;ordered &amp; safe&lt;/b&gt;" in html
    assert HOSTILE not in html
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    texts = [html]
    for name in re.findall(r'(?:src|href)="([\w.]+)"', html):
        status, headers, content = client.get(f"/{name}")
        assert status == 200, name
        assert headers["X-Content-Type-Options"] == "nosniff"
        texts.append(content.decode())
    assert len(texts) == 4
    for text in texts:
        assert not re.search(r"https?://|//cdn|@import|innerHTML", text)


def test_an_image_is_classified(client):
    status, answer = client.classify(picture(10, side=8))
    assert status == 200
    names = [row["name"] for row in answer["classes"]]
    assert names == ["dark", "grey", HOSTILE]
    assert [row["text"] for row in answer["classes"]] == ["70.0 %", "20.0 %", "10.0 %"]
    start, _, content = answer["seen"].partition(",")
    assert start == "data:image/png;base64"
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert seen.tolist() == [[10] * 4] * 4
    assert answer["map"] == answer["flag"] == ""
    assert answer["inverted"] is False


def test_an_unknown_image_is_flagged():
    assert model._flag(Prediction("", is_unknown=False)) == ""
    assert "none of the classes" in model._flag(Prediction("", is_unknown=True))


def test_confidences_are_those_of_the_temperature(classifier, serve):
    warmer = model.DemoModel(classifier, temperature=2.0)
    _, answer = serve(app.create(warmer)).classify(picture(10))
    shares = [row["share"] for row in answer["classes"]]
    np.testing.assert_allclose(shares, apply_temperature(PROBABILITIES, 2.0))


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", picture(9)[:40], b"<svg onload=alert(1)>", b"%!PS-Adobe", b"\xff" * 9999],
)
def test_what_is_no_image_is_refused_and_the_next_one_is_taken(content, client):
    status, answer = client.classify(content)
    assert status == 422
    assert answer["error"].startswith("The file cannot be read as an image (")
    assert "BytesIO" not in answer["error"]
    assert client.classify(picture(200))[0] == 200


def test_files_of_too_many_bytes_or_pixels_are_refused(client, monkeypatch):
    monkeypatch.setattr(model, "MAX_PIXELS", 99)
    status, answer = client.classify(picture(10, side=10))
    assert status == 422
    assert "scale it down" in answer["error"]
    assert client.classify(picture(10, side=9))[0] == 200
    monkeypatch.setattr(app, "MAX_BYTES", 999)
    status, answer = client.classify(bytes(1000))
    assert status == 413
    assert "scale the image down" in answer["error"]


def test_a_slow_upload_is_given_up(client, monkeypatch):
    monkeypatch.setattr(app, "UPLOAD_SECONDS", 0.05)
    headers = {"Content_Type": TYPE, "Content_Length": "1000"}
    status, _, answer = client.request("POST", "/classify", b"too short", **headers)
    assert status == 408
    assert b"did not arrive" in answer


def test_an_error_of_the_model_is_one_answer(classifier, client, caplog):
    classifier.error = RunError("its weights give figures that are not finite")
    status, answer = client.classify(picture(10))
    assert status == 422
    assert answer["error"] == str(classifier.error)
    classifier.error = RuntimeError("out of memory")
    status, answer = client.classify(picture(10))
    assert status == 500
    assert "out of memory" not in answer["error"]
    classifier.error = None
    assert client.classify(picture(10))[0] == 200


def test_ten_requests_at_once_take_turns(client):
    images = [picture(25 * number) for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(client.classify, images))
    assert [status for status, _ in answers] == [200] * 10
    first = [answer["classes"][0]["name"] for _, answer in answers]
    assert first == ["dark"] * 6 + [HOSTILE] * 4


def test_pages_of_other_sites_get_nothing(client):
    body = picture(10)
    for content_type in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded"):
        assert client.request("POST", "/classify", body, Content_Type=content_type)[0] == 415
    status, headers, _ = client.request("OPTIONS", "/classify", Origin="http://evil.example")
    assert status == 405
    assert not any(name.lower().startswith("access-control") for name in headers)
    assert client.get(Host="evil.example")[0] == 404
    assert client.get(Host="localhost:1234")[0] == 200
    assert client.get(Host="[::1]:1234")[0] == 200
    for path in ("/%2e%2e/secret", "/demo.py", "//evil.example/", "/classify", "/x/classify"):
        assert client.get(path)[0] in (404, 405), path


def test_a_token_is_the_start_of_every_path(classifier, serve):
    client = serve(app.create(model.DemoModel(classifier), token="s3cret"))
    for path in ("/", "/demo.js", "/classify", "/s3cre/", "/s3crett/", "/x/s3cret/", "/%F0/"):
        status, headers, _ = client.get(path)
        assert status == 404, path
        assert "Content-Security-Policy" in headers
    assert client.get("/s3cret/")[0] == 200
    assert client.get("/s3cret/demo.js")[0] == 200
    status, headers, _ = client.get("/s3cret", Host="name:8000")
    assert status == 307
    assert headers["Location"].endswith("/s3cret/")
    status, _, _ = client.request("POST", "/s3cret/classify", picture(10), Content_Type=TYPE)
    assert status == 200


def test_addresses():
    with server.listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert server.is_loopback(listener)
        assert server.urls(listener, "") == [f"http://127.0.0.1:{port}/"]
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 .* another --port"):
            server.listen("127.0.0.1", port)
    everywhere = str(ipaddress.IPv4Address(0))
    listener = SimpleNamespace(getsockname=lambda: (everywhere, 8000))  # Nothing listens there.
    assert not server.is_loopback(listener)
    here, elsewhere = server.urls(listener, "token")
    assert here == "http://127.0.0.1:8000/token/"
    assert elsewhere.endswith(":8000/token/")
    with pytest.raises(ConfigError, match="Nothing can listen on port 0 of no.such.host.invalid"):
        server.listen("no.such.host.invalid", 0)
    with pytest.raises(ConfigError, match="--port is 99999. Give one up to 65535"):
        server.listen("127.0.0.1", 99_999)


def test_the_page_may_be_asked_for_by_the_name_that_was_given():
    with server.listen("127.0.0.2", 0) as listener:
        hosts = server.names(listener, "My-Laptop")
    assert hosts == server.LOOPBACK_HOSTS | {"127.0.0.2", "my-laptop"}
    everywhere = SimpleNamespace(getsockname=lambda: (ALL_OF_IPV6, 8000, 0, 0))
    assert not server.names(everywhere, ALL_OF_IPV6)


def test_all_addresses_of_ipv6_are_those_of_ipv4_too(monkeypatch):
    sockets = []  # that would be made: a test listens to this machine alone
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
    monkeypatch.setattr(socket, "create_server", lambda *address, **how: sockets.append(how))
    server.listen(ALL_OF_IPV6, 0)
    server.listen("127.0.0.1", 0)
    assert [how["dualstack_ipv6"] for how in sockets] == [True, False]


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_missing_package_is_named(package, monkeypatch):
    for name in list(sys.modules):
        if name.startswith(("imgcls_jax.demo", f"{package}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(imgcls_jax, "demo", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf'{package}.*pip install -e "\.\[demo\]"'):
        command.demo("runs/nothing")
