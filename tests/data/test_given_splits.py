"""A source's own validation split is the validation set, and what is not used is named."""

import gzip
import logging
import os

import numpy as np
import pytest
from PIL import Image

from configs.base import get_config
from imgcls_jax import data
from imgcls_jax.data import checks, tfds_reader
from imgcls_jax.data.csv_files import find_csv, read_csv
from imgcls_jax.data.folder import find_images
from imgcls_jax.data.idx_files import find_idx
from imgcls_jax.data.npz_files import read_npz
from imgcls_jax.errors import DataError
from tests.data.test_tfds_reader import IMAGES, LABELS, write_prepared

COUNTS = {"train": 8, "val": 4, "test": 6}
ARRAYS = {
    split: (
        np.random.default_rng(seed).integers(0, 256, (count, 4, 4), dtype=np.uint8),
        np.arange(count) % 2,
    )
    for seed, (split, count) in enumerate(COUNTS.items())
}


def load(source, path, tmp_path):
    config = get_config().data
    config.update(
        source=source,
        name="tiny",
        path=str(path),
        cache=str(tmp_path / "cache"),
        validation_size=2.0,
        test_size=2.0,
    )
    return data.load(config)


def write_folder(folder, **names):
    """A folder a split, of another name where `names` has one."""
    for split, (images, labels) in ARRAYS.items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / names.get(split, split) / f"class{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


def write_csv(folder, **names):
    folder.mkdir(exist_ok=True)
    for split, (images, labels) in ARRAYS.items():
        rows = [
            ",".join(map(str, [label, *image.ravel()]))
            for image, label in zip(images, labels, strict=True)
        ]
        header = ",".join(["label", *(f"p{i}" for i in range(16))])
        (folder / f"{names.get(split, split)}.csv").write_text("\n".join([header, *rows]))
    return folder


def write_npz(folder, **names):
    folder.mkdir(exist_ok=True)
    arrays = {}
    for split, (images, labels) in ARRAYS.items():
        pair = names.get(split, f"{split}_images {split}_labels").split()
        arrays |= dict(zip(pair, (images, labels), strict=True))
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


WRITERS = {"folder": write_folder, "csv": write_csv, "npz": write_npz}
KERAS = {split: f"x_{split} y_{split}" for split in COUNTS}
FORMS = [
    ("folder", {}),
    ("folder", {"val": "valid"}),
    ("folder", {"train": "Training", "val": "Validation", "test": "Testing"}),
    ("csv", {"val": "my_val"}),
    ("csv", {"val": "validation-2"}),
    ("npz", {}),
    ("npz", {"val": "valid_images valid_labels"}),
    ("npz", KERAS),
]


def examples(images, labels):
    """Sorted pairs of an image's bytes and its label."""
    contents = [image.tobytes() for image in images]
    return sorted(zip(contents, labels.tolist(), strict=True))


@pytest.mark.parametrize(("source", "names"), FORMS)
def test_a_validation_split_of_the_source_is_the_validation_set(source, names, tmp_path):
    splits = load(source, WRITERS[source](tmp_path / "data", **names), tmp_path)
    datasets = {"train": splits.train, "val": splits.validation, "test": splits.test}
    for split, dataset in datasets.items():
        assert examples(dataset.images, dataset.labels) == examples(*ARRAYS[split])
    assert splits.report["origin"] == {"validation": data.OWN, "test": data.OWN}
    assert splits.report["splits"]["validation"]["examples"] == 4
    assert f"origin {data.OWN} {data.OWN}" in " ".join(checks.summary(splits.report).split())


def test_without_a_test_split_a_share_of_train_is_the_test_set(tmp_path):
    folder = write_folder(tmp_path / "data", test="test")
    for path in (folder / "test").rglob("*.png"):
        path.unlink()
    for path in [*(folder / "test").iterdir(), folder / "test"]:
        path.rmdir()
    splits = load("folder", folder, tmp_path)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [6, 4, 2]
    assert splits.report["origin"] == {"validation": data.OWN, "test": data.HELD_OUT}


