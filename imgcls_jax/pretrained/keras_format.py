"""Keras' .h5 files of weights, as Keras 1 and 2 wrote them and keras.applications publishes them."""

import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax import files
from imgcls_jax.errors import DataError
from imgcls_jax.foreign import check_regular, open_regular

START = b"\x89HDF\r\n\x1a\n"
ORDER = (
    "kernel",
    "bias",
    "gamma",
    "beta",
    "moving_mean",
    "moving_variance",
)  # Keras reads a layer's by their order
MOST_TEXT, LONGEST_NAME = (
    2**30,
    1000,
)  # bytes of an attribute's names in memory, and characters of one
NUMBERS = "fiub"  # kinds of types that weights have
ATTRIBUTE_LIMIT = 64_000  # bytes of names in one attribute; HDF5 has no room for more than 64 KiB


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays by "layer/layer/weight", such as "conv1_bn/conv1_bn/moving_mean": their places in a published file.

    A suffix ":0" is left out, `depthwise_kernel` is called `kernel`, as in Keras 3, and between the layer's name and
    the weight's stands the layer's again, whatever a model inside a model puts there.
    Memory: the file's size. Raises DataError for what is damaged or another layout.
    """
    import h5py

    try:
        check_regular(path)
        with h5py.File(path, "r") as file:
            whole = file.get("model_weights", getlink=True) is not None  # a whole model was saved
            top = _member(file, "model_weights", h5py.Group) if whole else file
            texts = _longest_text(path)
            layers = _names(top, "layer_names", texts)
            if layers is None:
                raise DataError(f"{path} cannot be read: {_other_layout(file)}.")
            arrays: dict[str, np.ndarray] = {}
            room = os.path.getsize(path)
            for layer in layers:
                group = _member(top, layer, h5py.Group)
                for weight in _names(group, "weight_names", texts) or ():
                    name = f"{layer}/{layer}/{_short(weight)}"
                    if name in arrays:
                        raise ValueError(
                            f"the layer {layer!r} has two weights named {_short(weight)!r}"
                        )
                    dataset = _member(group, weight, h5py.Dataset)
                    if dataset.shape is None:
                        raise ValueError(f"{name} is empty")
                    # What is larger than the file is stored elsewhere, compressed, or not at all.
                    room -= dataset.nbytes
                    if (
                        room < 0
                        or dataset.external
                        or dataset.is_virtual
                        or dataset.dtype.kind not in NUMBERS
                    ):
                        raise ValueError(
                            f"{name} {dataset.shape} is not stored in the file as it is"
                        )
                    arrays[name] = dataset[()]
            return arrays
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        MemoryError,
    ) as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise DataError(
            f"{path} is damaged or no Keras file of weights: {reason[:300]}. Download or copy it again."
        ) from error


def _member(group: Any, name: str, kind: type) -> Any:
    """What is at a path in a group. Raises ValueError for what is reached by a link, which may lead to other files."""
    import h5py

    for part in filter(None, name.split("/")):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            what = (
                "missing"
                if link is None
                else f"a link ({type(link).__name__}), which is not followed"
            )
            raise ValueError(f"{part!r} of {name!r} is {what}")
        group = group[part]
    if not isinstance(group, kind):
        raise ValueError(f"{name!r} is no {kind.__name__.lower()}")
    return group


def _names(group: Any, name: str, longest: int) -> list[str] | None:
    """A list of names in an attribute, which Keras splits into name0, name1, ... where it is long; None without it.

    longest: bytes of a text that has no fixed length, of which an attribute may name one many times over.
    """
    attributes = group.attrs
    if name in attributes:
        keys = [name]
    elif f"{name}0" in attributes:
        count = next(i for i in range(len(attributes) + 1) if f"{name}{i}" not in attributes)
        keys = [f"{name}{i}" for i in range(count)]
    else:
        return None
    names = []
    for key in keys:
        attribute = attributes.get_id(key)
        if attribute.dtype.kind == "O" and math.prod(attribute.shape) * longest > MOST_TEXT:
            raise ValueError(f"{key} may hold more than {MOST_TEXT:,} bytes")
        names += [
            text.decode() if isinstance(text, bytes) else str(text) for text in attributes[key]
        ]
        if any(len(text) > LONGEST_NAME for text in names):
            raise ValueError(f"{key} has a name of more than {LONGEST_NAME:,} characters")
    return names


def _longest_text(path: Path) -> int:
    """Bytes of the largest heap of texts in the file: HDF5's global heap collections, each with its size in front."""
    largest, start = 0, 0
    with (
        open_regular(path) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        while (start := content.find(b"GCOL", start)) >= 0:
            largest = max(largest, int.from_bytes(content[start + 8 : start + 16], "little"))
            start += 4
        return min(largest, len(content))


def _short(weight: str) -> str:
    name = weight.rpartition("/")[2].removesuffix(":0")
    return "kernel" if name == "depthwise_kernel" else name


def _other_layout(file: Any) -> str:
    if "layers" in file:
        return (
            "it is in the layout of Keras 3 (.weights.h5), which numbers the weights and does not name them; "
            'save with keras.src.legacy.saving.legacy_h5_format.save_weights_to_hdf5_group(h5py.File(FILE, "w"), model)'
        )
    return f"it has no attribute layer_names; at the top are {', '.join(map(repr, list(file)[:8])) or 'nothing'}"


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays named "layer/layer/weight" as Keras does, for model.load_weights(path, by_name=True)."""
    import h5py

    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in sorted(
        arrays.items(), key=lambda item: ORDER.index(item[0].rpartition("/")[2])
    ):
        layer, _, weight = name.partition("/")
        layers.setdefault(layer, {})[f"{weight}:0"] = array
    with files.replacing(path) as partial, h5py.File(partial, "w") as file:
        _set_names(file, "layer_names", list(layers))
        for layer, weights in layers.items():
            group = file.create_group(layer)
            _set_names(group, "weight_names", list(weights))
            for name, array in weights.items():
                group[name] = array


def _set_names(group: Any, name: str, values: list[str]) -> None:
    encoded = np.array([value.encode() for value in values])
    if encoded.nbytes <= ATTRIBUTE_LIMIT:
        group.attrs[name] = encoded
        return
    for i, chunk in enumerate(np.array_split(encoded, -(-encoded.nbytes // ATTRIBUTE_LIMIT) + 1)):
        group.attrs[f"{name}{i}"] = chunk
