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
TENSORS = {
    "plain": BASE.reshape(2, 3, 4),
    "transposed": BASE.reshape(4, 6).T,
    "strided": BASE[1::2],
    "shared_first": BASE[:12].reshape(3, 4),
    "shared_second": BASE[12:].reshape(4, 3).T,
    "parameter": np.full((2, 2), 0.5, np.float32),
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    **{
        name: np.array([0, 1, 2, 100]).astype(
            getattr(ml_dtypes if name == "bfloat16" else np, name)
        )
        for name in ("float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")
    },
    "bool": np.array([False, True, True, True]),
}
NESTED = {
    "0.weight": np.full((2, 3), 0.25, np.float32),
    "0.bias": np.full(2, 0.25, np.float32),
    "1.weight": np.full(2, 0.25, np.float32),
    "1.bias": np.full(2, 0.25, np.float32),
}


class Planted:
    """Pickles as a call: what runs when somebody unpickles it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def zipped(path, content: bytes, storages=(), **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", content)
        for key, storage in storages:
            archive.writestr(f"archive/data/{key}", storage)
    return path


def legacy(path, content: bytes, keys=(), storages=b"") -> Path:
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    path.write_bytes(
        b"".join(
            [
                *(pickle.dumps(part, 2) for part in parts),
                content,
                pickle.dumps(list(keys), 2),
                storages,
            ]
        )
    )
    return path


def tensor(
    *, size=6, offset=0, shape=(2, 3), strides=(3, 1), key="0", kind="FloatStorage"
) -> bytes:
    """The pickle of {"a": tensor} with any figures."""
    plain = torch_format._plain
    storage = (
        b"("
        + plain("storage")
        + f"ctorch\n{kind}\n".encode()
        + plain(key)
        + plain("cpu")
        + plain(size)
        + b"tQ"
    )
    view = plain(offset) + plain(shape) + plain(strides) + plain(False) + b"}"
    return (
        b"\x80\x02}"
        + plain("a")
        + b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + view
        + b"tRs."
    )


def in_both(folder, content: bytes) -> list[Path]:
    return [zipped(folder / "z.pth", content), legacy(folder / "l.pth", content)]


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)  # shape and type too


@pytest.mark.parametrize("name", ["zip", "zip_protocol4", "legacy"])
def test_every_kind_of_tensor_that_torch_wrote(name):
    found = torch_format.read(FILES / f"{name}.pth")
    assert_equal(found, TENSORS)
    assert found["scalar"].shape == () and found["transposed"].strides == (4, 24)


@pytest.mark.parametrize("name", ["nested", "nested_legacy"])
def test_the_state_dict_of_a_larger_checkpoint(name):
    found = torch_format.read(FILES / f"{name}.pth")
    assert_equal({key: found[key] for key in NESTED}, NESTED)
    assert found["1.num_batches_tracked"].shape == () and len(found) == 7


def test_a_whole_model_is_refused_with_the_way_out():
    with pytest.raises(DataError, match=r"container\.Sequential.*state_dict\(\)"):
        torch_format.read(FILES / "whole_model.pth")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_planted_call_is_refused_and_not_executed(tmp_path, protocol):
    proof = tmp_path / "executed"
    content = pickle.dumps({"weight": Planted(os.system, f"touch {proof}")}, protocol)
    for path in in_both(tmp_path, content):
        with pytest.raises(DataError, match=r"refused: it asks for 'posix\.system'"):
            torch_format.read(path)
    assert not proof.exists()
    pickle.loads(content)
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
    for path in in_both(tmp_path, b"\x80\x02" + instructions + b"."):
        with pytest.raises(DataError, match="refused: it asks for"):
            torch_format.read(path)


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
    content, storage = tensor(**figures), np.arange(6, dtype=np.float32).tobytes()
    archive = zipped(tmp_path / "z.pth", content, [("0", storage)])
    old = legacy(tmp_path / "l.pth", content, ["0"], struct.pack("<q", 6) + storage)
    for path in (archive, old):
        with pytest.raises(DataError, match=f"{path.name} is damaged"):
            torch_format.read(path)


def test_the_figures_above_are_refused_for_their_own_sake(tmp_path):
    storage = np.arange(6, dtype=np.float32).tobytes()
    expected = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    assert_equal(
        torch_format.read(zipped(tmp_path / "z.pth", tensor(), [("0", storage)])), expected
    )
    old = legacy(tmp_path / "l.pth", tensor(), ["0"], struct.pack("<q", 6) + storage)
    assert_equal(torch_format.read(old), expected)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02r\xff\xff\xff\xff.",  # LONG_BINPUT of the last number there is, with nothing to put
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
    for path in in_both(tmp_path, content):
        with pytest.raises(DataError, match="is damaged|refused"):
            torch_format.read(path)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "there are none"),
        ([1], "holds a list"),
        ({"a": 1, "b": {"c": 2}}, "entries that are not: 'a', 'b'"),
        ({"state_dict": {"a": None}}, "not: 'a'"),
        ({3: None}, "not: 3"),
    ],
)
def test_what_is_no_state_dict(tmp_path, value, text):
    for path in in_both(tmp_path, pickle.dumps(value, 2)):
        with pytest.raises(DataError, match=text):
            torch_format.read(path)


def test_what_unpacks_to_more_than_the_file_is_not_unpacked(tmp_path):
    packed = zipped(
        tmp_path / "z.pth", tensor(), [("0", bytes(10**6))], compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(DataError, match="compressed"):
        torch_format.read(packed)


def test_a_flipped_bit_in_a_zip_file(tmp_path):
    content = bytearray((FILES / "zip.pth").read_bytes())
    place = bytes(content).index(BASE.tobytes())
    content[place + 5] ^= 1
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


TRUTH = {name: (FILES / f"{name}.pth").read_bytes() for name in ("zip", "legacy")}


@pytest.mark.parametrize("name", TRUTH)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_changed_gives_arrays_or_a_data_error(tmp_path, name, data):
    content = bytearray(TRUTH[name])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    damaged = tmp_path / "d.pth"
    damaged.write_bytes(content)
    try:
        for array in torch_format.read(damaged).values():
            array.copy()  # every entry can be read
    except DataError:
        pass


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_the_machine_ends_with_an_object_or_an_error_of_its_own(content):
    try:
        torch_pickle.parse(io.BytesIO(b"\x80\x02" + content))
    except (pickles.Damaged, pickles.Refused):
        pass


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
    found = torch.load(tmp_path / "w.pth", weights_only=True)
    assert list(found) == list(TENSORS)
    for name, array in TENSORS.items():
        assert (
            str(found[name].dtype) == f"torch.{array.dtype.name}"
            and tuple(found[name].shape) == array.shape
        )
        np.testing.assert_array_equal(
            found[name].to(torch.float64).numpy(), array.astype(np.float64)
        )
