"""Files in the safetensors format: arrays by name, and metadata (words by name)."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from imgcls_jax.errors import DataError
from imgcls_jax.files import write_atomically
from imgcls_jax.foreign import check_regular

MAX_HEADER_BYTES = 100_000_000


def starts(head: bytes) -> bool:
    """Returns whether a file that starts with these 16 bytes may be in the format.

    That is 8 bytes with the header's length, then JSON.
    """
    header_bytes = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and header_bytes < MAX_HEADER_BYTES


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays by name. Memory: the file's size. Raises DataError for a damaged file."""
    from safetensors import safe_open

    with _reporting_damage(path), safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def read_metadata(path: Path) -> dict[str, str]:
    """Returns the metadata of the file. Raises DataError for a damaged file."""
    from safetensors import safe_open

    with _reporting_damage(path), safe_open(path, framework="numpy") as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _reporting_damage(path: Path) -> Iterator[None]:
    """Raises DataError for what the safetensors library raises for damaged files."""
    from safetensors import SafetensorError

    try:
        check_regular(path)
        yield
    except (
        SafetensorError,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise DataError(
            f"{path} is a damaged safetensors file: {str(error)[:300]}. Download or copy it again."
        ) from error


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes the arrays by name, with metadata."""
    from safetensors.numpy import save

    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    # The library's save_file makes files that only their owner can read.
    write_atomically(path, save(contiguous, dict(metadata)))
