"""data.corrections: labels that are changed and images that are left out, as a CSV file says."""

import numpy as np
import pytest

from configs.base import get_config
from imgcls_jax import data
from imgcls_jax.config.options import upgrade
from imgcls_jax.data import checks, corrections
from imgcls_jax.errors import DataError
from imgcls_jax.evaluation.audit import correction_rows

HEADER = "split,index,new_label,label,image\n"


def config_of(tmp_path, lines, *, header=HEADER, **options):
    config = get_config().data
    config.source = "digits"
    config.update(options)
    if lines is not None:
        path = tmp_path / "corrections.csv"
        path.write_text(header + lines)
        config.corrections = str(path)
    return config


def digest_of(dataset, index):
    (digest,) = checks.image_digests(dataset.images[[index]])
    return corrections.digest_text(digest)


def test_labels_are_changed_and_images_left_out(tmp_path):
    plain = data.read(config_of(tmp_path, None)).datasets["train"]
    lines = f"train,0,8,0,{digest_of(plain, 0)}\ntrain,3,remove\ntrain,1796,0\n"
    source = data.read(config_of(tmp_path, lines))
    corrected = source.datasets["train"]
    assert len(corrected) == len(plain) - 1
    assert corrected.labels[0] == 8 and corrected.labels[-1] == 0
    assert source.indices["train"].tolist() == [0, 1, 2, *range(4, 1797)]
    np.testing.assert_array_equal(corrected.images[3], plain.images[4])
    assert plain.labels[0] == 0  # the source's own labels are not written to


def test_the_fingerprint_and_the_report_say_that_data_is_corrected(tmp_path):
    plain = data.load(config_of(tmp_path, None))
    config = config_of(tmp_path, "train,0,8\ntrain,3,remove\n")
    splits = data.load(config)
    assert splits.fingerprint == data.load(config).fingerprint != plain.fingerprint
    assert "corrections" not in plain.report
    report = splits.report["corrections"]
    assert (report["relabelled"], report["removed"]) == (1, 1) and len(report["sha256"]) == 64
    assert "1 labels changed, 1 images left out" in checks.summary(splits.report)
    total = sum(len(part) for part in (splits.train, splits.validation, splits.test))
    assert total == 1796


def test_columns_of_a_spreadsheet_are_read(tmp_path):
    """With the mark of UTF-8, Windows' line ends, other columns, and another order."""
    header = "\ufeffreason,new_label,split,index\r\n"
    config = config_of(tmp_path, 'a copy, "one",remove,train, 3\r\n', header=header)
    with pytest.raises(DataError):  # the quotes of the reason are wrong
        data.read(config)
    config = config_of(tmp_path, '"a ""copy""", remove,train, 3\r\n', header=header)
    assert len(data.read(config).datasets["train"]) == 1796
    config = config_of(tmp_path, "train;3;remove\r\n", header="split;index;new_label\r\n")
    assert len(data.read(config).datasets["train"]) == 1796


def test_the_same_images_are_held_out_with_corrections(tmp_path):
    plain = data.load(config_of(tmp_path, None))
    splits = data.load(config_of(tmp_path, "train,0,8\ntrain,3,remove\n"))
    source = data.read(config_of(tmp_path, None)).datasets["train"]
    (removed,) = checks.image_digests(source.images[[3]])
    num_changed = 0
    pairs = {
        "train": (plain.train, splits.train),
        "validation": (plain.validation, splits.validation),
        "test": (plain.test, splits.test),
    }
    for split, (before, after) in pairs.items():
        is_kept = plain.digests[split] != removed
        np.testing.assert_array_equal(splits.digests[split], plain.digests[split][is_kept])
        num_changed += (after.labels != before.labels[is_kept]).sum()
    assert num_changed == 1


def config_of_two_classes(tmp_path, name, lines):
    """A config of images of two classes in turn, the first with a given name."""
    images = np.arange(160, dtype=np.uint8).reshape(10, 4, 4)
    class_names = np.array([name, "dog"])
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(10) % 2, class_names=class_names)
    return config_of(tmp_path, lines, source="npz", path=str(tmp_path / "a.npz"))


@pytest.mark.parametrize("name", ["=1+1|cmd", " -2", "'cat", "'=1", " cat "])
def test_the_name_of_any_class_can_be_written_and_read(tmp_path, name):
    text = corrections.quoted(name)
    assert not text.strip().startswith(("=", "-"))
    config = config_of_two_classes(tmp_path, name, f"train,0,dog,{text}\ntrain,1,{text},dog\n")
    source = data.read(config)
    assert source.datasets["train"].labels[:2].tolist() == [1, 0]
    (_, row) = correction_rows(None, [], source)
    assert row["new_label"] == text


def test_a_class_that_is_called_remove_is_not_taken_for_the_word(tmp_path):
    config = config_of_two_classes(tmp_path, "remove", "train,1,remove\n")
    with pytest.raises(DataError, match="line 2: new_label is 'remove', which is a class"):
        data.read(config)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("train,1797,3\n", r"line 2: there is no train image 1797. The split has 1,797"),
        ("train,0,3\ntest,0,3\n", r"line 3: the data has no split 'test'. It has train"),
        ("train,0,cat\n", r"line 2: there is no class 'cat'. Give 'remove' or one of 0, 1"),
        ("train,0,remov\n", r"line 2: there is no class 'remov'"),
        ("train,0,\n", r"line 2: new_label is empty"),
        ("train,-1,3\n", r"line 2: the index is '-1'. Give a number"),
        ("train,²,3\n", r"line 2: the index is '²'"),
        (f"train,{'9' * 5000},3\n", r"line 2: the index is '9{39}. Give a number"),
        ("train,0,3\ntrain,1,3\ntrain,0,4\n", r"line 4: the train image 0 is corrected a second"),
        ("train,0,3,5\n", r"line 2: the train image 0 has the label '0', not '5'"),
        ("train,0,3,0,00ff\n", r"line 2: the train image 0 is not the one that the line"),
    ],
)
def test_a_correction_that_does_not_fit_the_data_is_refused(tmp_path, lines, message):
    with pytest.raises(DataError, match=message) as refusal:
        data.load(config_of(tmp_path, lines))
    assert str(tmp_path / "corrections.csv") in str(refusal.value)


def test_a_file_that_holds_no_corrections_is_refused(tmp_path):
    with pytest.raises(DataError, match="has no column split, index, new_label"):
        data.load(config_of(tmp_path, "1,2\n", header="a,b\n"))
    (tmp_path / "corrections.csv").write_bytes(b"split,index,new_label\n\xff\xfe")
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        data.load(config_of(tmp_path, None, corrections=str(tmp_path / "corrections.csv")))
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(DataError, match="corrections should name a CSV file"):
            data.load(config_of(tmp_path, None, corrections=str(path)))


def test_a_split_that_loses_all_its_images_is_refused(tmp_path):
    lines = "".join(f"train,{index},remove\n" for index in range(1797))
    with pytest.raises(DataError, match="There is no image in the train split"):
        data.load(config_of(tmp_path, lines))


def test_a_run_without_the_option_is_one_without_corrections():
    assert upgrade({"seed": 0, "data": {}})["data"]["corrections"] is None
