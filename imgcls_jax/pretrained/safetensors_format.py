"""Files in the safetensors format: arrays by name, and a few words on what they are."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from imgcls_jax.errors import DataError
from imgcls_jax.files import write_atomically
from imgcls_jax.foreign import check_regular


def starts(head: bytes) -> bool:
    """Whether a file that begins with these 16 bytes may be one: 8 bytes of the header's length, then JSON."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays by name. Memory: the file's size. Raises DataError for a damaged file."""
    from safetensors import safe_open

    with _naming_damage(path), safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def read_words(path: Path) -> dict[str, str]:
    """The words kept with the arrays. Raises DataError for a damaged file."""
    from safetensors import safe_open

    with _naming_damage(path), safe_open(path, framework="numpy") as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
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


def write(path: Path, arrays: Mapping[str, np.ndarray], words: Mapping[str, str]) -> None:
    """Writes the arrays by name, with words on what they are."""
    from safetensors.numpy import save

    # Not by its save_file, which makes files that only their owner can read.
    write_atomically(
        path,
        save({name: np.asarray(array, order="C") for name, array in arrays.items()}, dict(words)),
    )
