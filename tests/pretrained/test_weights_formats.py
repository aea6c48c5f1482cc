"""Keras' files, safetensors, and telling a file's format by its content."""

from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest

from imgcls_jax.errors import DataError
from imgcls_jax.pretrained import formats, keras_format, safetensors_format, torch_format

FILES = Path(__file__).parent / "files"
KERAS = {
    "stem_conv/stem_conv/kernel": (1, 1, 3, 2),
    "stem_conv/stem_conv/bias": (2,),
    "stem_bn/stem_bn/gamma": (2,),
    "stem_bn/stem_bn/beta": (2,),
    "stem_bn/stem_bn/moving_mean": (2,),
    "stem_bn/stem_bn/moving_variance": (2,),
    "block1_dwconv2/block1_dwconv2/kernel": (3, 3, 2, 1),
    "predictions/predictions/kernel": (2, 2),
    "predictions/predictions/bias": (2,),
}
ARRAYS = {
    "a/a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b/b/gamma": np.float32([1, 2]),
}


def assert_equal(arrays, expected):
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)


# ---------------------------------------------------------------------------------------------
# Keras


def test_a_file_that_keras_wrote():
    expected = {}
    for name, shape in KERAS.items():
        expected[name] = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    assert_equal(keras_format.read(FILES / "keras_legacy.h5"), expected)


@pytest.mark.parametrize("name", ["m/kernel:0", "kernel", "outer/m/depthwise_kernel:0"])
def test_ways_in_which_keras_named_a_weight(tmp_path, name):
    path = tmp_path / "k.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["empty", "m"]
        file.create_group("empty").attrs["weight_names"] = np.array([], "S")
        file.create_group("m").attrs["weight_names"] = [name]  # str here, bytes from Keras
        file["m"][name] = np.float32([1, 2])
    assert_equal(keras_format.read(path), {"m/m/kernel": np.float32([1, 2])})


def test_names_in_several_attributes_and_a_whole_model(tmp_path):
    arrays = {}
    for i in range(250):
        layer = f"layer_{i:03}_{'x' * 300}"
        arrays[f"{layer}/{layer}/kernel"] = np.float32([i])
    path = tmp_path / "k.h5"
    keras_format.write(path, arrays)
    with h5py.File(path) as file, h5py.File(tmp_path / "whole.h5", "w") as whole:
        assert "layer_names" not in file.attrs
        assert {"layer_names0", "layer_names1"} <= set(file.attrs)
        file.copy(file, whole, "model_weights")
    assert_equal(keras_format.read(path), arrays)
    assert_equal(keras_format.read(tmp_path / "whole.h5"), arrays)


def test_keras_3_numbers_its_weights(tmp_path):
    path = tmp_path / "k.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = np.float32([1])
    with pytest.raises(DataError, match="layout of Keras 3.*save_weights_to_hdf5_group"):
        keras_format.read(path)


def test_hdf5_files_that_are_something_else(tmp_path):
    path = tmp_path / "k.h5"
    with h5py.File(path, "w") as file:
        file["measurements"] = np.float32([1])
    with pytest.raises(DataError, match="no attribute layer_names; at the top are 'measurements'"):
        keras_format.read(path)


def write_dataset(path, shape, **options) -> None:
    """Writes a file of one weight with HDF5's options of a dataset."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["m"]
        group = file.create_group("m")
        group.attrs["weight_names"] = ["m/kernel:0"]
        group.create_dataset("m/kernel:0", shape, np.float32, **options)


def test_an_array_that_is_larger_than_the_file(tmp_path):
    path = tmp_path / "k.h5"
    write_dataset(path, (2**40,), chunks=(1024,))  # four terabytes, none stored
    with pytest.raises(DataError, match="not stored in the file as it is"):
        keras_format.read(path)


def test_an_array_in_another_file(tmp_path):
    path = tmp_path / "k.h5"
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(8))
    write_dataset(path, (2,), external=[(str(secret), 0, 8)])
    with pytest.raises(DataError, match="not stored in the file as it is"):
        keras_format.read(path)


def test_a_truncated_keras_file(tmp_path):
    path = tmp_path / "k.h5"
    content = (FILES / "keras_legacy.h5").read_bytes()
    for end in range(8, len(content), 1999):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match="k.h5 is damaged"):
            formats.read(path)


def test_weights_are_written_in_the_order_by_which_keras_reads_a_layer(tmp_path):
    path = tmp_path / "k.h5"
    keras_format.write(path, {"a/a/bias": np.float32([1]), "a/a/kernel": np.float32([1])})
    with h5py.File(path) as file:
        assert list(file["a"].attrs["weight_names"]) == [b"a/kernel:0", b"a/bias:0"]


def test_keras_files_are_written_and_read(tmp_path):
    path = tmp_path / "k.h5"
    keras_format.write(path, ARRAYS)
    assert_equal(keras_format.read(path), ARRAYS)
    with h5py.File(path) as file:
        assert list(file.attrs["layer_names"]) == [b"a", b"b"]
        assert list(file["a"].attrs["weight_names"]) == [b"a/kernel:0"]
        assert "a/a/kernel:0" in file


# ---------------------------------------------------------------------------------------------
# Safetensors


def test_safetensors_are_written_and_read(tmp_path):
    path = tmp_path / "s"
    arrays = {
        **ARRAYS,
        "0-d": np.array(3.0),
        "half": np.float16([1, 2]),
        "brain": np.array([1, 2], ml_dtypes.bfloat16),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    safetensors_format.write(path, arrays, {"model": "m"})
    loaded = formats.read(path)
    assert_equal({name: loaded[name] for name in arrays}, arrays)
    assert safetensors_format.read_metadata(path) == {"model": "m"}


def test_a_truncated_safetensors_file(tmp_path):
    path = tmp_path / "s"
    safetensors_format.write(path, ARRAYS, {})
    content = path.read_bytes()
    for end in (9, 60, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match="s is a damaged safetensors file"):
            formats.read(path)


# ---------------------------------------------------------------------------------------------
# Any format


def write_safetensors(path, arrays):
    safetensors_format.write(path, arrays, {})


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("torch", torch_format.write),
        ("keras", keras_format.write),
        ("safetensors", write_safetensors),
    ],
)
def test_the_content_tells_the_format_and_not_the_name(tmp_path, kind, write):
    path = tmp_path / "weights.bin"
    write(path, ARRAYS)
    assert formats.kind(path) == kind
    assert_equal(formats.read(path), ARRAYS)


@pytest.mark.parametrize(
    ("content", "description"),
    [
        (b"", "it is empty"),
        (b"\n <!DOCTYPE html><title>404</title>", "HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"GIF89a and so on, for a while", "begins with b'GIF89a"),
    ],
)
def test_a_file_without_weights(tmp_path, content, description):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    message = rf"w.pth is no file of weights: (.*){description}(.*)Accepted: PyTorch"
    with pytest.raises(DataError, match=message):
        formats.read(path)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        formats.read(tmp_path)


def test_another_zip_archive(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, a=np.zeros(2))
    with pytest.raises(DataError, match="a zip archive with 0 files data.pkl"):
        formats.read(path)
