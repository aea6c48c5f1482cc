import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.base import get_config
from imgcls_jax import data
from imgcls_jax.data import sources
from imgcls_jax.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (40, 4, 4), dtype=np.uint8), np.arange(40) % 4
TEST = RNG.integers(0, 256, (12, 4, 4), dtype=np.uint8), np.arange(12) % 4


def config_of(tmp_path, source, path=None, **options):
    config = get_config().data
    config.source, config.name, config.cache = source, "mine", str(tmp_path / "cache")
    if path:
        config.path = str(path)
    config.update(options)
    return config


def write_idx(folder):
    for prefix, (images, labels) in (("train", TRAIN), ("t10k", TEST)):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = bytes((0, 0, 8, array.ndim)) + shape + array.tobytes()
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))


def write_csv(folder):
    for split, (images, labels) in (("train", TRAIN), ("test", TEST)):
        rows = [
            ",".join(map(str, [label, *image.ravel()]))
            for image, label in zip(images, labels, strict=True)
        ]
        header = ",".join(["label", *(f"p{i}" for i in range(16))])
        (folder / f"my_{split}.csv").write_text("\n".join([header, *rows]))


def write_folder(folder):
    for split, (images, labels) in (("train", TRAIN), ("test", TEST)):
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / split / str(label) / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def save_wide(path):
    Image.fromarray(RNG.integers(0, 256, (4, 9), dtype=np.uint8)).save(path)


def write_npz(folder):
    np.savez(
        folder / "mine.npz",
        train_images=TRAIN[0],
        train_labels=TRAIN[1],
        test_images=TEST[0],
        test_labels=TEST[1],
    )


FORMS = {
    "idx": (write_idx, ""),
    "csv": (write_csv, ""),
    "folder": (write_folder, ""),
    "npz": (write_npz, "mine.npz"),
}


@pytest.mark.parametrize("source", FORMS)
def test_every_form_gives_the_same_images_cached_or_not(tmp_path, source):
    write, name = FORMS[source]
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder)
    config = config_of(tmp_path, source, folder / name)
    first, second = data.load(config), data.load(config)
    assert first.fingerprint == second.fingerprint == first.report["fingerprint"]
    assert len(list(tmp_path.glob("cache/*"))) == (source != "npz")
    assert first.train.class_names == ("0", "1", "2", "3")
    assert [len(part) for part in (first.train, first.validation, first.test)] == [36, 4, 12]
    for part, (images, labels) in (
        (first.train, TRAIN),
        (first.validation, TRAIN),
        (first.test, TEST),
    ):
        assert part.images.dtype == np.uint8 and part.labels.dtype == np.int32
        expected = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        assert [expected[image.tobytes()] for image in part.images] == part.labels.tolist()


def test_digits_need_no_files_and_are_split_twice(tmp_path):
    splits = data.load(config_of(tmp_path, "digits", test_size=0.2, validation_size=100))
    assert len(splits.train) == 1338
    assert len(splits.validation) == 100
    assert len(splits.test) == 359
    assert splits.train.images.shape[1:] == (8, 8, 1)
    assert splits.train.class_names == tuple("0123456789")
    assert not (tmp_path / "cache").exists()
    report = splits.report
    assert json.loads(json.dumps(report)) == report
    assert list(report["splits"]) == ["train", "validation", "test"]
    assert report["splits"]["train"]["pixel_max"] == 255
    assert report["splits"]["train"]["missing"] == 0
    counts = np.sum([split["class_counts"] for split in report["splits"].values()], axis=0)
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_scaled_by_rounding(tmp_path):
    values = np.unique(sources.digits(config_of(tmp_path, "digits"))["train"].images)
    assert values.tolist() == [int(value * 255 / 16 + 0.5) for value in range(17)]


def test_the_split_seed_alone_decides_the_splits(tmp_path):
    def fingerprint(seed):
        return data.load(config_of(tmp_path, "digits", split_seed=seed)).fingerprint

    assert fingerprint(0) == fingerprint(0)
    assert fingerprint(0) != fingerprint(1)


def test_a_validation_split_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match="config.data.validation_size is 5000.*of 1438 examples; at most 1428"
    ):
        data.load(config_of(tmp_path, "digits", validation_size=5000.0))
    with pytest.raises(ConfigError, match="config.data.test_size is 0"):
        data.load(config_of(tmp_path, "digits", test_size=0.0))


