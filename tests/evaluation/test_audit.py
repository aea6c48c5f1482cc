"""`imgcls audit`: what it finds in data with planted faults, its corrections, and its page."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from sklearn.datasets import load_digits

from configs.base import get_config
from imgcls_jax import __main__, api, commands, data
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import ConfigError, DataError, RunError
from imgcls_jax.evaluation import audit as auditing
from imgcls_jax.evaluation import confident_learning, embedding, neighbours
from imgcls_jax.run.folder import RunFolder

SIZE = 600
NUM_ERRORS = 30


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A file of digits with wrong labels, a copy across splits, two at odds, and a blank one."""
    images = np.round(load_digits().images[:SIZE] * (255 / 16)).astype(np.uint8)
    labels = load_digits().target[:SIZE].copy()
    images[500] = images[100]  # in the test set
    labels[500] = labels[100]
    images[11] = images[10]
    labels[11] = (labels[10] + 1) % 10
    images[20] = 7
    generator = np.random.default_rng(0)
    wrong = generator.choice(np.arange(30, 100), NUM_ERRORS, replace=False)
    true = labels[wrong].copy()
    labels[wrong] = (true + generator.integers(1, 10, NUM_ERRORS)) % 10
    path = tmp_path_factory.mktemp("planted") / "digits.npz"
    np.savez(
        path,
        train_images=images[:450],
        train_labels=labels[:450],
        test_images=images[450:],
        test_labels=labels[450:],
    )
    return path, dict(zip(wrong.tolist(), true.tolist(), strict=True))


def config_of(path, **options):
    config = get_config()
    config.data.source = "npz"
    config.data.name = "<script>alert(1)</script>"
    config.data.path = str(path)
    config.data.update(options)
    return config


@pytest.fixture(scope="module")
def audited(planted, tmp_path_factory):
    """The folder of the audit."""
    path, _ = planted
    folder = tmp_path_factory.mktemp("audits") / "digits"
    commands.audit.audit(config_of(path), folder)
    return folder


