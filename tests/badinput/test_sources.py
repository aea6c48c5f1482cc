"""Every file of every data source with every kind of damage: refused before training, by name."""

import gzip
import io
import json
import os
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from imgcls_jax import data
from tests.badinput.test_config import changed
from tests.data import test_cifar as cifar
from tests.data import test_readers as readers
from tests.data import test_tfds_reader as tfds

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 4, 4, 1), dtype=np.uint8)
LABELS = np.arange(12, dtype=np.int32) % 3
ARRAYS = {
    "train_images": IMAGES,
    "train_labels": LABELS,
    "test_images": IMAGES,
    "test_labels": LABELS,
}


ARCHIVE = "cifar-10-python.tar.gz"


def write_idx(folder, suffix=""):
    for prefix in ("train", "t10k"):
        readers.write_idx(
            folder,
            images=IMAGES[..., 0],
            labels=LABELS.astype(np.uint8),
            prefix=prefix,
            suffix=suffix,
        )
    return folder


def csv_lines() -> list[str]:
    lines = [",".join(["label", *(f"p{i}" for i in range(16))])]
    for image, label in zip(IMAGES, LABELS, strict=True):
        lines.append(",".join(map(str, [label, *image.ravel()])))
    return lines


def write_csv(folder):
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text("\n".join(csv_lines()) + "\n")
    return folder


def write_npz(folder, **arrays):
    np.savez(folder / "a.npz", **(ARRAYS | arrays))
    return folder / "a.npz"


def write_folder(folder):
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        for split in ("train", "test"):
            path = folder / split / f"class{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0].repeat(8, 0).repeat(8, 1)).save(path)
    return folder


def write_tfds(folder):
    tfds.write_prepared(folder, tfds.IMAGES * 3, tfds.LABELS * 3, file_format="array_record")
    return folder


