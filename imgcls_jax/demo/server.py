"""Serves the page of a model until Ctrl-C."""

import contextlib
import ipaddress
import secrets
import socket
import webbrowser
from collections.abc import Sequence

import uvicorn
from starlette.types import ASGIApp

from imgcls_jax import console
from imgcls_jax.demo import app, model
from imgcls_jax.distributed import MAX_PORT
from imgcls_jax.errors import ConfigError

LOOPBACK = "127.0.0.1"
LOOPBACK_HOSTS = frozenset({LOOPBACK, "localhost", "::1"})
TOKEN_BYTES = 16
MAX_CONNECTIONS = 128
STOP_SECONDS = 2  # that requests get to end after Ctrl-C
ELSEWHERE = ("192.0.2.1", 9)  # an address that is nobody's (RFC 5737); nothing is sent there


def serve(path: str, *, host: str = LOOPBACK, port: int = 0, opens_browser: bool = False) -> None:
    """Loads a model, prints the address of its page, and serves it until Ctrl-C.

    path: as of `classifiers.load`. host: name or address to listen on; beyond this machine the
    page's address has a token. port: 0 for a free one.

    Raises ConfigError if nobody can listen there, and what `classifiers.load` raises.
    """
    with listen(host, port) as listener:
        demo_model = model.load(path)
        token = ""
        if not is_loopback(listener):
            token = secrets.token_urlsafe(TOKEN_BYTES)
        server = build(app.create(demo_model, hosts=names(listener, host), token=token))
        addresses = urls(listener, token)
        with contextlib.suppress(KeyboardInterrupt):
            console.say(f"Try {demo_model.classifier.name} at", *addresses, "Ctrl-C stops it.")
            if opens_browser:
                webbrowser.open(addresses[0])
            server.run(sockets=[listener])


def build(application: ASGIApp) -> uvicorn.Server:
    """Returns a server of the application, which logs errors alone."""
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,  # It would show the token.
        lifespan="off",
        ws="none",
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens on a host and port. Raises ConfigError if it cannot."""
    if not 0 <= port <= MAX_PORT:
        raise ConfigError(f"--port is {port}. Give one up to {MAX_PORT}, or 0 for a free one.")
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        is_dual = address[0] == "::" and socket.has_dualstack_ipv6()  # also by IPv4 addresses
        return socket.create_server((address[0], port), family=family, dualstack_ipv6=is_dual)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"Nothing can listen on port {port} of {host} ({error}). Give another --port, or none "
            "for a free one, and a --host of this machine."
        ) from error


def is_loopback(listener: socket.socket) -> bool:
    """Returns whether only this machine can reach a socket."""
    address, *_ = listener.getsockname()
    return ipaddress.ip_address(address).is_loopback


def names(listener: socket.socket, host: str) -> frozenset[str]:
    """Returns the names by which the page may be asked for on this machine; none for any.

    host: that the socket was asked to listen on.
    """
    if not is_loopback(listener):
        return frozenset()
    address, *_ = listener.getsockname()
    return LOOPBACK_HOSTS | {address, host.lower()}


def urls(listener: socket.socket, token: str) -> Sequence[str]:
    """Returns the addresses of the page, that of this machine first."""
    address, port, *_ = listener.getsockname()
    hosts = [address]
    if ipaddress.ip_address(address).is_unspecified:
        hosts = [LOOPBACK, _network_address()]
    path = f"{token}/" if token else ""
    return [f"http://{_bracketed(name)}:{port}/{path}" for name in hosts]


def _network_address() -> str:
    """Returns the address by which others on the network know this machine, or its name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
        except OSError:  # there is no network
            return socket.gethostname()
        return probe.getsockname()[0]


def _bracketed(address: str) -> str:
    if ":" in address:
        return f"[{address}]"
    return address
