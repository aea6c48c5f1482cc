"""Downloads a file of weights once: resumed where it was cut, verified by its hash before it gets its name."""

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

from tqdm import tqdm

from imgcls_jax.errors import DataError, printable
from imgcls_jax.foreign import open_to_append
from imgcls_jax.pretrained.catalog import Weights
from imgcls_jax.pretrained.formats import describe

log = logging.getLogger(__name__)

CACHE = "~/.cache/imgcls_jax/weights"
PATIENCE = 8.0  # seconds without an answer, or without a byte, after which a connection is given up
SLOWEST = 1000  # bytes a second, on the mean of so long a time, below which it is given up as well
RESUMES = 20  # most times that one download goes on after a cut
CHUNK = 1 << 18


class _Failed(Exception):
    """Why a download did not come to its end."""


class _Cut(_Failed):
    """A download that stopped after some bytes, and may go on from there."""


def cached_path(weights: Weights, cache: str | os.PathLike | None = None) -> Path:
    """Where the file lies, or would lie, in the cache folder."""
    return Path(os.path.expanduser(cache or CACHE)) / weights.file_name


def fetch(weights: Weights, cache: str | os.PathLike | None = None) -> Path:
    """The verified file, from the cache folder or else downloaded into it.

    What was downloaded in part goes on from there; a file with another hash is refused, and downloaded once more.
    Raises DataError that says what to fetch by hand, its hash, and where to put it; without a network in less than
    ten seconds.
    """
    target = cached_path(weights, cache)
    if _verified(target, weights):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if not _verified(target, weights):  # it may be there by now, from another process
                _download_verified(weights, target)
    except (_Failed, OSError) as error:
        raise DataError(
            f"{weights.file_name} is not in the cache, and its download failed: {error}.\n"
            f"  fetch by hand:  {weights.url}\n"
            f"  verify:         {weights.hash}\n"
            f"  put it there:   {target}\n"
            "or give the path of the file in place of its name."
        ) from error
    return target


def verify(path: Path, weights: Weights) -> str:
    """The empty string for the right file, otherwise what is wrong with it."""
    digest = hashlib.new("sha256" if weights.sha256 else "md5", usedforsecurity=False)
    with open(path, "rb") as file:
        head = file.read(512)
        file.seek(0)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest().startswith(weights.sha256 or weights.md5):
        return ""
    found = (
        f"the {digest.name.upper()} of what is there is {digest.hexdigest()}, but {weights.hash}"
    )
    return f"{found} ({describe(head)})"


