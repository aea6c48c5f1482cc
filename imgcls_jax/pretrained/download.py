"""Downloads a file of weights once.

A download is resumed after a cut, and verified by its hash before it gets its name.
"""

import contextlib
import hashlib
import http.client
import logging
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from imgcls_jax import files
from imgcls_jax.errors import DataError, printable
from imgcls_jax.foreign import open_to_append
from imgcls_jax.pretrained.catalog import Weights
from imgcls_jax.pretrained.formats import describe

log = logging.getLogger(__name__)

CACHE = "~/.cache/imgcls_jax/weights"
PATIENCE = 8.0  # seconds without an answer, or without a byte, after which a connection is given up
MIN_BYTES_PER_SECOND = 1000  # over PATIENCE seconds; a slower connection is given up too
RESUMES = 20  # most times that one download is resumed after a cut
CHUNK = 1 << 18  # bytes


class _Failed(Exception):
    """Why a download did not finish."""


class _Cut(_Failed):
    """A download that stopped after some bytes, and may be resumed there."""


# ---------------------------------------------------------------------------------------------
# The cache


def cached_path(weights: Weights, cache: str | os.PathLike | None = None) -> Path:
    """Returns the path of the file in the cache folder, whether it is there or not."""
    return Path(os.path.expanduser(cache or CACHE)) / weights.file_name


def fetch(weights: Weights, cache: str | os.PathLike | None = None) -> Path:
    """Returns the verified file, from the cache folder or downloaded into it.

    A partial download is resumed; a file with another hash is refused, and downloaded once more.
    Raises DataError that says what to fetch by hand, its hash, and where to put it; without a
    network in less than ten seconds.
    """
    target = cached_path(weights, cache)
    if _is_verified(target, weights):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            # Another process may have downloaded it while this one waited.
            if not _is_verified(target, weights):
                _download_verified(weights, target)
    except (_Failed, OSError) as error:
        raise DataError(
            f"{weights.file_name} is not in the cache, and its download failed: {error}.\n"
            f"  fetch by hand:  {weights.url}\n"
            f"  verify:         {weights.hash}\n"
            f"  put it there:   {target}\n"
            "or give the path of the file instead of its name."
        ) from error
    return target


def verify(path: Path, weights: Weights) -> str:
    """Returns what is wrong with a file; the empty string if it is the right one."""
    algorithm, expected = "md5", weights.md5
    if weights.sha256:
        algorithm, expected = "sha256", weights.sha256
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        head = file.read(512)
        file.seek(0)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest().startswith(expected):
        return ""
    return (
        f"the {digest.name.upper()} of the file is {digest.hexdigest()}, "
        f"but {weights.hash} ({describe(head)})"
    )


