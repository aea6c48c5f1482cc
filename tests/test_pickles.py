"""Every pickle instruction: its value, and that small files never need much time or memory."""

import ast
import io
import pickletools
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from imgcls_jax import pickles
from imgcls_jax.data import cifar
from imgcls_jax.errors import DataError
from imgcls_jax.pickles import Damaged, Refused
from imgcls_jax.pretrained import torch_format, torch_pickle

ROOT = Path(__file__).parents[1]
DICT = b"ccollections\nOrderedDict\n"
# For each supported instruction a pickle with it, and its value.
SUPPORTED = {
    "PROTO": (b"\x80\x02N", None),
    "FRAME": (b"\x95" + bytes(8) + b"N", None),
    "MARK": (b"(t", ()),
    "NONE": (b"N", None),
    "NEWTRUE": (b"\x88", True),
    "NEWFALSE": (b"\x89", False),
    "BININT": (b"J\xff\xff\xff\xff", -1),
    "BININT1": (b"K\x05", 5),
    "BININT2": (b"M\x05\x01", 261),
    "LONG1": (b"\x8a\x02\x00\x01", 256),
    "BINFLOAT": (b"G" + struct.pack(">d", 0.5), 0.5),
    "BINUNICODE": (b"X\x02\x00\x00\x00ab", "ab"),
    "SHORT_BINUNICODE": (b"\x8c\x02ab", "ab"),
    "BINSTRING": (b"T\x02\x00\x00\x00ab", "ab"),
    "SHORT_BINSTRING": (b"U\x02ab", "ab"),
    "BINBYTES": (b"B\x02\x00\x00\x00ab", b"ab"),
    "SHORT_BINBYTES": (b"C\x02ab", b"ab"),
    "EMPTY_DICT": (b"}", {}),
    "EMPTY_LIST": (b"]", []),
    "EMPTY_TUPLE": (b")", ()),
    "BINPUT": (b"Nq\x07", None),
    "LONG_BINPUT": (b"Nr\x07\x00\x00\x00", None),
    "MEMOIZE": (b"N\x94", None),
    "BINGET": (b"K\x05q\x07h\x07\x86", (5, 5)),
    "LONG_BINGET": (b"K\x05q\x07j\x07\x00\x00\x00\x86", (5, 5)),
    "TUPLE": (b"(K\x01K\x02t", (1, 2)),
    "TUPLE1": (b"K\x01\x85", (1,)),
    "TUPLE2": (b"K\x01K\x02\x86", (1, 2)),
    "TUPLE3": (b"K\x01K\x02K\x03\x87", (1, 2, 3)),
    "APPEND": (b"]K\x01a", [1]),
    "APPENDS": (b"](K\x01K\x02e", [1, 2]),
    "SETITEM": (b"}K\x01K\x02s", {1: 2}),
    "SETITEMS": (b"}(K\x01K\x02u", {1: 2}),
    "GLOBAL": (b"ctorch\nFloatStorage\n", np.dtype(np.float32)),
    "STACK_GLOBAL": (b"\x8c\x05torch\x8c\x0cFloatStorage\x93", np.dtype(np.float32)),
    "REDUCE": (DICT + b")R", {}),
    "BUILD": (b"}}b", {}),
    "BINPERSID": (
        b"(\x8c\x07storagectorch\nFloatStorage\n\x8c\x010\x8c\x03cpuK\x06tQ",
        torch_pickle.Storage(np.dtype(np.float32), "0", 6),
    ),
    "STOP": (b"N", None),
}


def parse(content: bytes):
    return torch_pickle.parse(io.BytesIO(content))


@pytest.mark.parametrize("name", SUPPORTED)
def test_an_instruction_gives_its_value(name):
    content, expected = SUPPORTED[name]
    value = parse(content + b".")
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize("opcode", pickletools.opcodes, ids=lambda opcode: opcode.name)
def test_every_other_instruction_is_refused_and_none_works_on_nothing(opcode):
    """Behind an empty stack, with whatever may follow."""
    for rest in (b"", b"." * 20, bytes(20) + b".", b"\xff" * 20 + b".", b"1\n2\n."):
        try:
            parse(opcode.code.encode("latin-1") + rest)
        except (Refused, Damaged):
            pass  # refused for its name, cut off, or nothing on the stack
        else:
            assert opcode.name in SUPPORTED


def nested(levels: int = 30) -> bytes:
    """A list that contains another list twice, and so on.

    Walking through it takes two to the power of `levels` steps.
    """
    lists = [b"]q\x00"]
    for level in range(1, levels):
        get_previous = b"h" + bytes([level - 1])
        lists.append(b"](" + 2 * get_previous + b"eq" + bytes([level]))
    return b"".join(lists)


def nested_tuples(levels: int = 40) -> bytes:
    """The same with tuples, which could be hashed."""
    return b")q\x00" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(levels))


def text(content: str) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content.encode()


def legacy(*parts: bytes) -> bytes:
    return torch_format.LEGACY_START + b"".join(b"\x80\x02" + part + b"." for part in parts)


