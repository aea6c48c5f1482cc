"""PyTorch's files, as torch wrote them (files/make_torch_files.py) and as an attacker would."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgcls_jax import pickles
from imgcls_jax.errors import DataError
from imgcls_jax.pretrained import torch_format, torch_pickle

FILES = Path(__file__).parent / "files"
BASE = np.arange(24, dtype=np.float32)
DTYPES = {
    "float64": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint8": np.uint8,
}
TENSORS = {
    "plain": BASE.reshape(2, 3, 4),
    "transposed": BASE.reshape(4, 6).T,
    "strided": BASE[1::2],
    "shared_first": BASE[:12].reshape(3, 4),
    "shared_second": BASE[12:].reshape(4, 3).T,
    "parameter": np.full((2, 2), 0.5, np.float32),
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    **{name: np.array([0, 1, 2, 100]).astype(dtype) for name, dtype in DTYPES.items()},
    "bool": np.array([False, True, True, True]),
}
NESTED = {
    "0.weight": np.full((2, 3), 0.25, np.float32),
    "0.bias": np.full(2, 0.25, np.float32),
    "1.weight": np.full(2, 0.25, np.float32),
    "1.bias": np.full(2, 0.25, np.float32),
}
STORED = np.arange(6, dtype=np.float32)  # the content of the storages below


# ---------------------------------------------------------------------------------------------
# Files for the tests


class Planted:
    """Pickles as a call: what runs when somebody unpickles it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def write_zip(path, pickled: bytes, storages=None, **options) -> Path:
    """Writes torch's zip format; storages: their contents by key."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def write_legacy(path, pickled: bytes, keys=(), storages=b"") -> Path:
    """Writes torch's legacy format."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    version = pickle.dumps(1001, 2)
    system = pickle.dumps({"little_endian": True}, 2)
    pickled_keys = pickle.dumps(list(keys), 2)
    path.write_bytes(b"".join([magic, version, system, pickled, pickled_keys, storages]))
    return path


def write_both(folder, pickled: bytes) -> list[Path]:
    return [write_zip(folder / "z.pth", pickled), write_legacy(folder / "l.pth", pickled)]


def write_both_with_storage(folder, pickled: bytes) -> list[Path]:
    """Writes both formats with the storage "0" that has STORED."""
    content = STORED.tobytes()
    size = struct.pack("<q", STORED.size)
    return [
        write_zip(folder / "z.pth", pickled, {"0": content}),
        write_legacy(folder / "l.pth", pickled, ["0"], size + content),
    ]


def pickled_tensor(
    *, size=6, offset=0, shape=(2, 3), strides=(3, 1), key="0", kind="FloatStorage"
) -> bytes:
    """The pickle of {"a": tensor} with any figures."""
    plain = torch_format._plain
    parts = [
        b"\x80\x02}",
        plain("a"),
        b"ctorch._utils\n_rebuild_tensor_v2\n(",
        b"(",
        plain("storage"),
        f"ctorch\n{kind}\n".encode(),
        plain(key),
        plain("cpu"),
        plain(size),
        b"tQ",
        plain(offset),
        plain(shape),
        plain(strides),
        plain(False),
        b"}",
        b"tRs.",
    ]
    return b"".join(parts)


def assert_equal(arrays, expected):
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)  # shape and type too


# ---------------------------------------------------------------------------------------------
# Files that torch wrote


@pytest.mark.parametrize("name", ["zip", "zip_protocol4", "legacy"])
def test_every_kind_of_tensor_that_torch_wrote(name):
    arrays = torch_format.read(FILES / f"{name}.pth")
    assert_equal(arrays, TENSORS)
    assert arrays["scalar"].shape == ()
    assert arrays["transposed"].strides == (4, 24)


@pytest.mark.parametrize("name", ["nested", "nested_legacy"])
def test_the_state_dict_of_a_larger_checkpoint(name):
    arrays = torch_format.read(FILES / f"{name}.pth")
    assert_equal({key: arrays[key] for key in NESTED}, NESTED)
    assert arrays["1.num_batches_tracked"].shape == ()
    assert len(arrays) == 7


def test_a_whole_model_is_refused_with_the_way_out():
    with pytest.raises(DataError, match=r"container\.Sequential.*state_dict\(\)"):
        torch_format.read(FILES / "whole_model.pth")


# ---------------------------------------------------------------------------------------------
# Files that do more than hold weights


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_planted_call_is_refused_and_not_executed(tmp_path, protocol):
    proof = tmp_path / "executed"
    pickled = pickle.dumps({"weight": Planted(os.system, f"touch {proof}")}, protocol)
    for path in write_both(tmp_path, pickled):
        with pytest.raises(DataError, match=r"refused: it asks for 'posix\.system'"):
            torch_format.read(path)
    assert not proof.exists()
    pickle.loads(pickled)
    assert proof.exists(), "the test would notice"


@pytest.mark.parametrize(
    "instructions",
    [
        b"cbuiltins\neval\n",
        b"ctorch.storage\n_load_from_bytes\n",
        b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n",
        b"ctorch\nload\n",
        b"cos\nFloatStorage\n",
        b"(ios\nsystem\n",  # INST, a call in one instruction
        b"\x82\x01",  # EXT1, a name from copyreg's table
        b"ccollections\nOrderedDict\n)\x81",  # NEWOBJ
        b"(cposix\nsystem\nX\x01\x00\x00\x00ao",  # OBJ
        b"Pfile\n",  # PERSID
    ],
)
def test_other_names_and_instructions_are_refused(tmp_path, instructions):
    for path in write_both(tmp_path, b"\x80\x02" + instructions + b"."):
        with pytest.raises(DataError, match="refused: it asks for"):
            torch_format.read(path)