def _is_verified(target: Path, weights: Weights) -> bool:
    if not target.is_file():
        return False
    problem = verify(target, weights)
    if problem:
        log.warning("%s is damaged, it will be downloaded again: %s.", target, problem)
    return not problem


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Lets only one process at a time download a file; the others wait."""
    with open_to_append(target.with_name(f".{target.name}.lock")) as file:
        files.lock(file, wait=True)
        yield


# ---------------------------------------------------------------------------------------------
# A download, in as many connections as it takes


def _download_verified(weights: Weights, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    for attempt in (1, 2):
        _download(weights, partial)
        problem = verify(partial, weights)
        if not problem:
            os.replace(partial, target)
            return
        partial.unlink()
        if attempt == 2:
            raise _Failed(f"{problem}; it was downloaded twice and deleted")
        log.warning(
            "What was downloaded from %s is another file, and is downloaded once more: %s.",
            weights.url,
            problem,
        )


def _download(weights: Weights, partial: Path) -> None:
    """Completes the file `partial`, which may have a part already."""
    for _ in range(RESUMES):
        start = 0
        if partial.exists():
            start = partial.stat().st_size
        try:
            _receive(weights, partial, start)
            return
        except _Cut as cut:
            size = partial.stat().st_size
            if size <= start:
                raise
            log.warning("The download was cut (%s); going on from byte %d.", cut, size)
    raise _Failed(f"it was cut {RESUMES} times; the same command goes on from there")


def _receive(weights: Weights, partial: Path, start: int) -> None:
    """Appends to `partial` what one connection sends: the file from byte `start`, or all of it."""
    response = _open(weights.url, start)
    if response is None:  # nothing after `start`: the file is complete, or another; its hash tells
        return
    with response, open_to_append(partial) as file:
        if response.status != http.client.PARTIAL_CONTENT:  # the server does not resume
            file.truncate(0)
            start = 0
        total = _total_bytes(response, start)
        if total is not None and total > weights.most_bytes:
            raise _Failed(
                f"the server announces {total:,} bytes, and the file has fewer than "
                f"{weights.most_bytes:,}"
            )
        size = f" ({total / 1e6:.1f} MB)" if total else ""
        log.info("Downloading %s%s to %s.", weights.url, size, partial.parent)
        bar = tqdm(
            desc=partial.name.strip("."),
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            disable=None,  # shown on terminals only
            leave=False,
        )
        with bar:
            _write_body(response, file, bar, start=start, most_bytes=weights.most_bytes)
        received = file.tell()
    if total is not None and received < total:
        raise _Cut(f"{received} of {total} bytes came")


def _write_body(
    response: http.client.HTTPResponse, file: BinaryIO, bar: tqdm, *, start: int, most_bytes: int
) -> None:
    """Writes the file from byte `start` on.

    Raises _Cut if the connection ends before, and _Failed beyond `most_bytes`.
    """
    received = start
    try:
        for chunk in _chunks(response):
            received += len(chunk)
            if received > most_bytes:
                file.truncate(0)
                raise _Failed(f"more comes than the {most_bytes:,} bytes that the file can have")
            file.write(chunk)
            bar.update(len(chunk))
    except (OSError, http.client.HTTPException) as error:
        file.flush()
        raise _Cut(_reason(error)) from error
    file.flush()
    os.fsync(file.fileno())


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yields the body as it arrives. Raises _Failed if it is too slow for PATIENCE seconds."""
    start_time = time.monotonic()
    received = 0
    while chunk := response.read1(CHUNK):
        yield chunk
        received += len(chunk)
        if time.monotonic() - start_time < PATIENCE:
            continue
        if received < MIN_BYTES_PER_SECOND * PATIENCE:
            raise _Failed(
                f"only {received:,} bytes came in {PATIENCE:g} s; "
                "the same command goes on from there"
            )
        start_time = time.monotonic()
        received = 0


# ---------------------------------------------------------------------------------------------
# A connection


def _open(url: str, start: int) -> http.client.HTTPResponse | None:
    """The server's answer within PATIENCE seconds; None if it has nothing from byte `start` on.

    It is waited for in a thread, since looking up a host's name, and trying all its addresses one
    by one, has no time limit.
    """
    headers = {"User-Agent": "imgcls_jax"}
    if start:
        headers["Range"] = f"bytes={start}-"
    answers: queue.Queue = queue.Queue()

    def ask() -> None:
        request = urllib.request.Request(url, headers=headers)
        try:
            answers.put(_opener().open(request, timeout=PATIENCE))
        except Exception as error:  # the caller's thread handles it
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=PATIENCE)
    except queue.Empty:
        raise _Failed(f"no answer in {PATIENCE:g} s") from None

    if isinstance(answer, urllib.error.HTTPError):
        answer.close()
        if answer.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        raise _Failed(f"the server answers {answer.code} {_one_line(answer.reason)}") from answer
    if isinstance(answer, Exception):
        raise _Failed(_reason(answer)) from answer
    if answer.chunked:
        answer.close()
        raise _Failed("the server sends chunks (Transfer-Encoding: chunked), which may never end")
    is_part = answer.status == http.client.PARTIAL_CONTENT
    if is_part and _first_byte(answer) != start:
        answer.close()
        raise _Failed("the server sends another part of the file than was asked for")
    return answer


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https only: no redirection leads to a file or to another service."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    """The position of the first byte that a partial answer announces; None if it announces none."""
    content_range = response.headers.get("Content-Range", "")
    match = re.match(r"bytes ([0-9]{1,18})-", content_range)
    if match is None:
        return None
    return int(match[1])


def _total_bytes(response: http.client.HTTPResponse, start: int) -> int | None:
    """The bytes of the whole file if the server announces how many follow `start`, or None."""
    length = response.headers.get("Content-Length")
    if length is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", length):
        raise _Failed(f"the server announces a length of {printable(length)[:40]!r}")
    return start + int(length)


def _reason(error: Exception) -> str:
    """Why a connection failed, in one line."""
    reason = getattr(error, "reason", None) or error  # urllib's errors have the cause there
    if isinstance(reason, TimeoutError):
        return f"no byte in {PATIENCE:g} s"
    return _one_line(reason) or type(reason).__name__


def _one_line(text: object) -> str:
    """What a server or a library says, in one short line that a terminal may show."""
    return printable(" ".join(str(text).split()))[:200]
