"""The benchmark of augmentation runs, with tiny settings, and covers every operation."""

import re

import pytest

from benchmarks import augmentation, tasks
from imgcls_jax.data.transforms import OPS, parse


def test_transforms_parse_and_every_operation_is_measured_alone():
    assert all(parse(text) for text in augmentation.TRANSFORMS.values())
    assert {re.match(r"\w+", text).group() for text in augmentation.ALONE} == set(OPS)


def test_ratios_are_taken_within_a_round():
    rates = {"none": [200.0, 300.0], "usual": [100.0, 300.0]}
    rows = augmentation.training_table("resnet20", rates).splitlines()
    assert rows[2] == "| none | 250 (200 to 300) |  |"
    assert rows[3].endswith("| 200 (100 to 300) | 1.500 (1.000 to 2.000) |")


def test_both_tables_from_the_command(monkeypatch, capsys):
    monkeypatch.setitem(
        tasks.TASKS, "cnn", tasks.Task("cnn", tasks.CIFAR, 4, tasks.ADAM, examples=12)
    )
    monkeypatch.setattr(augmentation, "TRANSFORMS", {"none": "", "mixed": "flip|cutmix"})
    monkeypatch.setattr(augmentation, "ALONE", ("flip", "cutmix"))
    monkeypatch.setattr(augmentation, "BATCH_SIZE", 8)
    augmentation.main(["--model", "cnn", "--rounds", "1", "--seconds", ".01"])
    printed = capsys.readouterr().out
    for row in ("none", r"mixed: `flip\\\|cutmix`", "scaling", "`flip`", "`cutmix`"):
        assert re.search(rf"^\| {row} \| [\d,.]+ \(", printed, re.M), row


def test_models_of_gray_images_are_refused(capsys):
    with pytest.raises(SystemExit):
        augmentation.main(["--model", "cnn"])
    assert "choose from" in capsys.readouterr().err