# ---------------------------------------------------------------------------------------------
# Damaged files


@pytest.mark.parametrize(
    "figures",
    [
        {"offset": 1},
        {"strides": (4, 1)},
        {"shape": (3, 3)},
        {"shape": (2**40, 2**40), "strides": (0, 0)},  # of one entry, a thousand zettabytes
        {"shape": (7,), "strides": (0,)},
        {"shape": (-1, 3)},
        {"strides": (-3, 1), "offset": 3},
        {"strides": (1,)},
        {"shape": (1,) * 40, "strides": (1,) * 40},
        {"shape": (0, 2**47, 2**47), "strides": (1, 1, 1)},
        {"size": 7},
        {"size": 2**40},
        {"size": 2**62},
        {"size": True},
        {"kind": "DoubleStorage"},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"shape": "ab"},
    ],
    ids=str,
)
def test_figures_that_do_not_fit_what_is_stored(tmp_path, figures):
    for path in write_both_with_storage(tmp_path, pickled_tensor(**figures)):
        with pytest.raises(DataError, match=f"{path.name} is damaged"):
            torch_format.read(path)


def test_figures_that_fit_are_accepted(tmp_path):
    for path in write_both_with_storage(tmp_path, pickled_tensor()):
        assert_equal(torch_format.read(path), {"a": STORED.reshape(2, 3)})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02r\xff\xff\xff\xff.",  # LONG_BINPUT of the largest number, with nothing to put
        b"\x80\x02Nr\xff\xff\xff\xff.",  # with something: Python's own unpickler takes 32 GB for it
        b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",  # BINUNICODE8 of eight exabytes
        b"\x80\x02" + b"(" * 1000 + b".",
        b"\x80\x02t.",
        b"\x80\x02h\x05.",
        b"\x80\x02}]Ns.",  # a list as a key
        b"\x80\x02}(NNNu.",
        b"\x80\x02N\x86.",  # a pair of one
        b"\x80\x02}" + b")" + b"\x85" * 5 + b"Ns.",  # a tuple as a key
        b"\x80\x02]"
        + b"q\x00h\x00h\x00\x86" * 60
        + b".",  # two to the power of sixty, if one walked through it
    ],
    ids=range(14),
)
def test_broken_pickles(tmp_path, content):
    for path in write_both(tmp_path, content):
        with pytest.raises(DataError, match="is damaged|refused"):
            torch_format.read(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "there are none"),
        ([1], "holds a list"),
        ({"a": 1, "b": {"c": 2}}, "entries that are not: 'a', 'b'"),
        ({"state_dict": {"a": None}}, "not: 'a'"),
        ({3: None}, "not: 3"),
    ],
)
def test_files_without_a_state_dict(tmp_path, value, message):
    for path in write_both(tmp_path, pickle.dumps(value, 2)):
        with pytest.raises(DataError, match=message):
            torch_format.read(path)


def test_a_compressed_archive_is_not_unpacked(tmp_path):
    path = tmp_path / "z.pth"
    storages = {"0": bytes(10**6)}
    write_zip(path, pickled_tensor(), storages, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="compressed"):
        torch_format.read(path)


def test_a_flipped_bit_in_a_zip_file(tmp_path):
    content = bytearray((FILES / "zip.pth").read_bytes())
    start = bytes(content).index(BASE.tobytes())
    content[start + 5] ^= 1
    damaged = tmp_path / "z.pth"
    damaged.write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32"):
        torch_format.read(damaged)


@pytest.mark.parametrize("name", ["zip", "legacy", "nested", "nested_legacy"])
def test_truncated_anywhere(tmp_path, name):
    content = (FILES / f"{name}.pth").read_bytes()
    damaged = tmp_path / "t.pth"
    for end in range(0, len(content), 97):
        damaged.write_bytes(content[:end])
        with pytest.raises(DataError, match="t.pth is damaged"):
            torch_format.read(damaged)


CONTENTS = {name: (FILES / f"{name}.pth").read_bytes() for name in ("zip", "legacy")}


@pytest.mark.parametrize("name", CONTENTS)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_change_gives_arrays_or_a_data_error(tmp_path, name, data):
    content = bytearray(CONTENTS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        stop = start + data.draw(st.integers(0, 3))
        content[start:stop] = data.draw(st.binary(max_size=4))
    damaged = tmp_path / "d.pth"
    damaged.write_bytes(content)
    try:
        for array in torch_format.read(damaged).values():
            array.copy()  # every entry can be read
    except DataError:
        pass


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_pickle_gives_an_object_or_an_error_of_pickles(content):
    try:
        torch_pickle.parse(io.BytesIO(b"\x80\x02" + content))
    except (pickles.Damaged, pickles.Refused):
        pass


# ---------------------------------------------------------------------------------------------
# Writing


def test_written_and_read_again(tmp_path):
    path = tmp_path / "w.pth"
    torch_format.write(path, TENSORS)
    assert_equal(torch_format.read(path), TENSORS)
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]
    first = path.read_bytes()
    torch_format.write(path, TENSORS)
    assert path.read_bytes() == first


def test_torch_reads_what_was_written(tmp_path):
    torch = pytest.importorskip("torch")
    torch_format.write(tmp_path / "w.pth", TENSORS)
    state = torch.load(tmp_path / "w.pth", weights_only=True)
    assert list(state) == list(TENSORS)
    for name, array in TENSORS.items():
        tensor = state[name]
        assert str(tensor.dtype) == f"torch.{array.dtype.name}"
        assert tuple(tensor.shape) == array.shape
        values = tensor.to(torch.float64).numpy()
        np.testing.assert_array_equal(values, array.astype(np.float64))