def test_a_validation_split_of_tfds_is_used_and_others_are_named(tmp_path, caplog):
    directory = write_prepared(
        tmp_path, IMAGES, LABELS, splits=("train", "validation", "test", "extra")
    )
    assert list(tfds_reader.read_prepared(directory)) == ["train", "validation", "test"]
    config = get_config().data
    config.update(source="tfds", name="tiny", path=str(tmp_path), cache=str(tmp_path / "cache"))
    for _ in range(2):  # what is cached is the same
        caplog.clear()
        splits = data.load(config)
        assert len(splits.train) == len(splits.validation) == len(splits.test) == 7
        assert f"Not used of {directory}: extra" in caplog.text
    (directory / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="description .* damaged"):
        data.load(config)


def test_what_is_not_used_is_named_in_a_line(tmp_path, caplog):
    folder = write_folder(tmp_path / "folder")
    (folder / "unlabelled").mkdir()
    Image.fromarray(ARRAYS["train"][0][0]).save(folder / "train/loose.png")
    (folder / "notes.txt").touch()
    (folder / ".hidden").touch()
    find_images(folder)
    assert f"Not used of {folder}: notes.txt, unlabelled (" in caplog.text
    assert f"Not used of {folder / 'train'}: loose.png (" in caplog.text
    assert "hidden" not in caplog.text
    caplog.clear()
    csv = write_csv(tmp_path / "csv")
    (csv / "sample_submission.csv").write_text("ImageId,Label\n")
    assert list(find_csv(csv)) == ["train", "validation", "test"]
    assert f"Not used of {csv}: sample_submission.csv (" in caplog.text
    caplog.clear()
    images, labels = ARRAYS["train"]
    np.savez(tmp_path / "a.npz", images=images, labels=labels, extra_images=images, weights=labels)
    read_npz(tmp_path / "a.npz")
    assert f"Not used of {tmp_path / 'a.npz'}: extra_images, weights (" in caplog.text
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_idx_files_that_are_not_used_are_named(tmp_path, caplog):
    for name in ("train-images-idx3", "train-labels-idx1", "extra-images-idx3"):
        (tmp_path / f"{name}-ubyte").touch()
    (tmp_path / "train-labels-idx1-ubyte.gz").touch()  # the same again
    assert list(find_idx(tmp_path)) == ["train"]
    assert f"Not used of {tmp_path}: extra-images-idx3-ubyte (" in caplog.text


def test_two_sets_of_one_split_are_refused(tmp_path):
    write_folder(tmp_path / "data")
    write_folder(tmp_path / "data", val="valid")
    with pytest.raises(DataError, match="has val and valid: two validation sets"):
        find_images(tmp_path / "data")
    images, labels = ARRAYS["train"]
    np.savez(tmp_path / "a.npz", images=images, labels=labels, x_train=images, y_train=labels)
    with pytest.raises(DataError, match="two train sets"):
        read_npz(tmp_path / "a.npz")


def test_a_split_without_classes_says_what_to_do_with_it(tmp_path):
    folder = write_folder(tmp_path / "data")
    for path in sorted((folder / "test").rglob("*"), reverse=True):
        if path.is_file():
            path.rename(folder / "test" / f"{path.parent.name}-{path.name}")
        else:
            path.rmdir()
    with pytest.raises(
        DataError, match=r"test holds no class folders, but 6 files .*imgcls predict"
    ):
        find_images(folder)
    for path in sorted((folder / "train").iterdir()):
        for file in path.iterdir():
            file.rename(folder / "train" / f"{path.name}-{file.name}")
        path.rmdir()
    with pytest.raises(DataError, match="train holds no class folders, but 8 files"):
        find_images(folder)


def test_labels_in_a_column_are_labels(tmp_path):
    images, labels = ARRAYS["train"]
    np.savez(tmp_path / "a.npz", images=images, labels=labels[:, None])
    assert read_npz(tmp_path / "a.npz")[0]["train"][1].tolist() == labels.tolist()


def table(*names):
    """The content of a CSV file with these columns and a row of numbers."""
    return f"{','.join(names)}\n{','.join(['1'] * len(names))}\n"