def test_the_training_set_alone_is_limited(tmp_path):
    whole = data.load(config_of(tmp_path, "digits"))
    few = data.load(config_of(tmp_path, "digits", train_size=50))
    assert len(few.train) == 50
    assert set(np.bincount(few.train.labels)) <= {4, 5, 6}
    assert few.validation.fingerprint == whole.validation.fingerprint
    assert few.test.fingerprint == whole.test.fingerprint
    pixels = {image.tobytes() for image in whole.train.images}
    assert all(image.tobytes() in pixels for image in few.train.images)
    same = data.load(config_of(tmp_path, "digits", train_size=len(whole.train)))
    assert same.train.fingerprint == whole.train.fingerprint
    with pytest.raises(ConfigError, match="config.data.train_size is 1e"):
        data.load(config_of(tmp_path, "digits", train_size=10**6))


def test_a_long_tail_leaves_the_test_set_as_it_is(tmp_path):
    whole = data.load(config_of(tmp_path, "digits"))
    tail = data.load(config_of(tmp_path, "digits", long_tail=10.0))
    assert tail.test.fingerprint == whole.test.fingerprint
    counts = np.bincount(tail.train.labels) + np.bincount(tail.validation.labels)
    assert (np.diff(counts) < 0).all() and counts[0] // 10 == counts[9]
    pixels = {image.tobytes() for image in (*whole.train.images, *whole.validation.images)}
    assert all(image.tobytes() in pixels for image in tail.train.images)
    assert any("unbalanced" in warning for warning in tail.report["warnings"])


def test_unknown_sources_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no data source named 'idxs'. Did you mean 'idx'"):
        data.load(config_of(tmp_path, "idxs"))


@pytest.mark.parametrize("source", [name for name in sources.SOURCES if name != "digits"])
def test_a_path_that_is_not_there_is_refused(tmp_path, source):
    with pytest.raises(
        DataError, match=f"There is no {tmp_path / 'none'}. --config.data.path should name"
    ):
        data.load(config_of(tmp_path, source, tmp_path / "none"))


@pytest.mark.parametrize("source", ["idx", "cifar", "csv", "folder", "npz"])
def test_a_path_must_be_given(tmp_path, source):
    with pytest.raises(ConfigError, match=f"source={source} needs .*--config.data.path=PATH"):
        data.load(config_of(tmp_path, source))


