"""Data sets of TensorFlow Datasets (TFDS).

Prepared data is read without TensorFlow and without a network. TFDS itself prepares the rest.
"""

import difflib
import importlib.util
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
from types import ModuleType

import numpy as np

from imgcls_jax.data.cache import check_sources
from imgcls_jax.data.dataset import Dataset, Datasets, log_unused, split_of
from imgcls_jax.errors import DataError, printable, shape_text
from imgcls_jax.foreign import open_image

log = logging.getLogger(__name__)

NAME = re.compile(r"\w+(/\w[\w.+=-]*)*(:(\d+\.\d+\.\d+|[\d*.]+))?", re.ASCII)
VERSION = re.compile(r"\d+\.\d+\.\d+")
NAME_FORMS = "NAME, NAME:VERSION, NAME/CONFIG or NAME/CONFIG:VERSION"
CLASS_KEYS = ("pythonClassName", "python_class_name", "type")  # in features.json
CLASS_PREFIX = "tensorflow_datasets.core.features."
MODES = {1: "L", 3: "RGB"}  # number of channels -> Pillow's mode
NETWORK_PROBE = "https://storage.googleapis.com"  # most of TFDS's downloads come from there
CHUNK = 1000  # records that are read at a time
TFRECORD_LENGTH = struct.Struct("<QI")  # the length of a record, and its checksum
CHECKSUM_BYTES = 4
PREPARE_AGAIN = "Remove that folder, and it is prepared again, or copy it again."
OTHER_SOURCES = (
    "Or use files that you have: --config.data.source=idx --config.data.path=FOLDER (MNIST's "
    "original files), cifar (CIFAR-10's), csv, folder or npz; --config.data.source=digits needs no "
    "files."
)


def check_name(name: str) -> None:
    """Raises DataError for what is no name of a TFDS data set.

    Names with a prefix, as in "huggingface:NAME", would have TFDS ask that service. Others could
    lead out of the data folder.
    """
    if not NAME.fullmatch(name):
        raise DataError(
            f"{name!r} is no name of a TFDS data set: give {NAME_FORMS} as TFDS's catalogue has "
            f"them, such as mnist or mnist:3.0.1. {OTHER_SOURCES}"
        )


def find_prepared(name: str, folder: Path) -> Path | None:
    """Returns the folder of the newest prepared version of a data set, if there is any.

    name: such as "mnist", "mnist:3.0.1" or "emnist/letters". Raises DataError if one of its files
    is a pipe or a device.
    """
    name, _, version = name.partition(":")
    prepared = []
    for description in (folder / name).glob("*/dataset_info.json"):
        directory = description.parent
        if VERSION.fullmatch(directory.name) and version in ("", directory.name):
            prepared.append(directory)
    if not prepared:
        return None
    newest = max(prepared, key=_version_numbers)
    check_sources(path for path in newest.iterdir() if not path.is_dir())
    return newest


def _version_numbers(directory: Path) -> list[int]:
    return [int(number) for number in directory.name.split(".")]


def prepare(name: str, folder: Path) -> Path:
    """Has TFDS download a data set and prepare it in `folder`. Returns the prepared folder.

    Imports TensorFlow. Raises DataError if TFDS does not know the name, there is no network, or it
    fails.
    """
    builder = _builder(name, folder)
    if builder.is_prepared():  # under the name of its default configuration
        return Path(builder.data_path)
    file_format = _file_format()
    command = (
        f"tfds.builder({name!r}, data_dir=FOLDER).download_and_prepare(file_format={file_format!r})"
    )
    if not has_network():
        raise DataError(
            f"The TFDS data set {name!r} is not prepared in {folder / name}, and there is no "
            f"network to download {builder.info.full_name} "
            f"({builder.info.homepage or 'no homepage'}). On a machine with a network run "
            f"{command} in Python and copy its folder here; --config.data.path=FOLDER or "
            f"$TFDS_DATA_DIR says where it is. {OTHER_SOURCES}"
        )
    tensorflow = _tensorflow(command)
    log.info("TFDS downloads and prepares %s in %s.", builder.info.full_name, builder.data_path)
    try:
        # TensorFlow would take the memory that JAX needs.
        tensorflow.config.set_visible_devices([], "GPU")
        builder.download_and_prepare(file_format=file_format)
    except Exception as error:  # failed downloads have no common type of error
        raise DataError(
            f"TFDS could not prepare {name!r} in {folder} ({type(error).__name__}: {error}). Try "
            f"again later, or elsewhere by {command}, and copy its folder here. {OTHER_SOURCES}"
        ) from error
    return Path(builder.data_path)