def _verified(target: Path, weights: Weights) -> bool:
    if not target.is_file():
        return False
    wrong = verify(target, weights)
    if wrong:
        log.warning("%s is damaged, it will be downloaded again: %s.", target, wrong)
    return not wrong


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Only one process at a time downloads a file; the others wait."""
    import fcntl  # which Windows does not have

    with open_to_append(target.with_name(f".{target.name}.lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download_verified(weights: Weights, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    for last in (False, True):
        _download(weights, partial)
        wrong = verify(partial, weights)
        if not wrong:
            os.replace(partial, target)
            return
        partial.unlink()
        if last:
            raise _Failed(f"{wrong}; it was downloaded twice and deleted")
        log.warning(
            "What was downloaded from %s is not the file, and is downloaded once more: %s.",
            weights.url,
            wrong,
        )


def _download(weights: Weights, partial: Path) -> None:
    """Fills `partial`, from where it ends, in as many connections as it takes."""
    for _ in range(RESUMES):
        before = partial.stat().st_size if partial.exists() else 0
        try:
            return _receive(weights, partial, before)
        except _Cut as cut:
            if partial.stat().st_size <= before:
                raise
            log.warning(
                "The download was cut (%s); going on from byte %d.", cut, partial.stat().st_size
            )
    raise _Failed(f"it was cut {RESUMES} times; the same command goes on from there")


def _receive(weights: Weights, partial: Path, start: int) -> None:
    """One connection: appends to `partial` what comes from byte `start` on, or all of it from the beginning."""
    response = _open(weights.url, start)
    if (
        response is None
    ):  # nothing comes after `start`: the file is whole, or another one; its hash will tell
        return
    with response, open_to_append(partial) as file:
        if response.status != http.client.PARTIAL_CONTENT:  # the server does not resume
            file.truncate(0)
            start = 0
        length = _length(response)
        total = None if length is None else start + length
        if total is not None and total > weights.most_bytes:
            raise _Failed(
                f"the server announces {total:,} bytes, and the file has fewer than {weights.most_bytes:,}"
            )
        size = f" ({total / 1e6:.1f} MB)" if total else ""
        log.info("Downloading %s%s to %s.", weights.url, size, partial.parent)
        options = {
            "unit": "B",
            "unit_scale": True,
            "desc": partial.name.strip("."),
            "disable": None,
            "leave": False,
        }
        with tqdm(total=total, initial=start, **options) as bar:
            try:
                for chunk in _chunks(response):
                    start += len(chunk)
                    if start > weights.most_bytes:
                        file.truncate(0)
                        raise _Failed(
                            f"more comes than the {weights.most_bytes:,} bytes that the file can have"
                        )
                    file.write(chunk)
                    bar.update(len(chunk))
            except (OSError, http.client.HTTPException) as error:
                file.flush()
                raise _Cut(_reason(error)) from error
        file.flush()
        os.fsync(file.fileno())
        received = file.tell()
    if total is not None and received < total:
        raise _Cut(f"{received} of {total} bytes came")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """What comes, as it comes. Raises _Failed where that is next to nothing for PATIENCE seconds."""
    since, received = time.monotonic(), 0
    while chunk := response.read1(CHUNK):
        yield chunk
        received += len(chunk)
        if time.monotonic() - since < PATIENCE:
            continue
        if received < SLOWEST * PATIENCE:
            raise _Failed(
                f"only {received:,} bytes came in {PATIENCE:g} s; the same command goes on from there"
            )
        since, received = time.monotonic(), 0


def _length(response: http.client.HTTPResponse) -> int | None:
    """Bytes that the server announces; None where it does not."""
    length = response.headers.get("Content-Length")
    if length is None or re.fullmatch(r"[0-9]{1,18}", length):
        return None if length is None else int(length)
    raise _Failed(f"the server announces a length of {printable(length)[:40]!r}")


def _opener() -> urllib.request.OpenerDirector:
    """For http and https alone: no redirection leads to a file or another kind of server."""
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


def _open(url: str, start: int) -> http.client.HTTPResponse | None:
    """The server's answer within PATIENCE seconds; None where it has nothing from byte `start` on.

    A thread, as looking up a host's name and trying all its addresses one by one know no time limit.
    """
    answers: queue.Queue = queue.Queue()

    def ask() -> None:
        headers = {"User-Agent": "imgcls_jax"} | ({"Range": f"bytes={start}-"} if start else {})
        try:
            answers.put(
                _opener().open(urllib.request.Request(url, headers=headers), timeout=PATIENCE)
            )
        except Exception as error:  # every one is for the caller's thread
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
        raise _Failed(f"the server answers {answer.code} {_line(answer.reason)}") from answer
    if isinstance(answer, Exception):
        raise _Failed(_reason(answer)) from answer
    begin = re.match(r"bytes ([0-9]{1,18})-", answer.headers.get("Content-Range", ""))
    if answer.status == http.client.PARTIAL_CONTENT and (begin is None or int(begin[1]) != start):
        answer.close()
        raise _Failed("the server sends another part of the file than was asked for")
    return answer


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, TimeoutError):
        return f"no byte in {PATIENCE:g} s"
    return _line(reason) or type(reason).__name__


def _line(reason: object) -> str:
    """What a server or a library says, in one short line that a terminal may show."""
    return printable(" ".join(str(reason).split()))[:200]