def test_a_path_of_the_wrong_kind_is_refused(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for source in ("tfds", "idx", "folder"):
        with pytest.raises(DataError, match=f"{file} is not a folder"):
            data.load(config_of(tmp_path, source, file))
    with pytest.raises(DataError, match=f"{tmp_path} is not a file"):
        data.load(config_of(tmp_path, "npz", tmp_path))


def test_the_tfds_folder_is_the_path_or_the_environments_or_the_usual_one(tmp_path, monkeypatch):
    calls = []

    def prepare(name, folder):
        calls.append((name, folder))
        raise DataError("not there")

    monkeypatch.setattr(sources.tfds_reader, "prepare", prepare)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    named = tmp_path / "named"
    named.mkdir()
    for path in (None, named):
        with pytest.raises(DataError):
            data.load(config_of(tmp_path, "tfds", path, name="mnist"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "environment"))
    with pytest.raises(DataError):
        data.load(config_of(tmp_path, "tfds", name="mnist"))
    folders = (tmp_path / "tensorflow_datasets", named, tmp_path / "environment")
    assert calls == [("mnist", folder) for folder in folders]


def test_image_size_is_for_folders_only(tmp_path):
    with pytest.raises(ConfigError, match=r"source=folder only, not digits. Put resize\(32\)"):
        data.load(config_of(tmp_path, "digits", image_size=32))
    write_folder(tmp_path / "data")
    config = config_of(tmp_path, "folder", tmp_path / "data", image_size=6)
    assert data.load(config).train.images.shape == (36, 6, 6, 1)
    config.image_size = 0
    assert data.load(config).train.images.shape == (36, 4, 4, 1)
    config.image_size, config.fit = 6, "crop"  # the cache does not take it for the same
    save_wide(tmp_path / "data" / "train" / "0" / "00.png")
    cropped = data.load(config)
    config.fit = "pad"
    assert data.load(config).fingerprint != cropped.fingerprint
    config.image_size = -1
    with pytest.raises(ConfigError, match="image_size is -1"):
        data.load(config)


def test_a_label_out_of_range_is_refused(tmp_path):
    labels = TRAIN[1].copy()
    labels[7] = 99
    path = tmp_path / "a.npz"
    np.savez(path, images=TRAIN[0], labels=labels)
    with pytest.raises(
        DataError, match=r"a.npz: a label out of range, 99, .*\(examples 7, counted from 0\)"
    ):
        data.load(config_of(tmp_path, "npz", path))
    names = np.array(["a", "b", "c", "d"])
    np.savez(path, images=TRAIN[0], labels=labels, class_names=names)
    with pytest.raises(DataError, match="out of range: 99 at examples 7"):
        data.load(config_of(tmp_path, "npz", path))
    np.savez(path, images=TRAIN[0], labels=labels.astype(np.float32))
    with pytest.raises(DataError, match="labels of the train split are float32"):
        data.load(config_of(tmp_path, "npz", path))


def test_a_test_label_that_training_does_not_know_is_refused(tmp_path):
    write_csv(tmp_path)
    path = tmp_path / "my_test.csv"
    lines = path.read_text().splitlines()
    lines[3] = "4" + lines[3][1:]
    path.write_text("\n".join(lines))
    with pytest.raises(
        DataError, match="labels of the test split are out of range: 4 at examples 2 "
    ):
        data.load(config_of(tmp_path, "csv", tmp_path))


def test_a_class_without_examples_may_be_there(tmp_path):
    labels = np.where(TRAIN[1] == 2, 3, TRAIN[1])
    np.savez(tmp_path / "a.npz", images=TRAIN[0], labels=labels)
    report = data.load(config_of(tmp_path, "npz", tmp_path / "a.npz")).report
    assert report["splits"]["train"]["class_counts"][2] == 0


def test_labels_too_large_for_int32_do_not_wrap_around(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        images=TRAIN[0],
        labels=TRAIN[1] + 2**32,
        class_names=np.array(list("abcd")),
    )
    with pytest.raises(DataError, match="out of range: 4294967296"):
        data.load(config_of(tmp_path, "npz", tmp_path / "a.npz"))


def test_the_data_layer_is_quick_to_import():
    code = "import sys, imgcls_jax.data; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["jax", "pandas", "sklearn", "tensorflow_datasets", "tensorflow", "PIL", "matplotlib"]
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", code, *heavy], cwd=root, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_a_class_of_one_image_is_named(tmp_path):
    write_folder(tmp_path / "images")
    for path in sorted((tmp_path / "images" / "train" / "2").iterdir())[1:]:
        path.unlink()
    warnings = data.load(config_of(tmp_path, "folder", tmp_path / "images")).report["warnings"]
    assert "fewer than 2 images to train on and hold out of: 2 (1)." in "".join(warnings)


def test_one_wrong_label_of_a_csv_is_named_as_doubtful(tmp_path):
    lines = ["label,p0,p1,p1,p2"]
    lines += [f"{row % 2},{row},0,0,{row}" for row in range(100)]
    lines[42] = "2,41,0,0,41"
    (tmp_path / "train.csv").write_text("\n".join(lines))
    (tmp_path / "test.csv").write_text("\n".join([lines[0].replace("p1", "q", 1), *lines[1:9]]))
    config = config_of(tmp_path, "csv", tmp_path)
    for _ in ("decoded", "cached"):
        report = data.load(config).report
        warnings = "\n".join(report["warnings"])
        assert "The class 2 has only 1 image, the median class 49" in warnings
        assert "training examples 41 " in warnings
        assert "The class 2 has no test image: such classes are not tested" in warnings
        assert warnings.count("line 1: names of several columns: 'p1' (columns 3, 4)") == 1
        assert "train.csv, line 1" in warnings


def test_a_fold_is_the_test_set_and_the_sources_own_stays_unread(tmp_path, caplog):
    write_idx(tmp_path)
    pixels = []
    for fold in range(2):
        splits = data.load(config_of(tmp_path, "idx", tmp_path, folds=2, fold=fold))
        sizes = [len(splits.train), len(splits.validation), len(splits.test)]
        assert sizes == [18, 2, 20]
        assert splits.report["origin"]["test"] == data.HELD_OUT
        assert "Not used of mine: its own test set (the test set is a fold)." in caplog.text
        pixels += [image.tobytes() for image in np.asarray(splits.test.images)]
    assert sorted(pixels) == sorted(image.tobytes() for image in TRAIN[0])