WITH_LABELS = table("label", "a", "b", "c", "d")
SPELLINGS = {
    "gzip": ("train.csv.gz", gzip.compress(WITH_LABELS.encode())),
    "UTF-16": ("train.csv", WITH_LABELS.encode("utf-16")),
    "UTF-16, the other way": ("train.csv", b"\xfe\xff" + WITH_LABELS.encode("utf-16-be")),
    "UTF-16 without a mark": ("train.csv", WITH_LABELS.encode("utf-16-le")),
    "old Mac": ("train.csv", WITH_LABELS.replace("\n", "\r").encode()),
    "Windows": ("train.csv", WITH_LABELS.replace("\n", "\r\n").encode()),
    "a capital": ("train.csv", WITH_LABELS.replace("label", "Label").encode()),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_csv_file_of_any_system_is_read(spelling, tmp_path):
    name, content = SPELLINGS[spelling]
    (tmp_path / name).write_bytes(content)
    images, labels = read_csv(find_csv(tmp_path / name)["train"])
    assert images.tolist() == [[[[1], [1]], [[1], [1]]]] and labels.tolist() == [1]


def test_compressed_csv_files_are_found(tmp_path):
    for name in ("train.csv.gz", "test.csv"):
        (tmp_path / name).touch()
    assert find_csv(tmp_path) == {"train": tmp_path / "train.csv.gz", "test": tmp_path / "test.csv"}
    (tmp_path / "test.csv").rename(tmp_path / "test.csv.zip")
    with pytest.raises(DataError, match="'test' in its name.*Unpack test.csv.zip first"):
        find_csv(tmp_path)


def test_a_damaged_compressed_csv_file_is_refused(tmp_path):
    header, rows = WITH_LABELS.split("\n", 1)
    content = f"{header}\n{rows * 99}".encode()
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(DataError, match="train.csv.gz cannot be read"):
        read_csv(tmp_path / "train.csv.gz")


def test_kaggles_test_file_without_labels_is_named_and_a_test_set_held_out(tmp_path):
    rows = [f"{index % 2},{index},0,0,9" for index in range(20)]
    (tmp_path / "train.csv").write_text("\n".join(["label,a,b,c,d", *rows]))
    (tmp_path / "test.csv").write_text(table("pixel0", "pixel1", "pixel2", "pixel3"))
    splits = load("csv", tmp_path, tmp_path)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 20
    assert splits.report["origin"]["test"] == "held out of the training images"
    (warning,) = splits.report["warnings"]
    assert "test.csv has no labels, so the test set is held out" in warning
    assert "imgcls predict RUN test.csv" in warning
    again = load("csv", tmp_path, tmp_path)  # from the cache
    assert again.report == splits.report


def test_a_training_file_without_labels_is_refused(tmp_path):
    (tmp_path / "train.csv").write_text(table("pixel0", "pixel1", "pixel2", "pixel3"))
    (tmp_path / "test.csv").write_text(WITH_LABELS)
    for path in (tmp_path, tmp_path / "train.csv"):
        with pytest.raises(DataError, match="train.csv has no column 'label'.*imgcls predict"):
            load("csv", path, tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["latest_train.csv"], "one CSV file with the word 'test' in its name; it holds latest_tr"),
        (["train_val.csv", "test.csv"], "train_val.csv would be both train and validation"),
    ],
)
def test_a_csv_file_is_of_one_split_alone(tmp_path, names, message):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=message):
        find_csv(tmp_path)


def test_words_in_the_names_of_csv_files_come_first(tmp_path):
    for name in ("contest_train.csv", "mytest.csv"):
        (tmp_path / name).touch()
    files = find_csv(tmp_path)
    assert {split: file.name for split, file in files.items()} == {
        "train": "contest_train.csv",
        "test": "mytest.csv",
    }


def test_names_that_are_not_utf_8_can_be_written_or_are_refused(tmp_path):
    rows = [f"{index % 2},{index},0,0,9" for index in range(20)]
    (tmp_path / "train.csv").write_text("\n".join(["label,a,a,c,d", *rows]))
    unlabelled = tmp_path / os.fsdecode(b"t\xe9_test.csv")
    unlabelled.write_text(table("pixel0", "pixel1", "pixel2", "pixel3"))
    (tmp_path / "train.csv").rename(tmp_path / os.fsdecode(b"t\xe9_train.csv"))
    warnings = "\n".join(load("csv", tmp_path, tmp_path).report["warnings"])
    assert (
        r"t\udce9_test.csv has no labels" in warnings and r"t\udce9_train.csv, line 1" in warnings
    )
    warnings.encode()
    images, labels = ARRAYS["train"]
    names = np.array([b"cat", b"caf\xe9"])
    np.savez(tmp_path / "a.npz", images=images, labels=labels, class_names=names)
    with pytest.raises(DataError, match=r"class caf\\udce9 has a name that is not UTF-8"):
        load("npz", tmp_path / "a.npz", tmp_path)
