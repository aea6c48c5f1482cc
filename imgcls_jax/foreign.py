"""How files and folders that may come from somebody else are opened: no link is followed, no pipe is waited for."""

import contextlib
import errno
import functools
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from imgcls_jax.errors import RunError

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's names of the formats that are read. Some of its others start programs (EPS: Ghostscript) or are rarely tried.
IMAGE_FORMATS = (
    *("PNG", "JPEG", "MPO", "GIF", "BMP", "WEBP", "AVIF", "TIFF", "PPM", "JPEG2000"),
    "TGA",  # last, since it has no signature
)


def check_regular(path: str | os.PathLike) -> None:
    """Raises OSError where the path leads to a folder, a pipe or a device: a pipe could keep its reader waiting."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError("it is no regular file, but a pipe, a socket or a device")


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """The file, opened to be read. Raises OSError where it cannot be, or is no regular file."""
    check_regular(path)  # first, since opening a device may do something
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("it is no regular file")
    return file


@contextlib.contextmanager
def open_image(
    source: str | os.PathLike | BinaryIO, formats: Sequence[str] = IMAGE_FORMATS
) -> Iterator["Image"]:
    """Pillow's image of a file of one of the formats, to be used within.

    Raises OSError for a file of another format, or what is no regular file; what is damaged makes Pillow raise nearly
    anything, also when it is used.
    """
    from PIL import Image, UnidentifiedImageError

    known = [name for name in formats if name in _formats()]
    with contextlib.ExitStack() as stack:
        file = source if hasattr(source, "read") else stack.enter_context(open_regular(source))
        try:
            image = stack.enter_context(Image.open(file, formats=known))
        except UnidentifiedImageError as error:
            raise OSError(f"it is of none of the formats {', '.join(known)}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            most = 2 * Image.MAX_IMAGE_PIXELS / 1e6
            raise OSError(
                f"it has more than the {most:,.0f} million pixels that are read: scale it down"
            ) from error
        yield image


def is_image(path: str | os.PathLike) -> bool:
    """Whether a file is taken for an image: by its suffix, or by its content where the suffix is not an image's.

    This is the one rule, of training and of prediction.
    """
    if Path(path).suffix.lower() in image_suffixes():
        return True
    try:
        with open_image(path, IMAGE_FORMATS[:-1]):  # anything could be a TGA
            return True
    except Exception:  # what is no image can make Pillow raise nearly anything
        return False


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Those of the formats that are read, such as ".jpg"."""
    from PIL import Image

    return frozenset(
        suffix for suffix, name in Image.registered_extensions().items() if name in IMAGE_FORMATS
    )


@functools.cache
def _formats() -> frozenset[str]:
    """Those that this Pillow reads."""
    from PIL import Image

    Image.init()
    warnings.simplefilter(
        "ignore", Image.DecompressionBombWarning
    )  # half of what is refused is not large
    return frozenset(Image.OPEN)


def open_to_append(path: Path) -> BinaryIO:
    """A file that is added to, or a lock, made where it is not there. Raises OSError for a link: it is not followed."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "ab")


def check_plain(folder: Path) -> None:
    """Raises RunError where there is anything in the folder but files, folders and links that stay in it.

    What comes from somebody else could lead a command to other files by links, or keep it waiting by a pipe.
    """
    root = os.path.realpath(folder)
    for path, folders, names in os.walk(folder):
        for entry in (Path(path, name) for name in (*folders, *names)):
            with contextlib.suppress(FileNotFoundError):  # removed by a run that is going on
                _check_entry(entry, root)


def _check_entry(entry: Path, root: str) -> None:
    mode = os.lstat(entry).st_mode
    if stat.S_ISLNK(mode):
        target = os.path.realpath(entry)
        if os.path.commonpath([root, target]) != root:
            raise RunError(
                f"{entry} is a link that leaves its folder, to {target}: it is not followed. Put a copy in its place, "
                "or remove it."
            )
    elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise RunError(f"{entry} is a pipe, a socket or a device, which no run has: remove it.")