ITEMS = b"](" + b"".join(b"M" + struct.pack("<H", k) + b"N\x86" for k in range(60_000)) + b"eq\x01"
LONG = b"\x8a\xff" + b"\xff" * 254 + b"\x7f"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R"
BYTES = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
TORCH_BOMBS = {
    "a version that is nested": legacy(nested()),
    "a magic number that is nested": b"\x80\x02" + nested() + b".",
    "a description that is nested": legacy(b"M\xe9\x03", nested(), b"}", b"]"),
    "keys that are nested": legacy(
        b"M\xe9\x03", b"}" + text("little_endian") + b"\x88s", b"}", b"](" + nested_tuples() + b"e"
    ),
    "copies of a dict": DICT + b"q\x00" + ITEMS + b"](" + b"h\x00h\x01\x85R" * 5000 + b"e",
    "shapes of many sides": (
        TENSOR + b"q\x00(" + b"K\x01" * 60_000 + b"tq\x01](" + b"h\x00(NK\x00h\x01h\x01NNtR" * 5000 + b"e"
    ),
    "long numbers": b"(" + LONG * 60_000 + b"t",
    "numbers to multiply": LONG + b"q\x00(" + b"h\x00" * 60_000 + b"t",
    "a long text": text("a" * 70_000),
    "many instructions": b"]" * 1_100_000,
    "much in the memo": b"N" + b"\x94" * 1_100_000,
    "tuples as keys": nested_tuples() + b"}h\x00Ns",
}  # fmt: skip


@pytest.fixture
def limited():
    """Fails a test that takes much time or memory."""
    tracemalloc.start()
    start = time.process_time()
    yield
    seconds = time.process_time() - start  # of this process, on a busy machine, too
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 30
    assert peak < 200e6


@pytest.mark.parametrize("name", TORCH_BOMBS)
def test_a_small_file_of_weights_takes_little(name, limited, tmp_path):
    content = TORCH_BOMBS[name]
    path = tmp_path / "w.pth"
    files = [content] if content.startswith(torch_format.LEGACY_START) else []
    if not files:
        archive = tmp_path / "z.pth"
        with torch_format.zipfile.ZipFile(archive, "w") as writer:
            writer.writestr("a/data.pkl", b"\x80\x02" + content + b".")
        files = [archive.read_bytes(), torch_format.LEGACY_START + b"\x80\x02" + content + b"."]
    for file in files:
        path.write_bytes(file)
        with pytest.raises(DataError) as error:
            torch_format.read(path)
        assert len(str(error.value)) < 1000 and "\n" not in str(error.value)


def batch(data: bytes, labels: bytes = b"]") -> bytes:
    return b"\x80\x02}(" + text("data") + data + text("labels") + labels + b"u."


CIFAR_BOMBS = {
    "a text encoded often": batch(
        b"c_codecs\nencode\nq\x00" + text("a" * 1_000_000) + b"q\x01](" + b"h\x00h\x01\x85R" * 20_000 + b"e"
    ),
    "arrays of one text": batch(
        text("a" * 1_000_000) + b"q\x01](" + (ARRAY + b"(K\x01)" + BYTES + b"\x89h\x01tb") * 5000 + b"e"
    ),
    "a shape that is nested": batch(nested() + ARRAY + b"(K\x01h\x1d\x85" + BYTES + b"\x89C\x00tb"),
    "a shape of many sides": batch(ARRAY + b"(K\x01(" + b"J\xff\xff\xff\x7f" * 60_000 + b"t" + BYTES + b"\x89C\x00tb"),
    "sides that are long": batch(ARRAY + b"(K\x01(" + LONG * 3 + b"t" + BYTES + b"\x89C\x00tb"),
    "labels beyond a number": batch(
        ARRAY + b"(K\x01(K\x01M\x00\x0ct" + BYTES + b"\x89B\x00\x0c\x00\x00" + bytes(3072) + b"tb",
        b"](\x8a\x09" + bytes(8) + b"\x01e",
    ),
    "a key with a line break": b"\x80\x02}(" + text("a\nb\x1b[2J") + b"Nu.",
}  # fmt: skip


@pytest.mark.parametrize("name", CIFAR_BOMBS)
def test_a_small_batch_takes_little(name, limited):
    with pytest.raises(DataError) as error:
        cifar._read_python_batch(CIFAR_BOMBS[name], "a batch")
    message = str(error.value)
    assert len(message) < 1000
    assert "\n" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize(
    "names",
    [b"h\x1d", b"](" + text("a" * 300) + b"e", b"](" + text("a") * 1001 + b"e", b"](K\x01e"],
)
def test_class_names_that_are_none(names, limited):
    with pytest.raises(DataError, match="label_names"):
        cifar._read_python_names(
            b"\x80\x02" + nested() + b"}" + text("label_names") + names + b"s.", "batches.meta"
        )


def test_calls_may_make_as_much_as_the_file_holds():
    """In files of Python 3 in the old format each text is encoded once."""
    call = b"h\x00" + text("a" * 1000) + b"\x85R"
    once = b"c_codecs\nencode\nq\x00](" + 50 * call + b"e."
    assert cifar._Batch().parse(io.BytesIO(once)) == [b"a" * 1000] * 50


def test_the_largest_number_of_instructions_is_read(monkeypatch):
    monkeypatch.setattr(pickles, "MAX_INSTRUCTIONS", 5)
    assert parse(b"NNNNN.") is None
    with pytest.raises(Damaged, match="more than 5 instructions"):
        parse(b"NNNNNN.")


UNPICKLERS = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
}


def test_nothing_here_imports_pickle():
    """The package reads pickles by its own machine, and imports only pickletools' table."""
    for path in [ROOT / "launch.py", *sorted((ROOT / "imgcls_jax").rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules = {name.split(".")[0] for name in names}
            assert not modules & UNPICKLERS, f"{path}, line {node.lineno}"
            if isinstance(node, ast.Attribute):
                forbidden = ("Unpickler", "read_pickle", "find_class")
                assert node.attr not in forbidden, f"{path}, line {node.lineno}"