def rows_of(folder):
    with open(folder / "corrections.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_planted_faults_are_found(planted, audited):
    _, true = planted
    found = json.loads((audited / "audit.json").read_text())
    assert found["examples"] == {"train": 450, "test": 150}
    errors = {error["index"]: error for error in found["label_errors"] if error["split"] == "train"}
    hits = set(errors) & set(true)
    assert len(hits) >= 0.6 * NUM_ERRORS and len(hits) >= 0.8 * len(found["label_errors"])
    right = [errors[index]["suggested"] == str(true[index]) for index in hits]
    assert np.mean(right) > 0.9
    scores = [error["score"] for error in found["label_errors"]]
    assert scores == sorted(scores)
    copies = [
        [(example["split"], example["index"]) for example in group] for group in found["copies"]
    ]
    assert copies == [[("train", 10), ("train", 11)], [("train", 100), ("test", 50)]]
    assert [example["index"] for example in found["blank"]] == [20]


def test_its_corrections_are_what_training_reads(planted, audited):
    path, true = planted
    rows = {(row["split"], int(row["index"])): row for row in rows_of(audited)}
    removed = {place for place, row in rows.items() if row["new_label"] == "remove"}
    assert removed == {("train", 10), ("train", 11), ("train", 20), ("train", 100)}
    assert rows["train", 100]["reason"] == "copy of test 50"
    plain = data.read(config_of(path).data).datasets["train"]
    source = data.read(config_of(path, corrections=str(audited / "corrections.csv")).data)
    corrected = dict(zip(source.indices["train"], source.datasets["train"].labels, strict=True))
    before = [plain.labels[index] == label for index, label in true.items()]
    after = [corrected[index] == label for index, label in true.items()]
    assert sum(before) == 0 and np.mean(after) >= 0.6


def test_an_audit_of_corrected_data_keeps_the_corrections(planted, audited, tmp_path):
    path, _ = planted
    first = audited / "corrections.csv"
    commands.audit.audit(config_of(path, corrections=str(first)), tmp_path / "again")
    before = {(row["split"], row["index"]) for row in rows_of(audited)}
    after = {(row["split"], row["index"]) for row in rows_of(tmp_path / "again")}
    assert before <= after
    second = str(tmp_path / "again" / "corrections.csv")
    assert len(data.read(config_of(path, corrections=second).data).datasets["train"]) <= 446


def test_the_page_has_the_images_and_escapes_names(audited):
    html = (audited / "audit.html").read_text()
    for title in ("Suspected label errors", "Exact copies", "Blank images"):
        assert f"<h2>{title}</h2>" in html
    assert "data.corrections=" in html and "Unreadable files</h2>" not in html
    assert html.count("<img") > 0.6 * NUM_ERRORS
    assert "<script" not in html and "&lt;script" in html


def test_an_audit_gives_the_same_bytes_again(planted, audited, tmp_path):
    path, _ = planted
    before = (audited / "corrections.csv").read_bytes()
    (tmp_path / "corrections.csv").write_bytes(before)  # as one leaves that was killed
    commands.audit.audit(config_of(path), tmp_path)
    assert (tmp_path / "corrections.csv").read_bytes() == before
    config = config_of(path, corrections=str(tmp_path / "corrections.csv"))
    with pytest.raises(RunError, match="is what this data is corrected by. Give another --work"):
        commands.audit.audit(config, tmp_path)


def test_a_folder_with_unreadable_files_is_audited_without_them(tmp_path, capsys):
    images = load_digits().images[:80].astype(np.uint8) * 16
    labels = load_digits().target[:80] % 2
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "images" / f"class {label}" / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    whole = tmp_path / "images" / "class 0" / "00.png"
    broken = whole.with_name(os.fsdecode(b"caf\xe9.png"))  # not UTF-8
    broken.write_bytes(whole.read_bytes()[:60])
    whole.unlink()
    options = [f"--config.data.path={tmp_path / 'images'}", "--config.data.source=folder"]
    options += ["--config.data.cache="]
    arguments = ["audit", "configs/base.py", "--workdir", str(tmp_path / "audit"), *options]
    assert __main__.main(arguments) == 0
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert list(found["unreadable"]) == [str(broken)] and found["examples"] == {"train": 79}
    html = (tmp_path / "audit" / "audit.html").read_text()
    assert "Unreadable files</h2>" in html and r"caf\udce9.png" in html
    corrections = tmp_path / "audit" / "corrections.csv"
    corrections.write_text("edited by a person")
    assert __main__.main(arguments) == 2
    assert "it was edited, or is of another audit" in capsys.readouterr().err
    assert corrections.read_text() == "edited by a person"


@pytest.fixture(scope="module")
def corrected(planted, audited, tmp_path_factory):
    """A small run on the corrected data, and its config."""
    path, _ = planted
    file = tmp_path_factory.mktemp("corrected") / "corrections.csv"
    file.write_bytes((audited / "corrections.csv").read_bytes())
    config = config_of(path, cache="", corrections=str(file))
    config.model = ConfigDict({"name": "attention", "pretrained": None, "max_parameters": 0})
    config.train.update({"epochs": 1, "batch_size": 50, "eval_batch_size": 100})
    config.adapt.feature_folder = ""
    config.name = "small"
    return api.train(config, file.parent / "small"), config


def test_a_run_is_audited_on_its_own_features(corrected, tmp_path):
    """Which are kept nowhere, whatever folder its config.json names."""
    folder = tmp_path / "small"
    shutil.copytree(corrected[0].path, folder)
    run = RunFolder(folder)
    config = run.read_json("config.json")
    config["adapt"]["feature_folder"] = str(tmp_path / "mine")
    run.write_json("config.json", config)
    commands.audit.audit_run(run, tmp_path / "audit", splits=["train"])
    assert not (tmp_path / "mine").exists()
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert found["features"] == "features of small" and found["accuracy"] > 0.3
    assert found["examples"] == {"train": 446}


def test_corrections_are_part_of_what_a_run_is(corrected):
    run, config = corrected
    report = run.data["corrections"]
    assert report["removed"] == 4 and report["relabelled"] > 0
    plain = config.copy_and_resolve_references()
    plain.data.corrections = None
    with pytest.raises(RunError, match="data.corrections: .*corrections.csv' there, None now"):
        api.train(plain, run.path)
    (run.path.parent / "corrections.csv").unlink()
    assert len(commands.runs.data_of(run).test) == 150  # the run has a copy
    file = run.path / "corrections.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(RunError, match="was made of other data"):
        commands.audit.audit_run(run, run.path.parent / "audit")


def test_what_cannot_be_audited_is_refused(planted, tmp_path):
    path, _ = planted
    with pytest.raises(ConfigError, match="no split of this data named 'validation'"):
        commands.audit.audit(config_of(path), tmp_path, splits=["validation"])
    config = config_of(path)
    config.quick = 0.5
    with pytest.raises(ConfigError, match=r"looks at all images: leave out config\.quick"):
        commands.audit.audit(config, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError):
        commands.audit.audit_run(RunFolder(tmp_path / "empty"), tmp_path / "audit")
    images = np.zeros((20, 8, 8), np.uint8)
    np.savez(tmp_path / "one.npz", images=images, labels=np.zeros(20, int))
    with pytest.raises(DataError, match="20 images of 1 classes, 1 of them different: an audit"):
        commands.audit.audit(config_of(tmp_path / "one.npz"), tmp_path)
    black = Dataset(images[..., None], np.arange(20, dtype=np.int32) % 2, ("a", "b"))
    with pytest.raises(DataError, match="20 images of 2 classes, 1 of them different: an audit"):
        auditing.collect(source_of(black))
    arguments = ["audit", str(tmp_path / "empty"), "--config.seed=1"]
    assert __main__.main(arguments) == 2


def source_of(dataset):
    return data.Source({"train": dataset}, {"train": np.arange(len(dataset))})


def test_an_image_of_one_colour_is_blank():
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    images[3] = (255, 0, 0)
    examples = auditing.collect(source_of(Dataset(images, np.arange(20) % 2, ("a", "b"))))
    assert np.flatnonzero(examples.deviations < auditing.BLANK).tolist() == [3]
    with pytest.raises(DataError, match="not finite, as of a run that diverged"):
        auditing.run(examples, lambda dataset: np.full((20, 4), np.nan, np.float32))


def test_copies_share_a_fold_and_classes_are_spread_evenly():
    labels = np.arange(1000) % 4
    digests = np.arange(1000).astype(np.uint64)
    digests[900:] = digests[:100]
    folds = confident_learning.assign_folds(labels, digests)
    np.testing.assert_array_equal(folds[900:], folds[:100])
    table = np.zeros((5, 4), int)
    np.add.at(table, (folds[:900], labels[:900]), 1)
    assert table.min() == table.max() == 45
    other = confident_learning.assign_folds(labels, digests, seed=1)
    assert (folds != other).any()


def test_a_class_of_a_single_image_has_no_probability_there():
    vectors = np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32)
    labels = np.zeros(21, int)
    labels[5] = 2
    folds = np.arange(21) % 5
    probabilities = confident_learning.out_of_sample(vectors, labels, folds, num_classes=4)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert probabilities[5, 0] == 1 and (probabilities[:, [1, 3]] == 0).all()
    assert confident_learning.label_errors(labels, probabilities).tolist() == [5]


