"""Keras' files, safetensors, and telling what a file is by its content."""

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


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_what_keras_wrote():
    found = keras_format.read(FILES / "keras_legacy.h5")
    assert_equal(
        found,
        {name: np.arange(np.prod(s), dtype=np.float32).reshape(s) for name, s in KERAS.items()},
    )


@pytest.mark.parametrize("names", [["m/kernel:0"], ["kernel"], ["outer/m/depthwise_kernel:0"]])
def test_ways_in_which_keras_named_a_weight(tmp_path, names):
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file.attrs["layer_names"] = ["empty", "m"]
        file.create_group("empty").attrs["weight_names"] = np.array([], "S")
        file.create_group("m").attrs["weight_names"] = names  # str here, bytes from Keras
        file["m"][names[0]] = np.float32([1, 2])
    assert_equal(keras_format.read(tmp_path / "k.h5"), {"m/m/kernel": np.float32([1, 2])})


def test_names_in_several_attributes_and_a_whole_model(tmp_path):
    arrays = {
        f"layer_{i:03}_{'x' * 300}/layer_{i:03}_{'x' * 300}/kernel": np.float32([i])
        for i in range(250)
    }
    keras_format.write(tmp_path / "k.h5", arrays)
    with h5py.File(tmp_path / "k.h5") as file:
        assert "layer_names" not in file.attrs and {"layer_names0", "layer_names1"} <= set(
            file.attrs
        )
        with h5py.File(tmp_path / "whole.h5", "w") as whole:
            file.copy(file, whole, "model_weights")
    assert_equal(keras_format.read(tmp_path / "k.h5"), arrays)
    assert_equal(keras_format.read(tmp_path / "whole.h5"), arrays)


def test_keras_3_numbers_its_weights(tmp_path):
    with h5py.File(tmp_path / "k.weights.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.float32([1])
    with pytest.raises(DataError, match="layout of Keras 3.*save_weights_to_hdf5_group"):
        keras_format.read(tmp_path / "k.weights.h5")


def test_keras_files_that_are_something_else(tmp_path):
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["measurements"] = np.float32([1])
    with pytest.raises(DataError, match="no attribute layer_names; at the top are 'measurements'"):
        keras_format.read(tmp_path / "k.h5")


def test_a_keras_array_that_is_larger_than_the_file(tmp_path):
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file.attrs["layer_names"] = ["m"]
        file.create_group("m").attrs["weight_names"] = ["m/kernel:0"]
        file["m"].create_dataset(
            "m/kernel:0", (2**40,), np.float32, chunks=(1024,)
        )  # four terabytes, none stored
    with pytest.raises(DataError, match="not stored in the file as it is"):
        keras_format.read(tmp_path / "k.h5")


def test_a_keras_array_that_lies_in_another_file(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(8))
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file.attrs["layer_names"] = ["m"]
        file.create_group("m").attrs["weight_names"] = ["m/kernel:0"]
        file["m"].create_dataset(
            "m/kernel:0", (2,), np.float32, external=[(str(tmp_path / "secret"), 0, 8)]
        )
    with pytest.raises(DataError, match="not stored in the file as it is"):
        keras_format.read(tmp_path / "k.h5")


def test_a_truncated_keras_file(tmp_path):
    content = (FILES / "keras_legacy.h5").read_bytes()
    for end in range(8, len(content), 1999):
        (tmp_path / "k.h5").write_bytes(content[:end])
        with pytest.raises(DataError, match="k.h5 is damaged"):
            formats.read(tmp_path / "k.h5")


def test_written_in_the_order_in_which_keras_reads_a_layer(tmp_path):
    keras_format.write(
        tmp_path / "k.h5", {f"a/a/{name}": np.float32([1]) for name in ("bias", "kernel")}
    )
    with h5py.File(tmp_path / "k.h5") as file:
        assert list(file["a"].attrs["weight_names"]) == [b"a/kernel:0", b"a/bias:0"]


def test_written_as_keras_and_read_again(tmp_path):
    keras_format.write(tmp_path / "k.h5", ARRAYS)
    assert_equal(keras_format.read(tmp_path / "k.h5"), ARRAYS)
    with h5py.File(tmp_path / "k.h5") as file:
        assert list(file.attrs["layer_names"]) == [b"a", b"b"]
        assert list(file["a"].attrs["weight_names"]) == [b"a/kernel:0"] and "a/a/kernel:0" in file


def test_safetensors(tmp_path):
    arrays = {
        **ARRAYS,
        "0-d": np.array(3.0),
        "half": np.float16([1, 2]),
        "brain": np.array([1, 2], ml_dtypes.bfloat16),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    safetensors_format.write(tmp_path / "s", arrays, {"model": "m"})
    found = formats.read(tmp_path / "s")
    assert_equal({name: found[name] for name in arrays}, arrays)
    assert safetensors_format.read_metadata(tmp_path / "s") == {"model": "m"}
    content = (tmp_path / "s").read_bytes()
    for end in (9, 60, len(content) - 1):
        (tmp_path / "s").write_bytes(content[:end])
        with pytest.raises(DataError, match="s is a damaged safetensors file"):
            formats.read(tmp_path / "s")


def test_the_content_tells_the_format_and_not_the_name(tmp_path):
    path = tmp_path / "weights.bin"
    for write, kind in (
        (torch_format.write, "torch"),
        (keras_format.write, "keras"),
        (lambda path, arrays: safetensors_format.write(path, arrays, {}), "safetensors"),
    ):
        write(path, ARRAYS)
        assert formats.kind(path) == kind
        assert_equal(formats.read(path), ARRAYS)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "it is empty"),
        (b"\n <!DOCTYPE html><title>404</title>", "HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"GIF89a and so on, for a while", "begins with b'GIF89a"),
    ],
)
def test_what_is_no_file_of_weights(tmp_path, content, text):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(
        DataError, match=rf"w.pth is no file of weights: (.*){text}(.*)Accepted: PyTorch"
    ):
        formats.read(tmp_path / "w.pth")


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        formats.read(tmp_path)


def test_another_zip_archive(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros(2))
    with pytest.raises(DataError, match="a zip archive with 0 files data.pkl"):
        formats.read(tmp_path / "w.npz")
