"""Keras' .h5 files of weights, as Keras 1 and 2 and keras.applications have them."""

import itertools
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax import files
from imgcls_jax.errors import DataError
from imgcls_jax.foreign import check_regular, open_regular

START = b"\x89HDF\r\n\x1a\n"
# The order of a layer's weights, by which Keras reads them.
ORDER = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
NUMBER_KINDS = "fiub"  # NumPy's letters for the types that weights have
MAX_NAMES_BYTES = 2**30  # of an attribute's names in memory
MAX_NAME_LENGTH = 1000  # characters
MAX_ATTRIBUTE_BYTES = 64_000  # of names in one attribute; HDF5 has no room for more than 64 KiB


# ---------------------------------------------------------------------------------------------
# Reading


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays by "layer/layer/weight", such as "conv1_bn/conv1_bn/moving_mean".

    These are their paths in a published file, with three differences: a suffix ":0" is left out,
    `depthwise_kernel` is called `kernel` as in Keras 3, and the second part is the layer's name
    also for a model inside a model.
    Memory: the file's size. Raises DataError for a damaged file or another layout.
    """
    import h5py

    try:
        check_regular(path)
        with h5py.File(path, "r") as file:
            return _read_layers(path, file)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        MemoryError,
    ) as error:
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, ValueError):
            reason = str(error)
        raise DataError(
            f"{path} is damaged or no Keras file of weights: {reason[:300]}. "
            "Download or copy it again."
        ) from error


def _read_layers(path: Path, file: Any) -> dict[str, np.ndarray]:
    import h5py

    top = file
    if file.get("model_weights", getlink=True) is not None:  # a whole model was saved
        top = _member(file, "model_weights", h5py.Group)
    max_text_bytes = _largest_heap(path)
    layers = _names(top, "layer_names", max_text_bytes)
    if layers is None:
        raise DataError(f"{path} cannot be read: {_other_layout(file)}.")

    arrays: dict[str, np.ndarray] = {}
    bytes_left = os.path.getsize(path)
    for layer in layers:
        group = _member(top, layer, h5py.Group)
        for weight in _names(group, "weight_names", max_text_bytes) or ():
            name = f"{layer}/{layer}/{_short(weight)}"
            if name in arrays:
                raise ValueError(f"the layer {layer!r} has two weights named {_short(weight)!r}")
            dataset = _member(group, weight, h5py.Dataset)
            _check_dataset(name, dataset, bytes_left)
            bytes_left -= dataset.nbytes
            arrays[name] = dataset[()]
    return arrays


def _check_dataset(name: str, dataset: Any, bytes_left: int) -> None:
    """Raises ValueError for a dataset that is not stored in the file as it is.

    One larger than the rest of the file is compressed, or not stored at all.
    """
    if dataset.shape is None:
        raise ValueError(f"{name} is empty")
    is_elsewhere = dataset.external or dataset.is_virtual
    is_number = dataset.dtype.kind in NUMBER_KINDS
    if is_elsewhere or not is_number or dataset.nbytes > bytes_left:
        raise ValueError(f"{name} {dataset.shape} is not stored in the file as it is")


def _member(group: Any, name: str, kind: type) -> Any:
    """What is at a path in a group. Raises ValueError for a link, which may lead to other files."""
    import h5py

    for part in filter(None, name.split("/")):
        link = None
        if isinstance(group, h5py.Group):
            link = group.get(part, getlink=True)
        if link is None:
            raise ValueError(f"{part!r} of {name!r} is missing")
        if not isinstance(link, h5py.HardLink):
            link_kind = type(link).__name__
            raise ValueError(f"{part!r} of {name!r} is a link ({link_kind}), which is not followed")
        group = group[part]
    if not isinstance(group, kind):
        raise ValueError(f"{name!r} is no {kind.__name__.lower()}")
    return group


def _names(group: Any, name: str, max_text_bytes: int) -> list[str] | None:
    """A list of names in an attribute; None if there is no such attribute.

    max_text_bytes: of a text without fixed length, which an attribute may name many times.
    """
    attributes = group.attrs
    keys = list(_attribute_keys(attributes, name))
    if not keys:
        return None
    names = []
    for key in keys:
        attribute = attributes.get_id(key)
        has_any_length = attribute.dtype.kind == "O"
        if has_any_length and math.prod(attribute.shape) * max_text_bytes > MAX_NAMES_BYTES:
            raise ValueError(f"{key} may hold more than {MAX_NAMES_BYTES:,} bytes")
        for text in attributes[key]:
            if isinstance(text, bytes):
                text = text.decode()
            text = str(text)
            if len(text) > MAX_NAME_LENGTH:
                raise ValueError(f"{key} has a name of more than {MAX_NAME_LENGTH:,} characters")
            names.append(text)
    return names


def _attribute_keys(attributes: Any, name: str) -> Iterator[str]:
    """The attributes that hold a list: Keras splits a long one into name0, name1, ..."""
    if name in attributes:
        yield name
        return
    for i in itertools.count():
        key = f"{name}{i}"
        if key not in attributes:
            return
        yield key


def _largest_heap(path: Path) -> int:
    """The bytes of the largest heap of texts in the file.

    These are HDF5's global heap collections, which start with a signature and their size.
    """
    largest = 0
    with (
        open_regular(path) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        start = content.find(b"GCOL")
        while start >= 0:
            size = int.from_bytes(content[start + 8 : start + 16], "little")
            largest = max(largest, size)
            start = content.find(b"GCOL", start + 4)
        return min(largest, len(content))


def _short(weight: str) -> str:
    name = weight.rpartition("/")[2].removesuffix(":0")
    if name == "depthwise_kernel":
        return "kernel"
    return name


def _other_layout(file: Any) -> str:
    """What a file without Keras' attributes is."""
    if "layers" in file:
        return (
            "it has the layout of Keras 3 (.weights.h5), which numbers the weights and does not "
            "name them; save with keras.src.legacy.saving.legacy_h5_format."
            'save_weights_to_hdf5_group(h5py.File(FILE, "w"), model)'
        )
    members = ", ".join(repr(member) for member in list(file)[:8])
    return f"it has no attribute layer_names; at the top are {members or 'nothing'}"


# ---------------------------------------------------------------------------------------------
# Writing


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays named "layer/layer/weight" as Keras does.

    Keras' model.load_weights(path, by_name=True) reads them.
    """
    import h5py

    layers: dict[str, dict[str, np.ndarray]] = {}
    for name in sorted(arrays, key=_position_in_layer):
        layer, _, weight = name.partition("/")
        layers.setdefault(layer, {})[f"{weight}:0"] = arrays[name]
    with files.replacing(path) as partial, h5py.File(partial, "w") as file:
        _set_names(file, "layer_names", list(layers))
        for layer, weights in layers.items():
            group = file.create_group(layer)
            _set_names(group, "weight_names", list(weights))
            for name, array in weights.items():
                group[name] = array


def _position_in_layer(name: str) -> int:
    return ORDER.index(name.rpartition("/")[2])


def _set_names(group: Any, name: str, values: list[str]) -> None:
    encoded = np.array([value.encode() for value in values])
    if encoded.nbytes <= MAX_ATTRIBUTE_BYTES:
        group.attrs[name] = encoded
        return
    chunks = -(-encoded.nbytes // MAX_ATTRIBUTE_BYTES) + 1
    for i, chunk in enumerate(np.array_split(encoded, chunks)):
        group.attrs[f"{name}{i}"] = chunk
