"""The benchmark of frozen layers runs, with tiny settings, and takes ratios within a round."""

import functools
import re

from benchmarks import transfer
from imgcls_jax import models


def test_epochs_are_put_together_from_images():
    seconds = {
        "training on images": [0.1, 0.2],
        "validation on images": [0.1, 0.2],
        "features": [0.1, 0.2],
        "training on features": [0.001, 0.001],
        "validation on features": [0.001, 0.001],
    }
    rows = transfer.epochs_table(seconds).splitlines()
    assert rows[2] == "| an epoch on images | 7,500 (5,000 to 10,000) |  |"
    assert rows[4].endswith("| 50.00 (50.00 to 50.00) | 150.00 (100.00 to 200.00) |")
    # 25,000 s against 5,250 s, and 50,000 s against 10,250 s
    assert rows[6].endswith("| 4.82 (4.76 to 4.88) |")


def test_both_tables_from_the_command(monkeypatch, capsys):
    config_of = transfer.config_of

    def tiny(size, **changes):
        config = config_of(size, **changes)
        config.train.update(batch_size=2, eval_batch_size=2)
        config.model.name = "resnet18"
        return config

    shallow = functools.partial(models.MODELS["resnet18"], blocks=(1, 1, 1, 1))
    monkeypatch.setitem(models.MODELS, "resnet18", shallow)
    monkeypatch.setattr(transfer, "config_of", tiny)
    monkeypatch.setattr(transfer, "TRAIN", 4)
    monkeypatch.setattr(transfer, "VALIDATION", 2)
    monkeypatch.setattr(transfer, "WIDTH", 512)
    transfer.main(["--size", "32", "--batches", "1", "--rounds", "1"])
    printed = capsys.readouterr().out
    share = {}
    for name in transfer.TRAINABLE:
        row = re.search(rf"^\| {name} \| [\d,]+ \| ([\d.]+) \|", printed, re.M)
        share[name] = float(row.group(1))
    assert share["classifier"] < share["layer4 and classifier"] < share["everything"] == 1
