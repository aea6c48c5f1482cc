import gzip

import numpy as np
import pytest

from imgcls_jax.data.csv_files import find_csv, read_csv
from imgcls_jax.data.idx_files import find_idx, read_idx
from imgcls_jax.data.npz_files import read_npz
from imgcls_jax.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
LABELS = np.array([2, 0, 1], np.uint8)


def idx_bytes(array, kind=8):
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, kind, array.ndim)) + shape + array.tobytes()


def write_idx(folder, images=IMAGES, labels=LABELS, *, prefix="train", joint="-", suffix=""):
    paths = []
    for kind, array in (("images", images), ("labels", labels)):
        path = folder / f"{prefix}-{kind}{joint}idx{array.ndim}-ubyte{suffix}"
        content = idx_bytes(array)
        path.write_bytes(gzip.compress(content) if suffix else content)
        paths.append(path)
    return paths


@pytest.mark.parametrize("joint", ["-", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_is_found_and_read_in_each_spelling(tmp_path, joint, suffix):
    for prefix in ("train", "t10k"):
        write_idx(tmp_path, prefix=prefix, joint=joint, suffix=suffix)
    pairs = find_idx(tmp_path)
    assert list(pairs) == ["train", "test"]
    assert pairs["test"][0].name.startswith("t10k-images")
    images, labels = read_idx(*pairs["train"])
    np.testing.assert_array_equal(images, IMAGES[..., None])
    assert labels.dtype == np.int32
    assert labels.tolist() == [2, 0, 1]


def test_idx_test_files_may_be_missing_but_not_half_of_them(tmp_path):
    with pytest.raises(
        DataError, match="no train-images-idx3-ubyte and no train-labels-idx1-ubyte"
    ):
        find_idx(tmp_path)
    write_idx(tmp_path)
    assert list(find_idx(tmp_path)) == ["train"]
    write_idx(tmp_path, prefix="t10k")[1].unlink()
    with pytest.raises(DataError, match="has no t10k-labels-idx1-ubyte"):
        find_idx(tmp_path)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda content: content[:-1], r"truncated: it holds 75 bytes.*announces 76 \(3x4x5\)"),
        (lambda content: content + b"x", "too long"),
        (lambda content: content[:9], "ends inside its header, after 9 bytes"),
        (lambda content: b"", "no idx file of images"),
        (lambda content: idx_bytes(LABELS), "no idx file of images.*00 00 08 01 where 00 00 08 03"),
        (lambda content: idx_bytes(IMAGES, kind=0x0D), "00 00 0d 03"),
        (gzip.compress, "1f 8b"),
    ],
)
def test_damaged_idx_is_refused(tmp_path, damage, message):
    images, labels = write_idx(tmp_path)
    images.write_bytes(damage(images.read_bytes()))
    with pytest.raises(DataError, match=f"{images}.*{message}"):
        read_idx(images, labels)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-10], lambda content: b"not gzip", lambda c: c[:20] * 2]
)
def test_damaged_gzip_is_refused(tmp_path, damage):
    images, labels = write_idx(tmp_path, suffix=".gz")
    images.write_bytes(damage(images.read_bytes()))
    with pytest.raises(DataError, match=f"{images} cannot be read"):
        read_idx(images, labels)


def test_idx_counts_must_agree(tmp_path):
    images, labels = write_idx(tmp_path, labels=LABELS[:2])
    with pytest.raises(DataError, match=f"{images} holds 3 images, {labels} 2 labels"):
        read_idx(images, labels)


HEADER = "label,1x1,1x2,2x1,2x2"


def csv_file(folder, *lines, header=HEADER):
    path = folder / "data_train.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_csv_gives_square_images_and_labels(tmp_path):
    images, labels = read_csv(csv_file(tmp_path, "7,0,1,2,3", "0,255,254,253.0,252"))
    assert images.dtype == np.uint8 and images.shape == (2, 2, 2, 1)
    assert images[..., 0].tolist() == [[[0, 1], [2, 3]], [[255, 254], [253, 252]]]
    assert labels.dtype == np.int32 and labels.tolist() == [7, 0]


def test_csv_label_may_be_any_column_and_the_end_may_be_blank(tmp_path):
    images, labels = read_csv(csv_file(tmp_path, "0,1,2,3,7", "", header="\ufeffa,b,c,d,label"))
    assert images.ravel().tolist() == [0, 1, 2, 3] and labels.tolist() == [7]


