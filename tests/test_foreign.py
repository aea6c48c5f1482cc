"""Links are not followed, pipes are not waited for, images start no programs."""

import ast
import os
import stat
import subprocess
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from imgcls_jax import files, foreign
from imgcls_jax.data.folder import find_images, read_folder, read_image
from imgcls_jax.data.image_files import Reader
from imgcls_jax.errors import DataError, RunError
from imgcls_jax.files import write_atomically, write_npz
from imgcls_jax.pretrained import formats, keras_format, safetensors_format, torch_format
from imgcls_jax.run.folder import RunFolder

ROOT = Path(__file__).parents[1]
EPS = (
    "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nnewpath 0 0 moveto 28 28 lineto stroke\n"
    "showpage\n%%EOF\n"
)
ARRAYS = {"fc/fc/kernel": np.ones((2, 3), np.float32)}
WRITERS = {
    "a text": lambda path: write_atomically(path, b"content"),
    "json": lambda path: RunFolder(path.parent).write_json(path.name, {"a": 1}),
    "npz": lambda path: write_npz(path, a=np.ones(3)),
    "torch": lambda path: torch_format.write(path, ARRAYS),
    "keras": lambda path: keras_format.write(path, ARRAYS),
    "safetensors": lambda path: safetensors_format.write(path, ARRAYS, {}),
}


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.write_text("mine")
    yield path
    assert path.read_text() == "mine" and not path.is_symlink()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_written_through_a_link(name, victim, folder):
    """Neither a link with the name of the file, nor one with that of a partial file."""
    for link in (
        "a.file",
        ".a.file.partial",
        f".a.file.{os.getpid()}.partial",
        f".a.{os.getpid()}.partial",
    ):
        (folder / link).symlink_to(victim)
    WRITERS[name](folder / "a.file")
    assert (folder / "a.file").is_file() and not (folder / "a.file").is_symlink()
    assert stat.S_IMODE((folder / "a.file").stat().st_mode) & 0o400


def test_what_fails_leaves_nothing_behind(folder):
    with pytest.raises(ValueError), files.replacing(folder / "a") as file:
        file.write(b"half")
        raise ValueError
    assert list(folder.iterdir()) == []


