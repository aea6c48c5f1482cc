"""The web application of the page, for any ASGI server.

GET / is the page, and POST /classify takes the bytes of an image file and returns JSON. Nothing
else is served, and nothing that is sent is kept.
"""

import asyncio
import functools
import hmac
import logging
from collections.abc import Collection

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imgcls_jax.demo import page
from imgcls_jax.demo.model import DemoModel
from imgcls_jax.errors import UserError

MAX_BYTES = 32 * 2**20  # of a file
UPLOAD_SECONDS = 60  # in which a file has to arrive
MAX_UPLOADS = 4  # files in memory at a time; others wait
# A page of another site cannot send this type without asking, and it is never allowed to.
CONTENT_TYPE = "application/octet-stream"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

log = logging.getLogger(__name__)


class UploadError(UserError):
    """A request without a file that can be taken. status: of the response."""

    def __init__(self, message: str, *, status: int):
        super().__init__(message)
        self.status = status


def create(model: DemoModel, *, hosts: Collection[str] = (), token: str = "") -> ASGIApp:
    """Returns the application.

    hosts: names by which the page may be asked for, without a port; empty for all. token: the
    first part of every path, "" for none.
    """
    html = page.render(model, max_bytes=MAX_BYTES)
    uploads = asyncio.Semaphore(MAX_UPLOADS)

    async def show(request: Request) -> Response:
        return HTMLResponse(html)

    async def classify(request: Request) -> Response:
        async with uploads:
            return await _classify(model, request)

    routes = [
        Route("/", show),
        Route("/classify", classify, methods=["POST"]),
    ]
    for name, content_type in page.FILES.items():
        content = page.read(name)
        show_file = functools.partial(_show_file, content=content, content_type=content_type)
        routes.append(Route(f"/{name}", show_file))
    return Guard(Starlette(routes=routes), hosts=hosts, token=token)


async def _show_file(request: Request, *, content: str, content_type: str) -> Response:
    return Response(content, media_type=content_type)


async def _classify(model: DemoModel, request: Request) -> Response:
    try:
        content = await _read_file(request)
        answer = await run_in_threadpool(model.classify, content)
    except UploadError as error:
        return JSONResponse({"error": str(error)}, status_code=error.status)
    except UserError as error:
        return JSONResponse({"error": str(error)}, status_code=422)
    except ClientDisconnect:
        return Response(status_code=400)
    except Exception:
        log.exception("An image could not be classified.")
        message = "The model failed on this image; the terminal says why."
        return JSONResponse({"error": message}, status_code=500)
    return JSONResponse(answer)


async def _read_file(request: Request) -> bytes:
    """Returns the file that a request holds.

    Raises UploadError for one that is too large, too slow or of another content type.
    """
    if request.headers.get("content-type") != CONTENT_TYPE:
        raise UploadError(f"Send the bytes of an image file as {CONTENT_TYPE}.", status=415)
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            return await _read_body(request)
    except TimeoutError:
        message = f"The file did not arrive within {UPLOAD_SECONDS} seconds: try again."
        raise UploadError(message, status=408) from None


async def _read_body(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BYTES:
            message = f"The file has more than {MAX_BYTES // 2**20} MiB: scale the image down."
            raise UploadError(message, status=413)
    return bytes(content)


class Guard:
    """Refuses requests for other hosts or without the token, and gives responses their HEADERS.

    A page of another site could make its own name that of this machine, to read what is here: such
    a request names another host. hosts, token: as of `create`.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], token: str):
        self.app = app
        self.hosts = hosts
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = self.app
        if not self._is_allowed(Request(scope)):
            app = PlainTextResponse("Not found: see the address in the terminal.", status_code=404)
        if self.token:
            scope = scope | {"root_path": f"/{self.token}"}
        await app(scope, receive, send_with_headers)

    def _is_allowed(self, request: Request) -> bool:
        if self.hosts and request.url.hostname not in self.hosts:
            return False
        if not self.token:
            return True
        _, first, *_ = request.url.path.split("/")
        return hmac.compare_digest(first.encode(), self.token.encode())
