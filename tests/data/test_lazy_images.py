"""Images that are not all in memory: read when they are asked for, in chunks, or in windows."""

import threading
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from configs.base import get_config
from imgcls_jax import data
from imgcls_jax.data import lazy_images, streaming
from imgcls_jax.data.lazy_images import LazyImages, chunks
from imgcls_jax.data.streaming import Streamed, steps_in_window
from imgcls_jax.errors import ConfigError, DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (23, 4, 5, 3), dtype=np.uint8)
BYTES = 4 * 5 * 3


def lazy(read=lambda numbers: IMAGES[numbers]) -> LazyImages:
    return LazyImages(read, (4, 5, 3), np.arange(23))


@pytest.mark.parametrize(
    "key", [3, np.int64(3), -1, slice(2, 9), slice(None), [4, 1, 4], np.array([7, 0]), slice(9, 9)]
)
def test_they_are_indexed_as_arrays_are(key):
    np.testing.assert_array_equal(lazy()[key], IMAGES[key])
    order = np.random.default_rng(1).permutation(23)
    np.testing.assert_array_equal(lazy().take(order)[key], IMAGES[order][key])


def test_taking_reads_nothing():
    def read(numbers):
        raise AssertionError("read")

    taken = lazy(read).take(np.arange(7)).take(np.array([True, False] * 3 + [True]))
    assert taken.shape == (4, 4, 5, 3) and len(taken) == 4 and taken.nbytes == 4 * BYTES
    assert taken.indices.tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize("count", [1, 5, 23, 99])
def test_chunks_are_everything_in_order(count, monkeypatch):
    monkeypatch.setattr(lazy_images, "CHUNK_BYTES", count * BYTES)
    for images in (IMAGES, lazy()):
        parts = list(chunks(images))
        np.testing.assert_array_equal(np.concatenate(parts), IMAGES)
        assert max(map(len, parts)) == min(count, 23)


@pytest.mark.parametrize("images", [IMAGES, lazy()], ids=["in_memory", "lazy"])
def test_windows_hold_the_images_of_their_batches(images):
    batches = np.random.default_rng(2).permutation(23)[:20].reshape(5, 4).astype(np.int32)
    selected = []
    sizes = []
    for placed, rows in Streamed(images, 2 * 2 * 4 * BYTES).windows(batches, place=np.copy, most=9):
        selected += [placed[row] for row in rows]
        sizes.append(len(placed))
    assert sizes == [8, 8, 8]  # the last one is filled up
    np.testing.assert_array_equal(selected, IMAGES[batches])


def test_only_the_next_window_is_read_ahead():
    started = [threading.Event() for _ in range(5)]
    calls = iter(range(5))

    def read(numbers):
        started[next(calls)].set()
        return IMAGES[numbers]

    windows = Streamed(lazy(read), 2 * BYTES).windows(np.arange(5)[:, None], place=np.copy, most=9)
    next(windows)
    assert started[1].wait(10) and not started[2].wait(0.05)
    windows.close()


def test_what_cannot_be_read_stops_the_windows():
    def read(numbers):
        if 12 in numbers:
            raise DataError("12 is damaged")
        return IMAGES[numbers]

    windows = Streamed(lazy(read), 10 * BYTES).windows(
        np.arange(20).reshape(4, 5), place=np.copy, most=9
    )
    next(windows)
    next(windows)
    with pytest.raises(DataError, match="12 is damaged"):
        next(windows)


def test_two_windows_fit_the_budget(monkeypatch):
    assert [steps_in_window((4, 5, 3), 10, 10 * BYTES * batches) for batches in (2, 3, 4, 7)] == [
        1,
        1,
        2,
        3,
    ]
    monkeypatch.setattr(streaming, "MAX_WINDOW", 50 * BYTES)
    assert steps_in_window((4, 5, 3), 10, 10**9) == 5 and steps_in_window((4, 5, 3), 60, 10**9) == 1
    with pytest.raises(
        ConfigError, match="device_bytes is 1,199 bytes.* 10 images of 4x5x3.* need 1,200. Give"
    ):
        steps_in_window((4, 5, 3), 10, 1199)


COUNT, SIDE = 300, 64
TOTAL = COUNT * SIDE**2 * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for number in range(COUNT):
        path = folder / "ab"[number % 2] / f"{number:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path)
    return folder


def load(folder, cache, budget):
    config = get_config().data
    config.update(source="folder", path=str(folder), cache=str(cache), device_bytes=budget)
    return data.load(config)


@pytest.mark.parametrize("cached", [True, False])
def test_more_than_the_budget_is_the_same_and_not_in_memory(folder, tmp_path, cached, monkeypatch):
    """The peak of the memory that Python and NumPy allocate, for all from decoding to an epoch."""
    monkeypatch.setattr(lazy_images, "CHUNK_BYTES", TOTAL // 30)
    cache = tmp_path / "cache" if cached else ""

    def peak_of(budget) -> int:
        tracemalloc.start()
        loaded.append(load(folder, cache, budget))
        train = loaded[-1].train
        batches = np.random.default_rng(3).permutation(len(train))[:200].reshape(20, 10)
        for placed, rows in Streamed(train.images, TOTAL / 10).windows(
            batches, place=np.copy, most=50
        ):
            assert placed[rows].any()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    loaded: list[data.Splits] = []
    peak_of(TOTAL - 1)  # imports, and decodes into the cache
    streamed, resident = peak_of(TOTAL - 1), peak_of(TOTAL)
    assert streamed < TOTAL / 2 and resident > TOTAL
    assert isinstance(loaded[0].train.images, LazyImages) and isinstance(
        loaded[2].train.images, np.ndarray
    )
    assert loaded[0].report == loaded[1].report == loaded[2].report
    np.testing.assert_array_equal(loaded[0].validation.images, loaded[2].validation.images)


def test_a_cache_that_vanishes_during_a_run_is_named(folder, tmp_path):
    images = load(folder, tmp_path / "cache", TOTAL - 1).train.images
    (entry,) = (tmp_path / "cache").iterdir()
    content = entry.read_bytes()
    entry.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{entry} can no longer be read .*shorter"):
        images[:]
    entry.unlink()
    with pytest.raises(DataError, match="No such file.*decodes it again"):
        images[:]


def test_a_damaged_file_is_named_when_it_is_decoded(folder, tmp_path):
    bad = tmp_path / "images" / "a" / "1.png"
    bad.parent.mkdir(parents=True)
    (bad.parent / "0.png").write_bytes((folder / "a" / "000.png").read_bytes())
    bad.write_bytes(b"no image")
    with pytest.raises(DataError, match=f"{bad} cannot be read as an image"):
        load(tmp_path / "images", tmp_path / "cache", 10)
    assert not list((tmp_path / "cache").iterdir())
