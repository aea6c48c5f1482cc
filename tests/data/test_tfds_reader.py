import io
import json
import os
import socket
import struct
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from limits import assert_quick
from PIL import Image

from imgcls_jax.data import tfds_reader
from imgcls_jax.data.tfds_reader import find_prepared, has_network, prepare, read_prepared
from imgcls_jax.errors import DataError

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("TFDS_DATA_DIR") or ROOT / "../shared/data/tfds").resolve()
needs_real_data = pytest.mark.skipif(
    not (REAL / "mnist/3.0.1").is_dir(),
    reason=f"MNIST is not prepared in {REAL} (TFDS_DATA_DIR names the folder)",
)


def field(number, content):
    """A length-delimited field of a protocol buffer."""
    size, length = b"", len(content)
    while length > 127:
        size, length = size + bytes([length % 128 + 128]), length // 128
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def example(image, label):
    """A serialized tf.train.Example, written by hand since TFDS does so by TensorFlow only."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "PNG")
    values = {
        "image": field(1, field(1, file.getvalue())),
        "label": field(3, field(1, bytes([label]))),
    }
    entries = (
        field(1, field(1, name.encode()) + field(2, value)) for name, value in values.items()
    )
    return field(1, b"".join(entries))


def write_prepared(
    folder, images, labels, *, shape=(4, 5, 3), file_format="array_record", splits=("train", "test")
):
    """A prepared data set as TFDS writes it, its splits alike; returns its folder."""
    from array_record.python.array_record_module import ArrayRecordWriter

    directory = folder / "tiny" / "1.2.0"
    directory.mkdir(parents=True)
    dimensions = [str(size) for size in shape]
    image = {"image": {"dtype": "uint8", "shape": {"dimensions": dimensions}}}
    base = "tensorflow_datasets.core.features."
    features = {
        "image": {**image, "pythonClassName": base + "image_feature.Image"},
        "label": {
            "classLabel": {"numClasses": "3"},
            "pythonClassName": base + "class_label_feature.ClassLabel",
        },
    }
    tree = {
        "featuresDict": {"features": features},
        "pythonClassName": base + "features_dict.FeaturesDict",
    }
    (directory / "features.json").write_text(json.dumps(tree))
    (directory / "label.labels.txt").write_text("cat\ndog\nowl\n")
    info = {"fileFormat": file_format, "name": "tiny", "version": "1.2.0", "splits": []}
    records = [example(image, label) for image, label in zip(images, labels, strict=True)]
    for split in splits:
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        info["splits"].append(
            {"filepathTemplate": template, "name": split, "shardLengths": [str(len(labels))]}
        )
        path = directory / f"tiny-{split}.{file_format}-00000-of-00001"
        if file_format == "array_record":
            writer = ArrayRecordWriter(str(path), "group_size:1")
            for record in records:
                writer.write(record)
            writer.close()
        else:
            path.write_bytes(
                b"".join(struct.pack("<Qxxxx", len(r)) + r + bytes(4) for r in records)
            )
    (directory / "dataset_info.json").write_text(json.dumps(info))
    return directory


IMAGES = list(np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), dtype=np.uint8))
LABELS = [2, 0, 1, 1, 0, 2, 2]


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_prepared_data_is_read_in_order(tmp_path, monkeypatch, file_format):
    monkeypatch.setattr(tfds_reader, "CHUNK", 3)
    data = read_prepared(write_prepared(tmp_path, IMAGES, LABELS, file_format=file_format))
    assert list(data) == ["train", "test"]
    for dataset in data.values():
        np.testing.assert_array_equal(dataset.images, IMAGES)
        assert dataset.labels.dtype == np.int32 and dataset.labels.tolist() == LABELS
        assert dataset.class_names == ("cat", "dog", "owl")


def test_grayscale_and_open_shapes(tmp_path):
    gray = [image[..., :1] for image in IMAGES]
    directory = write_prepared(tmp_path / "gray", gray, LABELS, shape=(4, 5, 1), splits=("train",))
    data = read_prepared(directory)
    assert list(data) == ["train"]
    np.testing.assert_array_equal(data["train"].images, gray)
    data = read_prepared(write_prepared(tmp_path / "open", IMAGES, LABELS, shape=(-1, -1, 3)))
    assert data["test"].images.shape == (7, 4, 5, 3)


def test_images_of_several_sizes_are_refused(tmp_path):
    directory = write_prepared(
        tmp_path, [*IMAGES, np.zeros((6, 6, 3), np.uint8)], [*LABELS, 0], shape=(-1, -1, 3)
    )
    with pytest.raises(
        DataError, match="example 7 of train .*6x6x3, the first 4x5x3.*source=folder.*image_size=N"
    ):
        read_prepared(directory)


def test_other_data_sets_are_refused(tmp_path):
    directory = write_prepared(tmp_path, IMAGES, LABELS)
    features = directory / "features.json"
    features.write_text(features.read_text().replace('"label"', '"length"'))
    with pytest.raises(DataError, match=r"no image classification data set.*has image, length\."):
        read_prepared(directory)
    directory = write_prepared(tmp_path / "b", IMAGES, LABELS, splits=("test",))
    with pytest.raises(DataError, match="no split 'train'; its splits are test"):
        read_prepared(directory)


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_damaged_data_is_refused(tmp_path, file_format):
    directory = write_prepared(tmp_path, IMAGES, LABELS, file_format=file_format)
    path = next(directory.glob("tiny-test.*"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="test split in .* is damaged"):
        read_prepared(directory)


def test_the_newest_prepared_version_is_found(tmp_path):
    for version in ("1.2.0", "1.10.0", "2.0.0.incompleteABC", "3.0.0"):
        (tmp_path / "mnist" / version).mkdir(parents=True)
        (tmp_path / "mnist" / version / "dataset_info.json").touch()
    (tmp_path / "mnist/3.0.0/dataset_info.json").unlink()
    assert find_prepared("mnist", tmp_path).name == "1.10.0"
    assert find_prepared("mnist:1.2.0", tmp_path).name == "1.2.0"
    assert find_prepared("mnist:1.3.0", tmp_path) is None
    assert (
        find_prepared("cifar10", tmp_path) is None
        and find_prepared("mnist", tmp_path / "none") is None
    )


def test_without_data_and_network_the_ways_out_are_named_quickly(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_reader, "has_network", lambda: False)
    start = time.perf_counter()
    with pytest.raises(DataError) as refusal:
        prepare("mnist", tmp_path)
    assert_quick(time.perf_counter() - start, 10)
    message = str(refusal.value)
    for part in (
        str(tmp_path / "mnist"),
        "no network",
        "mnist/3.0.1",
        "array_record",
        "--config.data.source=idx",
    ):
        assert part in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name, message",
    [
        ("minst", "no data set 'minst'.*Did you mean mnist"),
        ("mnist:9.9.9", "only: 3.0.1.*catalogue"),
    ],
)
def test_unknown_names_are_refused(tmp_path, monkeypatch, name, message):
    monkeypatch.setattr(
        tfds_reader, "has_network", lambda: pytest.fail("no need to look for a network")
    )
    with pytest.raises(DataError, match=message):
        prepare(name, tmp_path)


@pytest.mark.parametrize("failure", [None, ConnectionError("host is down")])
def test_with_a_network_tfds_prepares_the_data_without_the_gpus(tmp_path, monkeypatch, failure):
    import tensorflow_datasets

    calls = []

    class Builder:
        info = types.SimpleNamespace(full_name="mnist/3.0.1", homepage="")
        data_path = str(tmp_path / "mnist/3.0.1")

        def is_prepared(self):
            return False

        def download_and_prepare(self, *, file_format):
            calls.append(file_format)
            if failure:
                raise failure

    config = types.SimpleNamespace(
        set_visible_devices=lambda devices, kind: calls.append((devices, kind))
    )
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(config=config))
    monkeypatch.setattr(tensorflow_datasets, "builder", lambda name, data_dir: Builder())
    monkeypatch.setattr(tfds_reader, "has_network", lambda: True)
    if failure:
        with pytest.raises(
            DataError, match="could not prepare 'mnist' in .*ConnectionError: host is down"
        ):
            prepare("mnist", tmp_path)
    else:
        assert prepare("mnist", tmp_path) == tmp_path / "mnist/3.0.1"
    assert calls == [([], "GPU"), "array_record"]


def test_the_network_is_looked_for_in_bounded_time(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.perf_counter()
        assert not has_network(address, timeout=0.2)
        assert_quick(time.perf_counter() - start, 2)
    assert not has_network(address, timeout=2)  # closed by now


@needs_real_data
def test_real_mnist_is_read_without_tensorflow():
    code = (
        "import sys, numpy as np, tensorflow_datasets as tfds; from imgcls_jax.data import tfds_reader as t\n"
        f"builder = tfds.builder_from_directory(t.find_prepared('mnist', t.Path({str(REAL)!r})))\n"
        "d = t._read_split(builder, 'test', ())  # the smaller split is enough here\n"
        "print(d.images.shape, np.bincount(d.labels).tolist(), 'tensorflow' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    counts = "[980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]"
    assert out.strip() == f"(10000, 28, 28, 1) {counts} False"
