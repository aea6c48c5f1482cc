"""TFDS data sets. What is prepared is read without TensorFlow and without a network; the rest TFDS prepares."""

import difflib
import io
import json
import logging
import os
import re
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from imgcls_jax.data.cache import check_sources
from imgcls_jax.data.checks import shape_text
from imgcls_jax.data.dataset import Dataset, split_of, tell_unused
from imgcls_jax.errors import DataError, printable
from imgcls_jax.foreign import open_image

log = logging.getLogger(__name__)

NETWORK_PROBE = "https://storage.googleapis.com"  # where most of TFDS' downloads come from
CHUNK = 1000  # records read at a time
OTHER_SOURCES = (
    "Or use files that you have: --config.data.source=idx --config.data.path=FOLDER (MNIST's original files), "
    "cifar (CIFAR-10's), csv, folder or npz; --config.data.source=digits needs no files."
)


def check_name(name: str) -> None:
    """Raises DataError for a name that is no data set's of TFDS.

    Names with a prefix, as in "huggingface:NAME", would have TFDS ask that service; others could leave the data folder.
    """
    if not re.fullmatch(r"\w+(/\w[\w.+=-]*)*(:(\d+\.\d+\.\d+|[\d*.]+))?", name, re.ASCII):
        raise DataError(
            f"{name!r} is no name of a TFDS data set: give NAME, NAME:VERSION, NAME/CONFIG or NAME/CONFIG:VERSION as "
            f"TFDS' catalogue has them, such as mnist or mnist:3.0.1. {OTHER_SOURCES}"
        )


def find_prepared(name: str, folder: Path) -> Path | None:
    """The folder of the newest prepared version of `name` ("mnist", "mnist:3.0.1", "emnist/letters"), if any.

    Raises DataError where one of its files is none, but a pipe or a device.
    """
    name, _, wanted = name.partition(":")
    versions = [
        info.parent
        for info in (folder / name).glob("*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name) and wanted in ("", info.parent.name)
    ]
    newest = max(versions, key=lambda path: tuple(map(int, path.name.split("."))), default=None)
    if newest:
        check_sources(path for path in newest.iterdir() if not path.is_dir())
    return newest


def prepare(name: str, folder: Path) -> Path:
    """Has TFDS download `name` and prepare it in `folder`; returns the folder of the prepared version.

    Imports TensorFlow. Errors: DataError where TFDS does not know the name, or there is no network, or it fails.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=folder)
    except tfds.core.DatasetNotFoundError as error:
        near = difflib.get_close_matches(
            name, tfds.list_builders(with_community_datasets=False), n=3
        )
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise DataError(
            f"TFDS knows no data set {name!r}, and none is prepared in {folder / name}.{hint} {OTHER_SOURCES}"
        ) from error
    except (
        Exception
    ) as error:  # an unknown version or configuration of a known data set, or half a folder of one
        reason = " ".join(str(error).split())[:500]
        raise DataError(
            f"TFDS cannot make {name!r}: {reason} Give NAME, NAME:VERSION, NAME/CONFIG or NAME/CONFIG:VERSION as TFDS' "
            "catalogue has them."
        ) from error
    if builder.is_prepared():  # under the name of its default configuration
        return Path(builder.data_path)
    command = (
        f"tfds.builder({name!r}, data_dir=FOLDER).download_and_prepare(file_format='array_record')"
    )
    if not network_there():
        raise DataError(
            f"The TFDS data set {name!r} is not prepared in {folder / name}, and there is no network to download "
            f"{builder.info.full_name} ({builder.info.homepage or 'no homepage'}). "
            f"On a machine with a network run {command} in Python and copy its folder here; "
            f"--config.data.path=FOLDER or $TFDS_DATA_DIR says where it is. {OTHER_SOURCES}"
        )
    log.info("TFDS downloads and prepares %s in %s.", builder.info.full_name, builder.data_path)
    try:
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")  # TensorFlow would take the memory that JAX needs
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:  # what goes wrong in a download has no common type
        raise DataError(
            f"TFDS could not prepare {name!r} in {folder} ({type(error).__name__}: {error}). "
            f"Try again later, or elsewhere by {command}, and copy its folder here. {OTHER_SOURCES}"
        ) from error
    return Path(builder.data_path)


def network_there(url: str = NETWORK_PROBE, timeout: float = 4.0) -> bool:
    """Whether `url` answers within `timeout` seconds, by way of the proxy if the environment names one."""
    answered = threading.Event()

    def probe() -> None:
        try:
            urllib.request.urlopen(url, timeout=timeout).close()
        except urllib.error.HTTPError as error:
            error.close()
            answered.set()  # an answer it is
        except (OSError, ValueError):
            pass
        else:
            answered.set()

    # A thread, since the look-up of a host's name knows no time limit.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(timeout)
    return answered.is_set()


def tell_unused_splits(directory: Path) -> None:
    """Names the splits of a prepared data set that `read_prepared` leaves out. Of a damaged description it says why."""
    try:
        described = json.loads((directory / "dataset_info.json").read_text())["splits"]
        splits = [split["name"] for split in described]
    except (OSError, ValueError, LookupError, TypeError):
        return
    used = _used(splits).values()
    tell_unused(
        directory, [name for name in splits if name not in used], "train, validation and test are"
    )


def _used(splits: Iterable[str]) -> dict[str, str]:
    """The splits that are read, with TFDS' names of them."""
    return {split: name for name in splits if (split := split_of(name))}


def read_prepared(directory: Path) -> dict[str, Dataset]:
    """The train, validation and test splits, those that there are, of a prepared data set with `image` and `label`."""
    import tensorflow_datasets as tfds

    try:
        _check_features(directory)
        builder = tfds.builder_from_directory(directory)
        features, splits = builder.info.features, builder.info.splits
    except Exception as error:  # a damaged description can raise nearly anything
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            f"The description of the data set in {directory} (dataset_info.json, features.json) is damaged "
            f"({type(error).__name__}: {reason}). Remove that folder, and it is prepared anew, or copy it again."
        ) from error
    features = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise DataError(
            f"{directory} is no image classification data set: it needs the features 'image' (an Image) and 'label' "
            f"(a ClassLabel), and has {', '.join(sorted(features)) or 'none'}."
        )
    if np.dtype(image.np_dtype) != np.uint8:
        raise DataError(
            f"The images of {directory} are {np.dtype(image.np_dtype)}; uint8 is accepted."
        )
    used = _used(splits)
    if "train" not in used:
        raise DataError(
            f"{directory} has no split 'train'; its splits are {', '.join(sorted(splits))}."
        )
    names = tuple(label.names)
    return {split: _read_split(builder, name, names) for split, name in used.items()}