def _file_format() -> str:
    """Returns the format that data is prepared in: array_record has no package for Windows."""
    if importlib.util.find_spec("array_record") is None:
        return "tfrecord"
    return "array_record"


def _tensorflow(command: str) -> ModuleType:
    """Imports TensorFlow, by which TFDS prepares data. command: what would prepare it elsewhere."""
    try:
        import tensorflow
    except ImportError as error:
        raise DataError(
            f"TFDS prepares data with TensorFlow, which cannot be imported ({error}): pip install "
            f"tensorflow. Or run {command} on another machine and copy its folder here. "
            f"{OTHER_SOURCES}"
        ) from error
    return tensorflow


def _builder(name: str, folder: Path):
    """Returns TFDS's builder of a data set. Raises DataError if TFDS does not know the name."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=folder)
    except tfds.core.DatasetNotFoundError as error:
        names = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(name, names, n=3)
        hint = ""
        if near:
            hint = f" Did you mean {' or '.join(near)}?"
        raise DataError(
            f"TFDS knows no data set {name!r}, and none is prepared in {folder / name}.{hint} "
            f"{OTHER_SOURCES}"
        ) from error
    except Exception as error:
        # An unknown version or configuration, or a folder with only a part of the files.
        reason = " ".join(str(error).split())[:500]
        raise DataError(
            f"TFDS cannot make {name!r}: {reason} Give {NAME_FORMS} as TFDS's catalogue has them."
        ) from error


def has_network(url: str = NETWORK_PROBE, timeout: float = 4.0) -> bool:
    """Returns whether `url` answers within `timeout` seconds.

    The request goes through the proxy if the environment names one.
    """
    answered = threading.Event()

    def probe() -> None:
        try:
            urllib.request.urlopen(url, timeout=timeout).close()
            answered.set()
        except urllib.error.HTTPError as error:
            error.close()
            answered.set()  # an error page is an answer too
        except (OSError, ValueError):
            pass

    # In a thread, since looking up a host's name has no time limit.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(timeout)
    return answered.is_set()


def log_unused_splits(directory: Path) -> None:
    """Logs the splits of a prepared data set that `read_prepared` leaves out.

    If the description is damaged, `read_prepared` will say why.
    """
    try:
        description = json.loads((directory / "dataset_info.json").read_text())
        names = [split["name"] for split in description["splits"]]
    except (OSError, ValueError, LookupError, TypeError):
        return
    used = _used_splits(names).values()
    unused = [name for name in names if name not in used]
    log_unused(directory, unused, "train, validation and test are")


def _used_splits(names: Iterable[str]) -> dict[str, str]:
    """Returns the splits that are read, with TFDS's names of them."""
    used = {}
    for name in names:
        split = split_of(name)
        if split:
            used[split] = name
    return used


def read_prepared(directory: Path) -> Datasets:
    """Reads the train, validation and test splits of a prepared data set, those that exist.

    Raises DataError if it is damaged, or has no uint8 `image` and `label`.
    """
    import tensorflow_datasets as tfds

    try:
        _check_features(directory)
        builder = tfds.builder_from_directory(directory)
        features = builder.info.features
        splits = builder.info.splits
    except Exception as error:  # a damaged description can raise nearly anything
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            f"The description of the data set in {directory} (dataset_info.json, features.json) is "
            f"damaged ({type(error).__name__}: {reason}). {PREPARE_AGAIN}"
        ) from error
    class_names = _class_names(features, directory)
    used = _used_splits(splits)
    if "train" not in used:
        raise DataError(
            f"{directory} has no split 'train'; its splits are {', '.join(sorted(splits))}."
        )
    return {split: _read_split(builder, name, class_names) for split, name in used.items()}


def _check_features(directory: Path) -> None:
    """Raises ValueError if the description names a class that is not one of TFDS's features.

    TFDS would import its module.
    """
    path = directory / "features.json"
    if not path.exists():
        return
    values = [json.loads(path.read_bytes())]
    while values:
        value = values.pop()
        if isinstance(value, list):
            values.extend(value)
        elif isinstance(value, dict):
            values.extend(value.values())
            class_names = [value[key] for key in CLASS_KEYS if key in value]
            for class_name in class_names:
                if not str(class_name).startswith(CLASS_PREFIX):
                    shown = printable(class_name)[:100]
                    raise ValueError(f"it names {shown} as the class of a feature")


