"""Opens files and folders that may come from somebody else.

No link out of a folder is followed, no pipe is waited for, and no image starts a program.
"""

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
    from numpy.lib.npyio import NpzFile
    from PIL.Image import Image

# Flags of os.open: a link is not followed, a pipe is not waited for. Windows has neither of them.
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
NO_WAITING = getattr(os, "O_NONBLOCK", 0)
# The formats that are read, by Pillow's names. Some others start programs (EPS: Ghostscript) or
# are rarely tested.
IMAGE_FORMATS = (
    "PNG",
    "JPEG",
    "MPO",
    "GIF",
    "BMP",
    "WEBP",
    "AVIF",
    "TIFF",
    "PPM",
    "JPEG2000",
    "TGA",  # last, since it has no signature
)
FORMATS_WITH_SIGNATURE = IMAGE_FORMATS[:-1]


def check_regular(path: str | os.PathLike) -> None:
    """Raises OSError if the path leads to a folder, a pipe or a device.

    Reading a pipe could wait forever.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError("it is no regular file, but a pipe, a socket or a device")


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a file to read. Raises OSError if it cannot be read or is no regular file."""
    check_regular(path)  # before opening, since that alone can have an effect on a device
    file = os.fdopen(os.open(path, os.O_RDONLY | NO_WAITING), "rb")
    # The path may lead to something else by now.
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("it is no regular file")
    return file


@contextlib.contextmanager
def open_npz(path: str | os.PathLike) -> Iterator["NpzFile"]:
    """Opens an .npz file, whose arrays are read when they are asked for; it may hold no pickles.

    Raises OSError like `open_regular`. A damaged file can raise nearly anything, also later.
    """
    import numpy as np

    with open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
        yield arrays


@contextlib.contextmanager
def open_image(
    source: str | os.PathLike | BinaryIO, formats: Sequence[str] = IMAGE_FORMATS
) -> Iterator["Image"]:
    """Opens an image file, or an open file with its content, as an image of Pillow.

    Raises OSError for a file of another format or what is no regular file. A damaged image can
    make Pillow raise nearly any exception, also later when its pixels are read.
    """
    from PIL import Image, UnidentifiedImageError

    accepted = [name for name in formats if name in _supported_formats()]
    with contextlib.ExitStack() as stack:
        if isinstance(source, str | os.PathLike):
            source = stack.enter_context(open_regular(source))
        try:
            image = stack.enter_context(Image.open(source, formats=accepted))
        except UnidentifiedImageError as error:
            raise OSError(f"it is of none of the formats {', '.join(accepted)}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            most = 2 * Image.MAX_IMAGE_PIXELS / 1e6
            raise OSError(
                f"it has more than the {most:,.0f} million pixels that are read: scale it down"
            ) from error
        yield image


def is_image(path: str | os.PathLike) -> bool:
    """Returns whether a file counts as an image, by its suffix or else by its content.

    Training and prediction both follow this rule.
    """
    if Path(path).suffix.lower() in image_suffixes():
        return True
    try:
        with open_image(path, FORMATS_WITH_SIGNATURE):
            return True
    except Exception:  # Pillow can raise nearly anything for what is no image
        return False


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Returns the suffixes of the formats that are read, such as ".jpg"."""
    from PIL import Image

    extensions = Image.registered_extensions()
    return frozenset(suffix for suffix, name in extensions.items() if name in IMAGE_FORMATS)


@functools.cache
def _supported_formats() -> frozenset[str]:
    """Returns the formats that the installed Pillow reads, and turns off its size warning."""
    from PIL import Image

    Image.init()
    # Pillow warns at half the size that it refuses, which photographs can have.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    return frozenset(Image.OPEN)


def open_to_append(path: Path) -> BinaryIO:
    """Opens a file to append to, and creates it if it is not there.

    Raises OSError for a link, which is not followed.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_FOLLOW | NO_WAITING
    return os.fdopen(os.open(path, flags, 0o666), "ab")


def check_plain(folder: Path) -> None:
    """Raises RunError if the folder holds anything but files, folders and links within it.

    A link in somebody else's folder could lead a command to other files, and a pipe could keep it
    waiting.
    """
    root = os.path.realpath(folder)
    for path, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            with contextlib.suppress(FileNotFoundError):  # a run may have just removed it
                _check_entry(Path(path, name), root)


def _check_entry(entry: Path, root: str) -> None:
    mode = os.lstat(entry).st_mode
    if stat.S_ISLNK(mode):
        target = os.path.realpath(entry)
        if os.path.commonpath([root, target]) != root:
            raise RunError(
                f"{entry} is a link that leaves its folder, to {target}. It is not followed: "
                "replace it by a copy, or remove it."
            )
    elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise RunError(f"{entry} is a pipe, a socket or a device, which no run has: remove it.")
