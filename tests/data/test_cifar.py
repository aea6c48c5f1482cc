import gzip
import io
import os
import pickle
import tarfile
import tracemalloc

import numpy as np
import pytest

from imgcls_jax.data.cifar import find_cifar, read_cifar
from imgcls_jax.errors import DataError

NAMES = ("airplane", "automobile", "bird")
BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
RNG = np.random.default_rng(0)
IMAGES = {name: RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8) for name in BATCHES}
LABELS = {name: [i % 3, (i + 1) % 3] for i, name in enumerate(BATCHES)}


def flat(images):
    return np.stack(
        [np.concatenate([image[..., channel].ravel() for channel in range(3)]) for image in images]
    )


def python2_pickle(rows, labels):
    """The pickle of {'data': rows, 'labels': labels} as Python 2 wrote the original files."""
    data = rows.tobytes()
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    return (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01M" + len(rows).to_bytes(2, "little") + b"M" + rows.shape[1].to_bytes(2, "little") + b"\x86"
        + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T" + len(data).to_bytes(4, "little") + data + b"tb"
        + b"U\x06labels](" + numbers + b"eu."
    )  # fmt: skip


def python_files():
    files = {name: python2_pickle(flat(IMAGES[name]), LABELS[name]) for name in BATCHES}
    return files | {
        "batches.meta": pickle.dumps({"label_names": list(NAMES)}, 2),
        "readme.html": b"<html>",
    }


def binary_files():
    files = {}
    for name in BATCHES:
        rows = np.concatenate(
            [np.array(LABELS[name], np.uint8)[:, None], flat(IMAGES[name])], axis=1
        )
        files[f"{name}.bin"] = rows.tobytes()
    return files | {"batches.meta.txt": ("\n".join(NAMES) + "\n\n").encode()}


def write_folder(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path, files, folder):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


VERSIONS = [("py", "python", python_files), ("bin", "binary", binary_files)]


@pytest.mark.parametrize("suffix, version, files", VERSIONS)
@pytest.mark.parametrize("form", ["folder", "parent", "archive", "beside"])
def test_each_version_and_form_gives_the_same_images(tmp_path, suffix, version, files, form):
    if form in ("folder", "parent"):
        folder = write_folder(tmp_path / f"cifar-10-batches-{suffix}", files())
        path = folder if form == "folder" else tmp_path
    else:
        archive = write_archive(
            tmp_path / f"cifar-10-{version}.tar.gz", files(), f"cifar-10-batches-{suffix}"
        )
        path = archive if form == "archive" else tmp_path
    before = sorted(tmp_path.rglob("*"))
    splits, names = read_cifar(find_cifar(path))
    assert names == NAMES and sorted(tmp_path.rglob("*")) == before
    for split, batches in (("train", BATCHES[:5]), ("test", BATCHES[5:])):
        images, labels = splits[split]
        np.testing.assert_array_equal(images, np.concatenate([IMAGES[name] for name in batches]))
        assert labels.dtype == np.int32
        assert labels.tolist() == np.concatenate([LABELS[name] for name in batches]).tolist()


def test_pickles_of_newer_versions_are_read_as_well(tmp_path):
    files = python_files()
    for name in BATCHES:
        files[name] = pickle.dumps({"data": flat(IMAGES[name]), "labels": LABELS[name]}, 4)
    splits, _ = read_cifar(find_cifar(write_folder(tmp_path / "x", files)))
    np.testing.assert_array_equal(splits["train"][0][:2], IMAGES["data_batch_1"])


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, os.mkdir, eval, getattr, np.load, pickle.loads])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, function):
    files = python_files()
    files["data_batch_2"] = pickle.dumps({"data": Malicious(function, str(tmp_path / "made"))}, 2)
    path = find_cifar(write_folder(tmp_path / "x", files))
    with pytest.raises(
        DataError, match=r"data_batch_2 in .*it asks for \S+, which no file of CIFAR-10 needs"
    ):
        read_cifar(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        (
            python_files()["data_batch_3"][:-2000],
            "data_batch_3 in .*is not a file of CIFAR-10's python version",
        ),
        (pickle.dumps([1, 2], 2), "data_batch_3 in .*is not a file of"),
        (
            pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]}, 2),
            "uint8 of N x 3072",
        ),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, 2), "with 1 labels"),
        (pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}, 2), "uint8 of N x 3072"),
        (pickle.dumps({}, 2), "it holds nothing"),
    ],
)
def test_damaged_python_batches_are_refused(tmp_path, content, message):
    folder = write_folder(tmp_path / "x", python_files() | {"data_batch_3": content})
    with pytest.raises(DataError, match=message):
        read_cifar(find_cifar(folder))


def test_damaged_binary_batches_are_refused(tmp_path):
    folder = write_folder(tmp_path / "x", binary_files() | {"test_batch.bin": b"x" * 3074})
    with pytest.raises(DataError, match="test_batch.bin in .*truncated: its 3074 bytes"):
        read_cifar(find_cifar(folder))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(
        DataError, match=f"{tmp_path} holds none of CIFAR-10's files.*cifar-10-python.tar.gz"
    ):
        find_cifar(tmp_path)
    folder = write_folder(tmp_path / "cifar-10-batches-bin", binary_files())
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match="lacks data_batch_4.bin of CIFAR-10"):
        find_cifar(tmp_path)


def test_damaged_archives_are_refused(tmp_path):
    archive = write_archive(
        tmp_path / "cifar-10-python.tar.gz", python_files(), "cifar-10-batches-py"
    )
    content = archive.read_bytes()
    for damaged in (content[: len(content) // 2], b"no archive"):
        archive.write_bytes(damaged)
        with pytest.raises(DataError, match=f"{archive} cannot be read as an archive"):
            read_cifar([archive])
    write_archive(archive, {"data_batch_1": b""}, "cifar-10-batches-py")
    with pytest.raises(DataError, match="lacks data_batch_2.*batches.meta of CIFAR-10"):
        read_cifar([archive])
    write_archive(archive, {"other": b""}, "x")
    with pytest.raises(DataError, match="holds no batch of CIFAR-10"):
        read_cifar([archive])


def test_a_header_of_any_size_takes_no_memory(tmp_path):
    """And so does the header of what is no file of CIFAR-10."""
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("other")
        member.pax_headers = {"comment": "x" * 10**7}
        archive.addfile(member)
    tracemalloc.start()
    with pytest.raises(DataError, match="holds no batch of CIFAR-10"):
        read_cifar([path])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    header = tarfile.TarInfo("data_batch_1")
    header.size = 2**40
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(DataError, match="data_batch_1 has 1,099,511,627,776 bytes"):
        read_cifar([path])
