"""Whatever stands in a text or a file, its reader gives what is there or an error of ours, and takes little memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcls_jax.data import cifar, csv_files, idx_files, npz_files
from imgcls_jax.data.transforms import OPS, Transform, parse
from imgcls_jax.errors import UserError
from imgcls_jax.pretrained import formats, keras_format, safetensors_format, torch_format
from imgcls_jax.run.folder import RunFolder
from tests.badinput.trying import examples
from tests.data.test_cifar import python2_pickle
from tests.data.test_readers import idx_bytes

WEIGHTS = Path(__file__).parents[1] / "pretrained" / "files"
MOST = 32e6  # bytes; every file here is smaller than a hundredth of it


HOSTILE = st.sampled_from(
    [b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(8), b"\xff" * 8, b"9" * 30, b"-1", b"nan"]
)


def damaged(draw, content: bytes) -> bytes:
    """The content with some pieces replaced, left out, doubled or put in; often it stays close to what it was."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        gone = draw(st.sampled_from([0, 1, 2, 4, 8, len(content)]))
        content[place : place + gone] = draw(st.binary(max_size=8) | HOSTILE)
    return bytes(content)


@pytest.fixture
def little_memory():
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST, f"{peak:,} bytes"


WORDS = st.sampled_from(
    [*OPS, "mnist", "cifar10", "reflect", "zero", "nearest", "x", "__import__", ""]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 4, 0.5, -1, 10**30, 1e308])
ARGUMENTS = st.lists(
    WORDS | NUMBERS.map(str) | st.just("(1, 2)") | st.just("size=4") | st.just("*x"), max_size=4
)
CALLS = st.tuples(WORDS, ARGUMENTS).map(lambda call: f"{call[0]}({', '.join(call[1])})")
DEEP = [
    "flip(" * 50,
    "(" * 500,
    "((((" + "1" * 5000,
    "-" * 3000 + "1",
    "rotation(" + "9" * 5000 + ")",
]
ODD = st.sampled_from([*DEEP, "a.b()", "flip()()"])


@examples(300)
@given(st.lists(WORDS | CALLS | ODD | st.text(max_size=30), max_size=4).map("|".join))
def test_any_text_as_a_transform(tried, text):
    found = tried.either(parse, text)
    assert found is None or isinstance(found, Transform)


LARGE = [
    "random_crop(%s)",
    "resize(%s)",
    "center_crop(%s)",
    "cutout(%s)",
    "mixup(%s)",
    "cutmix(%s)",
    "color_jitter(%s)",
]
LARGE += [
    "normalize(%s, 1)",
    "normalize(1, %s)",
    "affine(1, 0, 1, %s)",
    "rotation(%s)",
    "random_gray(%s)",
    "affine(1, %s)",
]


@pytest.mark.parametrize(
    "size", ["1e39", "1e999", "-1e999", str(10**40), "9" * 400, "-1", "(1, 1e999)", "nan"]
)
@pytest.mark.parametrize("text", LARGE)
def test_arguments_beyond_all_bounds(tried, text, size):
    if (text, size) == ("normalize(%s, 1)", "-1"):
        return  # a mean may be negative
    tried.refuses(parse, text % size)


IMAGES = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
LABELS = np.array([0, 1, 2], np.uint8)
CSV = "\n".join(
    [",".join(["label", *"abcd"]), "0,1,2,3,4", "1,5,6,7,255", "2,0,0,0,0", ""]
).encode()
BATCH = python2_pickle(np.zeros((2, 3072), np.uint8), [0, 1])


@examples(200)
@given(st.data())
def test_any_idx_file(tried, tmp_path, little_memory, data):
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    images.write_bytes(damaged(data.draw, idx_bytes(IMAGES)))
    labels.write_bytes(idx_bytes(LABELS))
    found = tried.either(idx_files.read_idx, images, labels)
    assert found is None or len(found[0]) == len(found[1]) == 3


@examples(150)
@given(st.data())
def test_any_csv_file(tried, tmp_path, data):
    path = tmp_path / "a.csv"
    path.write_bytes(damaged(data.draw, CSV))
    found = tried.either(csv_files.read_csv, path)
    assert found is None or (found[0].dtype == np.uint8 and len(found[0]) == len(found[1]))


@examples(100)
@given(st.data())
def test_any_npz_file(tried, tmp_path, little_memory, data):
    path = tmp_path / "a.npz"
    np.savez(path, images=IMAGES, labels=LABELS, class_names=np.array(["a", "b", "c"]))
    path.write_bytes(damaged(data.draw, path.read_bytes()))
    tried.either(npz_files.read_npz, path)


@examples(100)
@given(st.data())
def test_any_batch_of_cifar(tried, data):
    content = BATCH[:200] + BATCH[-20:] if data.draw(st.booleans()) else BATCH
    found = tried.either(cifar._read_python_batch, damaged(data.draw, content), "a batch")
    assert found is None or found[0].shape == (len(found[1]), 3072)


@examples(100)
@given(st.binary(max_size=80))
def test_any_pickle_as_a_batch_of_cifar(tried, content):
    tried.either(cifar._read_python_batch, b"\x80\x02" + content, "a batch")


TORCH = {
    path.name: path.read_bytes() for path in WEIGHTS.glob("*.pth") if path.name != "whole_model.pth"
}


@examples(150)
@given(name=st.sampled_from(sorted(TORCH)), data=st.data())
def test_any_torch_file(tried, tmp_path, little_memory, name, data):
    path = tmp_path / "w.pth"
    path.write_bytes(damaged(data.draw, TORCH[name]))
    for array in (tried.either(formats.read, path) or {}).values():
        array.sum()  # every entry can be read


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A small file of Keras' and one of safetensors."""
    folder = tmp_path_factory.mktemp("weights")
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    keras_format.write(folder / "w.h5", {"fc/fc/kernel": array, "fc/fc/bias": array[0]})
    safetensors_format.write(
        folder / "w.safetensors", {"a": array, "b": array[0]}, {"format": "imgcls_jax"}
    )
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", [".h5", ".safetensors"])
@examples(100)
@given(data=st.data())
def test_any_other_file_of_weights(tried, tmp_path, others, little_memory, suffix, data):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(damaged(data.draw, others[suffix]))
    for array in (tried.either(formats.read, path) or {}).values():
        np.asarray(array).sum()


@examples(100)
@given(st.binary(max_size=200))
def test_any_bytes_as_weights(tried, tmp_path, content):
    path = tmp_path / "w"
    starts = [
        b"",
        torch_format.ZIP_START,
        torch_format.LEGACY_START,
        keras_format.START,
        b"\x10" + bytes(7) + b"{",
    ]
    for start in starts:
        path.write_bytes(start + content)
        tried.either(formats.read, path)


@examples(100)
@given(st.data())
def test_any_predictions_of_a_run(tried, tmp_path, little_memory, data):
    path = tmp_path / "predictions.npz"
    np.savez(
        path, probabilities=np.full((3, 2), 0.5, np.float32), labels=LABELS.astype(np.int32) % 2
    )
    path.write_bytes(damaged(data.draw, path.read_bytes()))
    tried.either(lambda: RunFolder(tmp_path).predictions)


def test_the_errors_are_ours():
    """What `tried.either` lets pass are these alone."""
    assert UserError.__module__ == "imgcls_jax.errors"
    assert {each.__name__ for each in UserError.__subclasses__()} >= {
        "ConfigError",
        "DataError",
        "RunError",
    }
