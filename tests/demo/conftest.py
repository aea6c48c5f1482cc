"""A server of the demo's application on this machine."""

import contextlib
import http.client
import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

TYPE = "application/octet-stream"


class Client:
    """Sends requests to an application that is served on `port`."""

    def __init__(self, port: int):
        self.port = port

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str):
        """The status, the headers and the content of the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def get(self, path: str = "/", **headers: str):
        return self.request("GET", path, **headers)

    def classify(self, content: bytes) -> tuple[int, dict]:
        status, _, answer = self.request("POST", "/classify", content, Content_Type=TYPE)
        return status, json.loads(answer)


@pytest.fixture
def serve():
    """serve(application): a client of it."""
    server = pytest.importorskip("imgcls_jax.demo.server")
    with contextlib.ExitStack() as stack:

        def start(application) -> Client:
            listener = stack.enter_context(server.listen("127.0.0.1", 0))
            running = server.build(application)
            thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, running, "should_exit", True)
            while not running.started:
                time.sleep(0.01)
            return Client(listener.getsockname()[1])

        yield start


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()