FORMS = {
    "idx": ("idx", write_idx),
    "idx.gz": ("idx", lambda folder: write_idx(folder, ".gz")),
    "csv": ("csv", write_csv),
    "npz": ("npz", write_npz),
    "folder": ("folder", write_folder),
    "cifar python": (
        "cifar",
        lambda folder: cifar.write_folder(folder / "c", cifar.python_files()),
    ),
    "cifar binary": (
        "cifar",
        lambda folder: cifar.write_folder(folder / "c", cifar.binary_files()),
    ),
    "cifar archive": (
        "cifar",
        lambda folder: cifar.write_archive(folder / ARCHIVE, cifar.python_files(), "c"),
    ),
    "tfds": ("tfds", write_tfds),
}
PAGE = b"<!doctype html><html><title>502 Bad Gateway</title></html>"
DAMAGES = {
    "missing": None,
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "half": lambda content: content[: len(content) // 2],
    "without its last ten bytes": lambda content: content[:-10],
    "too long": lambda content: content + b"more of it, and more",
    "noise": lambda content: np.random.default_rng(1).bytes(len(content)),
    "zeros": lambda content: bytes(len(content)),
    "a page": lambda content: PAGE,
    "JSON": lambda content: b"{}",
    "list": lambda content: b"[1, 2]",
}
# Damage that is not noticed and does no harm: nothing reads these bytes, or what is left is a whole
# data set.
HARMLESS = {
    "readme.html": DAMAGES,
    "label.labels.txt": DAMAGES,  # the names of the classes
    ".png": ("missing", "too long", "without its last ten bytes"),  # whose pixels are all there
    ".gz": ("too long",),
    ".tar.gz": ("too long", "without its last ten bytes"),
    "batches.meta": ("too long",),
    "data_batch": ("too long",),
    "test_batch": ("too long",),
    ".npz": ("too long",),
    "train.csv": ("without its last ten bytes",),
    "test.csv": ("missing", "without its last ten bytes"),
    "batches.meta.txt": (
        "half",
        "one byte",
        "noise",
        "zeros",
        "a page",
        "JSON",
        "list",
        "without its last ten bytes",
    ),
    "array_record": ("too long",),
    ".bin": ("zeros",),  # black images of the first class
    "json": ("too long",),
}


def config(source: str, path, **options):
    defaults = {
        "data.source": source,
        "data.name": "tiny",
        "data.path": str(path),
        "data.cache": "",
        "data.validation_size": 3,
    }
    return changed(**(defaults | options)).data


def is_harmless(file, damage: str) -> bool:
    return any(part in file.name and damage in names for part, names in HARMLESS.items())


@pytest.mark.filterwarnings("ignore")  # of TFDS, for what is damaged
@pytest.mark.parametrize("form", FORMS)
def test_every_file_with_every_damage(form, tried, tmp_path):
    source, write = FORMS[form]
    whole = write(tmp_path)
    assert len(data.load(config(source, whole)).train) >= 7
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    if source == "folder":
        files = files[:2]
    for file in files:
        content = file.read_bytes()
        for name, damage in DAMAGES.items():
            file.unlink()
            if damage:
                file.write_bytes(damage(content))
            splits = tried.either(data.load, config(source, whole))
            assert splits is None or is_harmless(file, name), f"{file.name} {name} was not noticed"
            file.write_bytes(content)
    data.load(config(source, whole))


def npz(**arrays):
    return lambda folder: ("npz", write_npz(folder, **arrays))


def csv(*lines, head=None):
    def write(folder):
        rows = csv_lines()
        content = "\n".join([head or rows[0], *(lines or rows[1:])])
        (folder / "a.csv").write_text(content + "\n")
        return "csv", folder / "a.csv"

    return write


def png(content):
    def write(folder):
        write_folder(folder)
        content(folder)
        return "folder", folder

    return write


def tarred(files):
    return lambda folder: ("cifar", cifar.write_archive(folder / ARCHIVE, files, "../../c"))


ROW = ",".join(["1"] * 17)
NAN = np.where(IMAGES == 0, np.nan, IMAGES / 255.0)
OBJECTS = np.array([{"a": 1}] * 12, dtype=object)
WRONG = {
    "labels of other length": (npz(train_labels=LABELS[:5]), "12 images but 5 labels"),
    "labels negative": (npz(train_labels=LABELS - 1), "out of range"),
    "labels far away": (npz(train_labels=LABELS * 10**6), "out of range"),
    "labels of floats": (npz(train_labels=LABELS + 0.5), "integers from 0"),
    "labels not finite": (npz(train_labels=LABELS + np.nan), "integers from 0"),
    "labels of text": (npz(train_labels=LABELS.astype(str)), "integers from 0"),
    "labels one-hot": (npz(train_labels=np.eye(3, dtype=int)[LABELS]), "shape 12x3"),
    "labels scalar": (npz(train_labels=np.array(3)), "labels of the train split have"),
    "test labels unknown": (npz(test_labels=LABELS + 1), "out of range"),
    "images NaN": (npz(train_images=np.full((12, 4, 4, 1), np.nan)), "missing (NaN)"),
    "images of floats": (npz(train_images=IMAGES / 255.0), "uint8"),
    "images infinite": (npz(train_images=IMAGES / 255.0 + np.inf), "uint8"),
    "images complex": (npz(train_images=IMAGES * 1j), "uint8"),
    "images of text": (npz(train_images=IMAGES.astype(str)), "uint8"),
    "images flat": (npz(train_images=IMAGES.reshape(12, 16)), "shape"),
    "images scalar": (npz(train_images=np.uint8(3)), "image"),
    "images of two channels": (npz(train_images=IMAGES.repeat(2, -1)), "channels"),
    "images channels first": (npz(train_images=np.zeros((12, 3, 4, 4), np.uint8)), "channels last"),
    "no images": (npz(train_images=IMAGES[:0], train_labels=LABELS[:0]), "no image"),
    "images of no size": (npz(train_images=np.zeros((12, 0, 0, 1), np.uint8)), "0x0"),
    "test images of another size": (npz(test_images=np.zeros((12, 5, 4, 1), np.uint8)), "5x4x1"),
    "objects as images": (npz(train_images=OBJECTS), "arrays of objects"),
    "objects as labels": (npz(train_labels=OBJECTS), "arrays of objects"),
    "objects as names": (npz(class_names=OBJECTS), "arrays of objects"),
    "fewer names than classes": (npz(class_names=np.array(["a"])), "out of range"),
    "CSV without label": (csv(head=",".join(f"p{i}" for i in range(17))), "named 'label'"),
    "CSV with two labels": (csv(head="label,label," + ",".join(["p"] * 15)), "named 'label'"),
    "CSV of no square": (csv(head="label,a,b"), "square number"),
    "CSV ragged": (csv(ROW, ROW + ",3"), "line 3 has 18 columns"),
    "CSV short": (csv(ROW, "1,2"), "line 3 has 2 columns"),
    "CSV with a gap": (csv(ROW, "", ROW), "line 3 is empty"),
    "CSV with its header twice": (csv(ROW, csv_lines()[0], ROW), "header of line 1 is repeated"),
    "CSV of text": (csv(ROW, ROW[:-1] + "a"), "line 3"),
    "CSV of floats": (csv(ROW[:-1] + "0.5"), "line 2"),
    "CSV NaN": (csv(ROW[:-1] + "nan"), "line 2"),
    "CSV without value": (csv(ROW[:-1]), "line 2"),
    "CSV infinite": (csv(ROW[:-1] + "inf"), "line 2"),
    "CSV of large numbers": (csv(ROW[:-1] + "9" * 400), "line 2"),
    "CSV beyond int16": (csv(ROW[:-1] + "40000"), "line 2"),
    "CSV pixel of 256": (csv(ROW[:-1] + "256"), "line 2"),
    "CSV pixel of -1": (csv(ROW[:-1] + "-1"), "line 2"),
    "CSV quoted": (csv('"1' + ROW), "cannot be read as integers"),
    "CSV header alone": (csv("", head=csv_lines()[0]), "no rows"),
    "CSV zero bytes": (csv("\0" + ROW), "line 2"),
    "a link to nowhere": (png(lambda f: (f / "train/class0/x.png").symlink_to(f / "gone")), "cannot be read"),
    "a folder in a class": (png(lambda f: (f / "train/class0/x.png").mkdir()), "folder inside"),
    "an empty class": (png(lambda f: (f / "train/class9").mkdir()), "is empty"),
    "a class for training alone": (png(lambda f: (f / "test/class0").rename(f / "test/class9")), "only in one of"),
    "an image of another size": (png(lambda f: Image.new("L", (5, 6)).save(f / "train/class0/x.png")), "6x5"),
    "no image at all": (png(lambda f: (f / "train/class0/x.txt").write_text("a note")), "as an image"),
    "no classes": (lambda folder: ("folder", folder), "no class folders"),
    "an archive of something else": (tarred({"x": b""}), "no batch"),
    "an archive of one batch": (tarred({"data_batch_1": b""}), "lacks"),
    "an archive of too much": (tarred({"data_batch_1": bytes(2**26 + 1)}), "bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_well_formed_and_wrong(case, tried, tmp_path):
    write, message = WRONG[case]
    source, path = write(tmp_path)
    assert message in tried.refuses(data.load, config(source, path))
    assert not (tmp_path.parent / "c").exists()


def hostile_npz(shape: str):
    """An array whose header announces what is not there."""

    def write(folder):
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        entry = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(16)
        buffer = io.BytesIO()
        np.savez(buffer, **{key: value for key, value in ARRAYS.items() if key != "train_images"})
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr("train_images.npy", entry)
        (folder / "a.npz").write_bytes(buffer.getvalue())
        return "npz", folder / "a.npz"

    return write


def hostile_idx(*shape: int, suffix=""):
    def write(folder):
        write_idx(folder, suffix)
        path = folder / f"train-images-idx3-ubyte{suffix}"
        content = bytes((0, 0, 8, 3)) + struct.pack(">3I", *shape) + bytes(100)
        path.write_bytes(gzip.compress(content) if suffix else content)
        return "idx", folder

    return write


def hostile_tar(folder):
    path = cifar.write_archive(folder / "cifar-10-python.tar", {"data_batch_1": b"x"}, "c")
    content = bytearray(gzip.decompress(path.read_bytes()))
    # The size, as GNU writes large numbers.
    content[124:136] = b"\x80" + (2**50).to_bytes(11, "big")
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
    path.write_bytes(gzip.compress(bytes(content)))
    return "cifar", path


def hostile_png(folder):
    write_folder(folder)

    def chunk(kind: bytes, content: bytes) -> bytes:
        length = struct.pack(">I", len(content))
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return length + kind + content + checksum

    header = struct.pack(">2I5B", 2**30, 2**30, 8, 0, 0, 0, 0)
    (folder / "train/class0/0.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
    )
    return "folder", folder


def hostile_info(folder):
    write_tfds(folder)
    path = next(folder.rglob("dataset_info.json"))
    info = json.loads(path.read_text())
    info["splits"][0]["shardLengths"] = [str(2**40)]
    path.write_text(json.dumps(info))
    return "tfds", folder


HOSTILE = {
    "npz of a petabyte": hostile_npz("(1000000000000, 4, 4, 64)"),
    "npz beyond any number": hostile_npz(f"({10**30},)"),
    "npz of a negative size": hostile_npz("(-1, 4, 4, 1)"),
    "npz of nothing times much": hostile_npz("(0, 10000000000000)"),
    "idx of 79 octillion": hostile_idx(2**32 - 1, 2**32 - 1, 2**32 - 1),
    "idx of 4 GB": hostile_idx(2**16, 2**8, 2**8),
    "idx.gz of 4 GB": hostile_idx(2**16, 2**8, 2**8, suffix=".gz"),
    "tar of a petabyte": hostile_tar,
    "png of an exapixel": hostile_png,
    "tfds of a trillion": hostile_info,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_size_that_is_announced_takes_no_memory(case, tried, tmp_path):
    source, path = HOSTILE[case](tmp_path)
    if source == "tfds":
        data.load(config("tfds", write_tfds(tmp_path / "whole")))  # imports what it imports
    tracemalloc.start()
    try:
        tried.refuses(data.load, config(source, path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32e6, f"{peak:,} bytes"


def test_what_cannot_be_opened(tried, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    for form, (source, write) in FORMS.items():
        whole = write(tmp_path / form)
        file = next(path for path in sorted((tmp_path / form).rglob("*")) if path.is_file())
        file.chmod(0)
        tried.refuses(data.load, config(source, whole))