def _check_features(directory: Path) -> None:
    """Raises ValueError where the description names a class that is not one of TFDS': TFDS would import its module."""
    rest = [json.loads(path.read_bytes()) for path in directory.glob("features.json")]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            named = [
                value[key]
                for key in ("pythonClassName", "python_class_name", "type")
                if key in value
            ]
            if not all(
                str(name).startswith("tensorflow_datasets.core.features.") for name in named
            ):
                raise ValueError(f"it names {printable(named)[:100]} as the class of a feature")
            rest.extend(value.values())
        elif isinstance(value, list):
            rest.extend(value)


def _read_split(builder, split: str, class_names: tuple[str, ...]) -> Dataset:
    mode = {1: "L", 3: "RGB"}.get(builder.info.features["image"].shape[-1])
    count = builder.info.splits[split].num_examples
    images, read = None, 0
    try:
        if count > sum(os.path.getsize(path) for path in builder.info.splits[split].filepaths):
            raise ValueError(
                f"its description has {count:,} examples, more than its files have bytes"
            )
        labels = np.empty(count, np.int32)
        for read, record in enumerate(_records(builder, split), start=1):
            image = _decode(record["image"], mode)
            if images is None:
                images = np.empty((count, *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                raise DataError(
                    f"{builder.data_path}: example {read - 1} of {split} (counted from 0) is "
                    f"{shape_text(image.shape)}, the first {shape_text(images.shape[1:])}. Of TFDS' data sets, those "
                    "of one image size are accepted. Write the images to FOLDER/train/CLASS/ and FOLDER/test/CLASS/, "
                    "and use --config.data.source=folder --config.data.path=FOLDER --config.data.image_size=N."
                )
            images[read - 1], labels[read - 1] = image, record["label"]
        if read != count:
            raise ValueError(f"it holds {read} examples, where its description says {count}")
    except DataError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(
            f"The {split} split in {builder.data_path} is damaged after {read} examples ({error}). "
            "Remove that folder, and it is prepared anew, or copy it again."
        ) from error
    return Dataset(images, labels, class_names)


def _records(builder, split: str) -> Iterator[dict]:
    """The examples of a split in their order, their images as the bytes of an encoded file."""
    import tensorflow_datasets as tfds

    decoders = {"image": tfds.decode.SkipDecoding()}
    if (
        builder.info.file_format == tfds.core.FileFormat.TFRECORD
    ):  # TFDS itself reads these by TensorFlow only
        for path in builder.info.splits[split].filepaths:
            for record in _tfrecords(path):
                yield builder.info.features.deserialize_example_np(record, decoders=decoders)
        return
    source = builder.as_data_source(split=split, decoders=decoders)
    for start in range(0, len(source), CHUNK):
        yield from source.__getitems__(range(start, min(start + CHUNK, len(source))))


def _tfrecords(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: each is its length (uint64), the length's checksum, the data, their checksum."""
    with open(path, "rb") as file:
        while header := file.read(12):
            (length,) = struct.unpack("<Q", header[:8])
            record = file.read(length + 4)
            if len(record) != length + 4:
                raise ValueError(f"{path} is truncated")
            yield record[:length]


def _decode(encoded: bytes, mode: str | None) -> np.ndarray:
    """uint8 [H, W, C] of an encoded image; mode: Pillow's name of the channels, None for those it has."""
    with open_image(io.BytesIO(encoded)) as image:
        pixels = np.asarray(image if mode in (None, image.mode) else image.convert(mode))
    return pixels[..., None] if pixels.ndim == 2 else pixels