def test_label_errors_by_hand():
    """Thresholds are 0.75 and 0.7: example 3 reaches that of class 0, example 4 does not."""
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.8, 0.2], [0.7, 0.3]])
    labels = np.array([0, 0, 1, 1, 1])
    probabilities[2] = [0.0, 1.0]
    errors = confident_learning.label_errors(labels, probabilities)
    assert errors.tolist() == [3]
    probabilities[4] = [0.76, 0.24]
    assert confident_learning.label_errors(labels, probabilities).tolist() == [3, 4]


def test_near_duplicates_are_far_nearer_than_others():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(200, 16)).astype(np.float32)
    vectors[1] = vectors[0] + 0.01 * generator.normal(size=16)
    vectors[3] = vectors[2]
    digests = np.arange(200).astype(np.uint64)
    digests[3] = digests[2]
    distances, nearest = neighbours.nearest(vectors)
    pairs = neighbours.near_duplicates(distances, nearest, digests)
    assert [pair[:2] for pair in pairs] == [(0, 1)]
    groups = neighbours.copies(digests)
    assert [group.tolist() for group in groups] == [[2, 3]]


def test_classes_that_cannot_be_told_apart_come_first():
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    probabilities = np.full((300, 3), 0.1)
    confused = labels < 2
    probabilities[~confused, 2] = 0.8
    probabilities[confused, generator.integers(0, 2, confused.sum())] = 0.8
    (pair,) = confident_learning.hardest_pairs(labels, probabilities)
    assert pair[:2] == (0, 1) and 0.4 < pair[2] < 0.6


def test_patches_are_those_of_the_seed():
    config = config_of(None, source="digits")
    train = data.read(config.data).datasets["train"].take(np.arange(64))
    vectors = embedding.by_patches(train.images)(train)
    assert vectors.shape == (64, 2 * embedding.NUM_PATCHES * embedding.GRID**2)
    np.testing.assert_array_equal(embedding.by_patches(train.images)(train), vectors)
    assert (embedding.by_patches(train.images, seed=1)(train) != vectors).any()


def test_large_images_are_shrunk_before_patches_are_taken():
    images = np.random.default_rng(0).integers(0, 256, (12, 150, 100, 3)).astype(np.uint8)
    large = Dataset(images, np.zeros(12, np.int32), ("a",))
    vectors = embedding.by_patches(images)(large)
    assert vectors.shape == (12, 2 * embedding.NUM_PATCHES * embedding.GRID**2)
    assert np.isfinite(vectors).all()


def test_an_outlier_is_far_from_all_others():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(100, 8)).astype(np.float32) + 20
    vectors[42] *= -1
    distances, _ = neighbours.nearest(vectors)
    farthest, *others = neighbours.outliers(distances)
    assert farthest == 42 and len(others) <= 2
