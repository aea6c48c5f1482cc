"""A file of weights of any format, which its content tells."""

from pathlib import Path

import numpy as np

from imgcls_jax.errors import DataError
from imgcls_jax.foreign import open_regular
from imgcls_jax.pretrained import keras_format, safetensors_format, torch_format

KINDS = "PyTorch (.pth, both formats), Keras (.h5), safetensors"
READERS = {
    "torch": torch_format.read,
    "keras": keras_format.read,
    "safetensors": safetensors_format.read,
}


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns a file's arrays by their names in it. Raises DataError if it has none."""
    return READERS[kind(path)](path)


def kind(path: Path) -> str:
    """Returns "torch", "keras" or "safetensors".

    Raises DataError for another file, with what it seems to be.
    """
    try:
        with open_regular(path) as file:
            head = file.read(512)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if head.startswith((torch_format.ZIP_START, torch_format.LEGACY_START)):
        return "torch"
    if head.startswith(keras_format.START):
        return "keras"
    if safetensors_format.starts(head):
        return "safetensors"
    raise DataError(f"{path} is no file of weights: {describe(head)}. Accepted: {KINDS}.")


def describe(head: bytes) -> str:
    """Returns what a file that is no file of weights seems to be, from its first bytes."""
    if not head:
        return "it is empty"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "it is an HTML or XML page, such as a server's or a proxy's error message"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; git lfs pull fetches the file"
    return f"it begins with {head[:16]!r}"
