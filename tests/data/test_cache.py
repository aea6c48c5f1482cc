import logging
import os

import numpy as np
import pytest

from imgcls_jax import files
from imgcls_jax.data.cache import cached
from imgcls_jax.data.dataset import Dataset


class Source:
    """A source that counts how often it is decoded."""

    def __init__(self, folder):
        self.file = folder / "images.bin"
        self.file.write_bytes(b"content")
        self.cache = folder / "cache"
        self.decoded = 0

    def read(self):
        self.decoded += 1
        images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
        labels = np.arange(50, dtype=np.int32) % 2
        return {
            split: Dataset(images, labels, ("a", "\N{GREEK SMALL LETTER BETA}"))
            for split in ("train", "test")
        }

    def load(self, *key):
        return cached(str(self.cache), ("source", *key), [self.file], self.read)

    @property
    def entry(self):
        (entry,) = self.cache.iterdir()
        return entry


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path)


def test_the_second_time_nothing_is_decoded(source):
    first, second = source.load(), source.load()
    assert source.decoded == 1
    for split in ("train", "test"):
        np.testing.assert_array_equal(first[split].images, second[split].images)
        np.testing.assert_array_equal(first[split].labels, second[split].labels)
        assert first[split].class_names == second[split].class_names
        assert second[split].labels.dtype == np.int32


def test_another_key_is_another_entry(source):
    source.load("mnist", 0)
    source.load("mnist", 32)
    assert source.decoded == 2


def test_changed_files_are_decoded_again(source):
    source.load()
    source.file.write_bytes(b"longer content")
    source.load()
    assert source.decoded == 2
    os.utime(source.file, ns=(1, 1))
    source.load()
    assert source.decoded == 3


def with_one_bit_flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "flipped": with_one_bit_flipped,
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "foreign": lambda content: b"x" * 999,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_decoded_again_with_a_warning(source, damage, caplog):
    source.load()
    source.entry.write_bytes(damage(source.entry.read_bytes()))
    with caplog.at_level(logging.WARNING):
        datasets = source.load()
    assert source.decoded == 2
    assert f"{source.entry} is damaged" in caplog.text
    source.load()
    assert source.decoded == 2  # the entry is whole again
    assert datasets["train"].fingerprint == source.read()["train"].fingerprint


def test_content_that_differs_from_its_checksum_is_not_used(source, caplog):
    source.load()
    with np.load(source.entry) as arrays:
        arrays = dict(arrays)
    arrays["test_labels"] = 1 - arrays["test_labels"]
    np.savez(source.entry, **arrays)
    with caplog.at_level(logging.WARNING):
        datasets = source.load()
    assert "checksum of its test split" in caplog.text
    assert datasets["test"].labels[1] == 1


def test_a_folder_that_cannot_be_written_only_warns(source, caplog):
    source.cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert len(source.load()["train"]) == 50
    assert "cannot be kept" in caplog.text and "--config.data.cache" in caplog.text


def test_no_partial_file_is_left_when_writing_fails(source, monkeypatch, caplog):
    def full_disk(file, array, **options):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full_disk)
    with caplog.at_level(logging.WARNING):
        source.load()
    assert "No space left" in caplog.text and list(source.cache.iterdir()) == []


def test_an_empty_name_keeps_nothing(source):
    for _ in range(2):
        cached("", ("source",), [source.file], source.read)
    assert source.decoded == 2 and not source.cache.exists()


def test_partial_files_of_killed_processes_are_removed_at_the_next_start(tmp_path):
    """Files stay that another process is writing, and downloads of weights in the same folder."""
    for name in (
        f".digits-{'0' * 32}.4321.partial",
        f".digits-{'0' * 32}.npz.0123456789abcdef.partial",
    ):
        (tmp_path / name).write_bytes(b"half")
    abandoned = sorted(tmp_path.iterdir())
    (tmp_path / ".resnet50.pth.partial").write_bytes(b"half")
    datasets = {"train": Dataset(np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int32), ("a",))}
    cached(str(tmp_path), ("digits",), [], lambda: datasets, keep=False)
    assert all(path.exists() for path in abandoned)  # a stranger's config named the folder
    with files.replacing(tmp_path / "other.npz") as file:
        cached(str(tmp_path), ("digits",), [], lambda: datasets)
        left = sorted(path.name[:10] for path in tmp_path.glob(".*"))
        file.write(b"whole")
    assert left == [".other.npz", ".resnet50."]
    assert (tmp_path / "other.npz").read_bytes() == b"whole"
