"""The one rule of training and prediction for what is an image, its name and its size."""

import os

import numpy as np
import pytest
from PIL import Image

from configs import base
from imgcls_jax import data, foreign
from imgcls_jax.data import checks
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.folder import find_images, read_folder, read_image
from imgcls_jax.data.image_files import find
from imgcls_jax.errors import ConfigError, DataError, RunError
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import checks as options

PIXELS = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
FORMATS = {
    "PNG": ("png", "PNG", "apng"),
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "JPG"),
    "TGA": ("tga",),
    "JPEG2000": ("jp2", "j2k"),
    "AVIF": ("avif",),
    "MPO": ("mpo",),
    "WEBP": ("webp",),
    "PPM": ("ppm", "pnm"),
    "TIFF": ("tif", "tiff"),
}


@pytest.fixture
def folder(tmp_path):
    """A class folder with files of every format and spelling, and a PNG without a suffix."""
    (tmp_path / "data/cat").mkdir(parents=True)
    for name, suffixes in FORMATS.items():
        for suffix in suffixes:
            Image.fromarray(PIXELS).save(tmp_path / f"data/cat/{name}.{suffix}", name)
    Image.fromarray(PIXELS).save(tmp_path / "data/cat/none", "PNG")
    return tmp_path / "data"


def test_training_and_prediction_take_the_same_files(folder, caplog):
    files = find_images(folder)["train"]["cat"]
    assert len(files) == 19
    assert read_folder({"train": {"cat": files}})["train"].in_memory().images.shape == (19, 8, 8, 3)
    assert find([str(folder)]) == [str(file) for file in files]
    assert not caplog.text


def test_links_are_followed_by_both_but_not_in_a_circle(folder):
    (folder / "cat").rename(folder.parent / "real")
    (folder / "cat").symlink_to(folder.parent / "real")
    (folder / "dog").symlink_to(folder.parent / "real")
    files = [file for files in find_images(folder)["train"].values() for file in files]
    assert len(files) == 38
    (folder / "cat" / "up").symlink_to(folder)
    assert find([str(folder)]) == [str(file) for file in files]


def test_what_prediction_skips_is_counted_and_named(folder, caplog):
    for name in ("a.txt", "b.csv", "c", "d", "e", "f", ".hidden.png", ".DS_Store"):
        (folder / "cat" / name).write_text("no image")
    os.mkfifo(folder / "cat/pipe")
    assert len(find([str(folder)])) == 19
    names = "cat/.hidden.png, cat/a.txt, cat/b.csv, cat/c, cat/d and 3 more"
    assert f"Not used of {folder}: {names} (hidden, or no images)." in caplog.text
    assert ".DS_Store" not in caplog.text


def test_pages_that_are_not_read_are_named(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(10):
            Image.fromarray(PIXELS + number).save(tmp_path / "images" / label / f"{number}.tif")
    page = Image.fromarray(PIXELS)
    page.save(tmp_path / "images" / "cat" / "scan.tif", save_all=True, append_images=[page, page])
    config = base.get_config().data
    config.update(source="folder", path=str(tmp_path / "images"), cache=str(tmp_path / "cache"))
    sentence = "Of files with several pages or frames only the first is used: scan.tif."
    for _ in range(2):  # decoded, and from the cache
        warnings = data.load(config).report["warnings"]
        assert any(warning.startswith(sentence) for warning in warnings)


def test_training_refuses_what_prediction_skips(folder):
    (folder / "cat/a.txt").write_text("no image")
    with pytest.raises(
        DataError, match="a.txt cannot be read as an image: neither its suffix nor its content"
    ):
        find_images(folder)


def test_a_class_folder_whose_name_is_not_utf_8_is_refused_at_once(folder):
    other = os.fsdecode(b"caf\xe9")
    (folder / other).mkdir()
    Image.fromarray(PIXELS).save(folder / other / "x.png")
    with pytest.raises(
        DataError, match=r"class folder .*/caf\\udce9 has a name that is not UTF-8"
    ) as refusal:
        find_images(folder)
    str(refusal.value).encode()  # the message itself can be printed


def test_a_path_that_is_not_utf_8_is_refused_before_training(tmp_path):
    config = base.get_config()
    config.data.path = os.fsdecode(b"caf\xe9")
    with pytest.raises(ConfigError, match="data.path is .*give a text that is UTF-8") as refusal:
        options.check(config)
    str(refusal.value).encode()
    with pytest.raises(RunError, match=r"/caf\\udce9 has a name that is not UTF-8.*--workdir"):
        RunFolder(tmp_path / os.fsdecode(b"caf\xe9")).check_writable()


def test_a_class_name_of_an_array_that_is_not_utf_8_is_refused():
    names = ("cat", "caf\udce9")
    dataset = Dataset(PIXELS[None], np.zeros(1, np.int32), names)
    with pytest.raises(DataError, match=r"class caf\\udce9 has a name that is not UTF-8"):
        checks.validate({"train": dataset})


def test_a_large_image_is_not_called_an_attack(tmp_path, monkeypatch):
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    foreign._supported_formats.cache_clear()  # which also tells Pillow's warnings to be silent
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    # Pillow warns of an attack from 40 pixels on.
    assert read_image(tmp_path / "x.png", channels=3).shape == (8, 8, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(
        DataError, match="more than the 0 million pixels that are read: scale it down"
    ) as refusal:
        read_image(tmp_path / "x.png", channels=3)
    assert "attack" not in str(refusal.value) and "bomb" not in str(refusal.value)