def _class_names(features, directory: Path) -> tuple[str, ...]:
    """Returns the names of the classes. Raises DataError for another kind of data set."""
    import tensorflow_datasets as tfds

    if isinstance(features, tfds.features.FeaturesDict):
        features = dict(features.items())
    else:
        features = {}
    image = features.get("image")
    label = features.get("label")
    is_image = isinstance(image, tfds.features.Image)
    if not is_image or not isinstance(label, tfds.features.ClassLabel):
        raise DataError(
            f"{directory} is no image classification data set: it needs the features 'image' (an "
            f"Image) and 'label' (a ClassLabel), and has {', '.join(sorted(features)) or 'none'}."
        )
    dtype = np.dtype(image.np_dtype)
    if dtype != np.uint8:
        raise DataError(f"The images of {directory} are {dtype}; uint8 is accepted.")
    return tuple(label.names)


def _read_split(builder, split: str, class_names: tuple[str, ...]) -> Dataset:
    mode = MODES.get(builder.info.features["image"].shape[-1])
    split_info = builder.info.splits[split]
    count = split_info.num_examples
    images = None
    examples_read = 0
    try:
        split_bytes = sum(os.path.getsize(path) for path in split_info.filepaths)
        if count > split_bytes:
            raise ValueError(
                f"its description has {count:,} examples, more than its files have bytes"
            )
        labels = np.empty(count, np.int32)
        for index, record in enumerate(_records(builder, split)):
            image = _decode(record["image"], mode)
            if images is None:
                images = np.empty((count, *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                raise DataError(
                    f"{builder.data_path}: example {index} of {split} (counted from 0) is "
                    f"{shape_text(image.shape)}, the first {shape_text(images.shape[1:])}. Of "
                    "TFDS's data sets, those of one image size are accepted. Write the images to "
                    "FOLDER/train/CLASS/ and FOLDER/test/CLASS/, and use "
                    "--config.data.source=folder --config.data.path=FOLDER "
                    "--config.data.image_size=N."
                )
            images[index] = image
            labels[index] = record["label"]
            examples_read = index + 1
        if examples_read != count:
            raise ValueError(
                f"it holds {examples_read} examples, where its description says {count}"
            )
    except DataError:
        raise
    except ImportError as error:
        raise DataError(
            f"The files in {builder.data_path} are in the format array_record, whose package "
            f"cannot be imported ({error}): pip install array_record. Where there is none, as on "
            f"Windows, have TFDS prepare them with file_format='tfrecord'. {OTHER_SOURCES}"
        ) from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(
            f"The {split} split in {builder.data_path} is damaged after {examples_read} examples "
            f"({error}). {PREPARE_AGAIN}"
        ) from error
    return Dataset(images, labels, class_names)


def _records(builder, split: str) -> Iterator[dict]:
    """Yields the examples of a split in order, their images as the bytes of an encoded file."""
    import tensorflow_datasets as tfds

    decoders = {"image": tfds.decode.SkipDecoding()}
    if builder.info.file_format == tfds.core.FileFormat.TFRECORD:
        for path in builder.info.splits[split].filepaths:
            for record in _tfrecords(path):
                yield builder.info.features.deserialize_example_np(record, decoders=decoders)
        return
    source = builder.as_data_source(split=split, decoders=decoders)
    for start in range(0, len(source), CHUNK):
        stop = min(start + CHUNK, len(source))
        yield from source.__getitems__(range(start, stop))


def _tfrecords(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file, which TFDS reads by TensorFlow only.

    Each is its length and the length's checksum, then the data and their checksum.
    """
    file_bytes = os.path.getsize(path)
    with open(path, "rb") as file:
        while header := file.read(TFRECORD_LENGTH.size):
            length, _ = TFRECORD_LENGTH.unpack(header)
            # Python would ask for the memory that a damaged length announces.
            if length > file_bytes:
                raise ValueError(f"{path} is damaged")
            record = file.read(length)
            checksum = file.read(CHECKSUM_BYTES)
            if len(record) + len(checksum) != length + CHECKSUM_BYTES:
                raise ValueError(f"{path} is truncated")
            yield record


def _decode(encoded: bytes, mode: str | None) -> np.ndarray:
    """Decodes an image, uint8 [H, W, C]. mode: Pillow's, or None for that of the file."""
    with open_image(io.BytesIO(encoded)) as image:
        if mode not in (None, image.mode):
            image = image.convert(mode)
        pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return pixels