@pytest.mark.parametrize(
    "lines, message",
    [
        (["1,0,0,0,0", "1,0,,0,0"], r"line 3, column 3 \('1x2'\): the value is missing"),
        (["1,0,0,NaN,0"], r"line 2, column 4 \('2x1'\): the value is missing"),
        ([",0,0,0,0"], r"line 2, column 1 \('label'\): the value is missing"),
        (
            ["1,0,0,0,0"] * 1500 + ["1,0,0,0,x"],
            r"line 1502, column 5 \('2x2'\): 'x' is not an integer",
        ),
        (["1,0,0.5,0,0"], r"line 2, column 3 \('1x2'\): '0.5' is not an integer"),
        (["1,0,99999999999999999999,0,0"], "line 2, column 3"),
        (
            ["1,0,0,0,0", "1,0,300,0,0"],
            r"line 3, column 3 \('1x2'\): found 300, where an integer from 0 to 255",
        ),
        (["1,0,-1,0,0"], "line 2, column 3.*found -1"),
        (
            ["1,0,0,0,0", "-1,0,0,0,0"],
            r"line 3, column 1 \('label'\): found -1, where a class number",
        ),
        (["1,0,0,0,0", "1,0,0,0"], "line 3 has 4 columns, where line 1 names 5"),
        (["1,0,0,0,0,0", "1,0,0,0,0,0"], "line 2 has 6 columns, where line 1 names 5"),
        (["1,0,0,0,0", "", "1,0,0,0,0"], "line 3 is empty"),
        ([], "no rows"),
    ],
)
def test_bad_csv_values_are_refused_with_their_place(tmp_path, lines, message):
    path = csv_file(tmp_path, *lines)
    with pytest.raises(DataError, match=f"{path}.*{message}"):
        read_csv(path)


@pytest.mark.parametrize(
    "header, message",
    [
        ("1,0,0,0,0", "0 of its 5 columns"),
        ("label,label,a,b,c", "2 of its 5 columns"),
        ("label;a;b;c;d", "separated by commas"),
        ("label,a,b,c", "3 columns besides 'label'.*square"),
        ("label", "0 columns besides"),
        ("", "named 'label'"),
    ],
)
def test_bad_csv_headers_are_refused(tmp_path, header, message):
    with pytest.raises(DataError, match=f"line 1: .*{message}"):
        read_csv(csv_file(tmp_path, "1,0,0,0,0", header=header))


def test_csv_files_are_found_by_their_names(tmp_path):
    with pytest.raises(DataError, match="'train' in its name; it holds no CSV file"):
        find_csv(tmp_path)
    train = csv_file(tmp_path, "1,0,0,0,0")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        DataError, match="'test' in its name; it holds data_train.csv.*a single file"
    ):
        find_csv(tmp_path)
    test = tmp_path / "MNIST_TEST.CSV"
    test.touch()
    assert find_csv(tmp_path) == {"train": train, "test": test}
    assert find_csv(train) == {"train": train}
    (tmp_path / "train2.csv").touch()
    with pytest.raises(DataError, match="exactly one.*data_train.csv, train2.csv"):
        find_csv(tmp_path)


def npz_file(folder, **arrays):
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def test_npz_with_both_splits_and_names(tmp_path):
    path = npz_file(
        tmp_path,
        train_images=IMAGES,
        train_labels=LABELS,
        test_images=IMAGES[:1],
        test_labels=LABELS[:1],
        class_names=np.array(["a", "b", "c"]),
    )
    splits, names = read_npz(path)
    assert list(splits) == ["train", "test"] and names == ("a", "b", "c")
    assert splits["test"][0].shape == (1, 4, 5, 1) and splits["train"][1].tolist() == [2, 0, 1]


def test_npz_with_one_split(tmp_path):
    splits, names = read_npz(
        npz_file(tmp_path, images=np.zeros((2, 3, 3, 3), np.uint8), labels=LABELS[:2])
    )
    assert list(splits) == ["train"] and names is None and splits["train"][0].shape == (2, 3, 3, 3)


def test_incomplete_npz_is_refused(tmp_path):
    with pytest.raises(DataError, match="no array images and no labels; it holds x"):
        read_npz(npz_file(tmp_path, x=LABELS))
    with pytest.raises(DataError, match="no array test_labels"):
        read_npz(npz_file(tmp_path, train_images=IMAGES, train_labels=LABELS, test_images=IMAGES))


def test_npz_that_is_damaged_or_holds_objects_is_refused(tmp_path):
    path = npz_file(tmp_path, images=IMAGES, labels=LABELS)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=f"{path} cannot be read as an .npz"):
        read_npz(path)
    names = np.array(["a", None], object)
    with pytest.raises(DataError, match="arrays of objects are not accepted"):
        read_npz(npz_file(tmp_path, images=IMAGES, labels=LABELS, class_names=names))