def test_two_writers_of_one_file_leave_it_whole(folder):
    contents = [b"a" * 100_000, b"b" * 100_000]

    def write(content):
        for _ in range(5):
            write_atomically(folder / "a", content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not (folder / "a").exists() or (folder / "a").read_bytes() in contents
        time.sleep(0.001)
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_a_lock_and_a_log_are_no_links(victim, folder):
    (folder / "a").symlink_to(victim)
    with pytest.raises(OSError):
        foreign.open_to_append(folder / "a")
    for content in (b"one", b"two"):
        with foreign.open_to_append(folder / "b") as file:
            file.write(content)
    assert (folder / "b").read_bytes() == b"onetwo"


def test_a_folder_may_hold_links_that_stay_in_it(folder, tmp_path):
    (folder / "inner").mkdir()
    (folder / "inner" / "a").write_text("")
    (folder / "b").symlink_to("inner/a")
    (folder / "c").symlink_to(folder / "inner")
    foreign.check_plain(folder)
    (tmp_path / "elsewhere").symlink_to(folder)  # the folder itself may be reached by a link
    foreign.check_plain(tmp_path / "elsewhere")
    foreign.check_plain(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "target", ["../victim", "..", "/etc/passwd", "inner/../../victim", "/nowhere", "../folder2"]
)
@pytest.mark.parametrize("place", ["a", "inner/a"])
def test_links_that_leave_the_folder_are_refused(target, place, folder, victim):
    (folder / "inner").mkdir()
    (folder / place).symlink_to(target if place == "a" or target[0] == "/" else f"../{target}")
    with pytest.raises(RunError, match="is a link that leaves its folder"):
        foreign.check_plain(folder)
    with (
        pytest.raises(RunError, match="is a link that leaves its folder"),
        RunFolder(folder).locked(),
    ):
        pass


def test_pipes_and_sockets_are_refused(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(RunError, match="pipe is a pipe, a socket or a device"):
        foreign.check_plain(folder)
    for open_it in (foreign.open_regular, lambda path: foreign.open_image(path).__enter__()):
        with pytest.raises(OSError, match="no regular file"):
            open_it(folder / "pipe")
        with pytest.raises(OSError, match="no regular file"):
            open_it("/dev/zero")
    with pytest.raises(DataError, match="no regular file"):
        formats.read(folder / "pipe")
    for read in (keras_format.read, safetensors_format.read, torch_format.read):
        with pytest.raises(DataError, match="no regular file"):
            read(folder / "pipe")


READER = Reader((8, 8, 1))


def test_a_pipe_among_images(folder):
    (folder / "a").mkdir()
    os.mkfifo(folder / "a" / "1.png")
    with pytest.raises(DataError, match="1.png cannot be read .*no regular file"):
        READER(folder / "a" / "1.png")
    with pytest.raises(DataError, match="1.png cannot be read .*no regular file"):
        read_folder(find_images(folder))


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A stand-in for the program, first on the PATH, and the file that shows that it was called."""
    from PIL import EpsImagePlugin

    (tmp_path / "bin").mkdir()
    program, called = tmp_path / "bin" / "gs", tmp_path / "called"
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {called}\nif [ "$1" = --version ]; then echo 10.0; exit 0; fi\nexit 1\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return called


def test_the_stand_in_would_be_called(ghostscript, folder):
    (folder / "1.png").write_text(EPS)
    with (
        pytest.raises((OSError, subprocess.CalledProcessError)),
        Image.open(folder / "1.png") as image,
    ):
        image.load()
    assert ghostscript.exists()


def test_an_image_starts_no_program(ghostscript, folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "1.png").write_text(EPS)
    for read in (lambda path: read_image(path, channels=1), READER):
        with pytest.raises(
            DataError, match="1.png cannot be read as an image .*of none of the formats PNG, JPEG"
        ):
            read(folder / "a" / "1.png")
    with pytest.raises(DataError, match="none of the formats"):
        read_folder(find_images(folder))["train"].images[:]
    assert not ghostscript.exists()


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "jfif", "gif", "bmp", "webp", "tif", "ppm", "pgm", "tga", "jp2"]
)
def test_the_formats_of_photographs_are_read(suffix, folder):
    path = folder / f"a.{suffix}"
    Image.new("L" if suffix == "pgm" else "RGB", (16, 12), "red" if suffix != "pgm" else 76).save(
        path
    )
    assert read_image(path, channels=1).shape == (12, 16, 1)
    assert abs(int(read_image(path, channels=1)[6, 6, 0]) - 76) < 8


# These open what this program itself has just written.
OWN_IMAGES = {"foreign.py", "style.py", "robustness.py"}


def test_images_are_opened_in_one_place():
    """Files are opened for writing in two places: others could follow a link."""
    for path in sorted((ROOT / "imgcls_jax").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name, line = ast.unparse(node.func), f"{path.name}, line {node.lineno}"
            assert name != "Image.open" or path.name in OWN_IMAGES, (
                f"{line}: use foreign.open_image"
            )
            if name == "open":
                arguments = [*node.args[1:], *(keyword.value for keyword in node.keywords)]
                for argument in arguments:
                    is_for_writing = set("wax+") & set(ast.unparse(argument))
                    assert not is_for_writing, f"{line}: use files.replacing"
            assert name.rpartition(".")[2] not in (
                "write_text",
                "write_bytes",
                "copyfile",
                "copy2",
                "copytree",
            ), line


def secret_h5(folder: Path) -> Path:
    """A file of Keras' format whose array must not be read."""
    with h5py.File(folder / "secret.h5", "w") as file:
        group = file.create_group("conv1")
        group["kernel:0"] = np.arange(6, dtype="f4")
    return folder / "secret.h5"


def put(group, value) -> None:
    group["kernel:0"] = value


def compound(group, secret):
    group["kernel:0"] = np.zeros(3, [("a", "f4"), ("b", "i4")])


def virtual(group, secret):
    layout = h5py.VirtualLayout((6,), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "/conv1/kernel:0", (6,))
    group.create_virtual_dataset("kernel:0", layout)


HDF5 = {
    "an external link": lambda group, secret: put(group, h5py.ExternalLink(str(secret), "/conv1")),
    "a link to a pipe": lambda group, secret: put(group, h5py.ExternalLink(pipe(secret), "/x")),
    "a link to a device": lambda group, secret: put(group, h5py.ExternalLink("/dev/zero", "/x")),
    "a soft link": lambda group, secret: put(group, h5py.SoftLink("/conv1/kernel:0")),
    "external storage": lambda group, secret: group.create_dataset(
        "kernel:0", (9,), "u1", external=[(secret, 0, 9)]
    ),
    "virtual": virtual,
    "lists": lambda group, secret: group.create_dataset(
        "kernel:0", (3,), h5py.vlen_dtype(np.float32)
    ),
    "compound": compound,
    "references": lambda group, secret: group.create_dataset("kernel:0", (1,), h5py.ref_dtype),
    "empty": lambda group, secret: put(group, h5py.Empty("f4")),
    "a group": lambda group, secret: group.create_group("kernel:0"),
    "nothing": lambda group, secret: None,
}


def pipe(secret: Path) -> str:
    os.mkfifo(secret.with_name("pipe"))
    return str(secret.with_name("pipe"))


def keras_file(folder: Path, fill) -> Path:
    with h5py.File(folder / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [b"kernel:0"]
        fill(group)
    with open(folder / "w.h5", "ab") as file:
        file.write(bytes(100_000))  # it must not be refused for its size
    return folder / "w.h5"


@pytest.mark.parametrize("name", HDF5)
def test_an_array_that_is_elsewhere_is_not_read(name, tmp_path):
    secret = secret_h5(tmp_path)
    path = keras_file(tmp_path, lambda group: HDF5[name](group, secret))
    with pytest.raises(DataError, match="w.h5 is damaged or no Keras file"):
        keras_format.read(path)


@pytest.mark.parametrize("target", ["model_weights", "conv1"])
def test_groups_are_not_reached_by_links_either(target, tmp_path):
    secret = secret_h5(tmp_path)
    path = keras_file(tmp_path, lambda group: put(group, np.zeros(3, "f4")))
    assert keras_format.read(path)["conv1/conv1/kernel"].shape == (3,)
    with h5py.File(path, "r+") as file:
        if target in file:
            del file[target]
        file[target] = h5py.ExternalLink(str(secret), "/")
    with pytest.raises(
        DataError, match=f"'{target}' is a link .ExternalLink., which is not followed"
    ):
        keras_format.read(path)


def test_one_long_name_is_not_read_many_times_over(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_format, "MAX_NAMES_BYTES", 10_000_000)
    names = np.array(["a" * 10_000] * 50, dtype=h5py.string_dtype())
    path = keras_file(tmp_path, lambda group: group.file.attrs.__setitem__("layer_names", names))
    with pytest.raises(DataError, match="has a name of more than"):
        keras_format.read(path)
    monkeypatch.setattr(keras_format, "MAX_NAMES_BYTES", 100_000)
    with pytest.raises(DataError, match="may hold more than 100,000 bytes"):
        keras_format.read(path)
