"""From a source to a model's variables and back: names, files of every format, runs; and the command line."""

import functools
import hashlib
import json
import logging

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from imgcls_jax import __main__, models, pretrained, trees
from imgcls_jax.commands import weights
from imgcls_jax.errors import ConfigError, DataError, RunError
from imgcls_jax.pretrained import (
    catalog,
    download,
    export,
    formats,
    keras_format,
    safetensors_format,
    torch_format,
)
from imgcls_jax.pretrained.port import unport
from imgcls_jax.run.checkpoints import Checkpoints


@functools.cache
def shapes(model, classes=1000):
    return export._shapes({"name": model}, num_classes=classes)


def variables(expected):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), expected)


def assert_equal(found, expected):
    found, expected = trees.flatten(found), trees.flatten(expected)
    assert set(found) == set(expected)
    for path, leaf in expected.items():
        np.testing.assert_array_equal(found[path], leaf, strict=True)


@pytest.fixture(scope="module")
def resnet():
    """(shapes, variables) of ResNet-18 with three classes."""
    expected = shapes("resnet18", 3)
    return expected, variables(expected)


@pytest.fixture(scope="module")
def resnet_file(resnet, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch_format.write(path, unport(resnet[1], name_of=catalog.key_map("resnet18").name_of))
    return path


def save_run(folder, tree, *, model, epochs=1):
    """A run of some epochs, of which the first was the best and has the tree; the others' entries are higher."""
    folder.mkdir()
    config = {
        "seed": 0,
        "model": {"name": model},
        "data": {"source": "tfds", "transform": "rgb|normalize(cifar10)"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    checkpoints = Checkpoints(folder / "checkpoints")
    for step in range(1, epochs + 1):
        kept = jax.tree.map(lambda leaf, step=step: leaf + np.float32(step - 1), tree)
        kept = {"params": kept["params"], "model_state": {"batch_stats": kept["batch_stats"]}}
        checkpoints.save(
            step, model=kept, training={"step": np.int32(step)}, progress={"best_step": 1}
        )
    checkpoints.close()


@pytest.mark.parametrize("model", ["resnet18", "efficientnetv2_b0"])
def test_exported_and_loaded_again_in_every_format(tmp_path, model):
    expected = shapes(model)
    tree = variables(expected)
    ours = tmp_path / "ours.safetensors"
    safetensors_format.write(ours, trees.flatten(tree), {"model": model})
    for suffix in export.SUFFIXES[catalog.key_map(model).family]:
        target = tmp_path / f"theirs{suffix}"
        export.export(str(ours), target)
        assert not any(name.startswith("params/") for name in formats.read(target))
        assert_equal(pretrained.load(target, model=model, expected=expected), tree)


def test_converted_files_know_their_model_and_preprocessing(tmp_path, resnet, resnet_file):
    target = tmp_path / "w.safetensors"
    with pytest.raises(ConfigError, match="does not say which model it is of: give --model"):
        export.convert(str(resnet_file), target)
    loaded = export.convert(
        str(resnet_file), target, model="resnet18"
    )  # its three classes are found out
    assert loaded.parameters == trees.count(resnet[0]["params"])
    assert_equal(pretrained.load(target, model="resnet18", expected=resnet[0]), resnet[1])
    assert export.load(str(target)).model == {"name": "resnet18"}
    assert (
        pretrained.preprocessing(target) is None and pretrained.preprocessing(resnet_file) is None
    )


def test_a_name_in_the_catalogue(tmp_path, resnet, resnet_file, monkeypatch):
    (tmp_path / resnet_file.name).write_bytes(resnet_file.read_bytes())
    row = catalog.Weights(
        model="resnet18",
        url="https://host.invalid/resnet18.pth",
        sha256=sha256(resnet_file),
        transform="rgb",
    )
    monkeypatch.setitem(catalog.CATALOG, "small", row)
    assert_equal(
        pretrained.load("small", model="resnet18", expected=resnet[0], cache=tmp_path), resnet[1]
    )
    assert pretrained.preprocessing("small") == "rgb"
    export.convert("small", tmp_path / "w.safetensors", cache=tmp_path)
    assert pretrained.preprocessing(tmp_path / "w.safetensors") == "rgb"
    with pytest.raises(
        ConfigError,
        match="small are weights of the model 'resnet18', not of 'resnet50'.*resnet50_v1",
    ):
        pretrained.load("small", model="resnet50", expected=resnet[0], cache=tmp_path)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def test_another_number_of_classes(resnet, resnet_file, caplog):
    initial = variables(shapes("resnet18", 10))
    with pytest.raises(
        DataError,
        match=rf"{resnet_file} (?s:.*)fc.weight \(3, 512\) in the file, \(10, 512\) expected",
    ):
        pretrained.load(resnet_file, model="resnet18", expected=initial)
    skip = pretrained.key_map("resnet18").classifier
    with caplog.at_level(logging.INFO):
        found = pretrained.load(resnet_file, model="resnet18", expected=initial, skip=skip)
    np.testing.assert_array_equal(
        found["params"]["fc"]["kernel"], initial["params"]["fc"]["kernel"]
    )
    np.testing.assert_array_equal(
        found["params"]["conv1"]["kernel"], resnet[1]["params"]["conv1"]["kernel"]
    )
    assert "params/fc/kernel" in caplog.text


def test_the_file_of_another_architecture(resnet_file):
    with pytest.raises(DataError) as error:
        pretrained.load(
            resnet_file, model="efficientnetv2_b0", expected=shapes("efficientnetv2_b0")
        )
    assert "102 in the file, but not in the model:\n  bn1.running_mean (64,)" in str(error.value)
    assert (
        "missing in the file:\n  block1a_project_bn/block1a_project_bn/moving_mean (16,), for"
        in str(error.value)
    )


def test_keras_files_without_top_and_with_the_top_by_its_first_name(tmp_path):
    expected = shapes("efficientnetv2_b0")
    tree = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), expected)
    arrays = unport(tree, name_of=catalog.key_map("efficientnetv2_b0").name_of)
    top = {name: arrays.pop(name) for name in list(arrays) if name.startswith("predictions/")}
    old = {name.replace("predictions", "probs"): array for name, array in top.items()}
    for name, content in (("top.h5", arrays | old), ("notop.h5", arrays)):
        keras_format.write(tmp_path / name, content)
    assert_equal(
        pretrained.load(tmp_path / "top.h5", model="efficientnetv2_b0", expected=expected), tree
    )
    with pytest.raises(DataError, match="predictions/predictions/kernel"):
        pretrained.load(tmp_path / "notop.h5", model="efficientnetv2_b0", expected=expected)
    initial = jax.tree.map(np.zeros_like, tree)
    skip = pretrained.key_map("efficientnetv2_b0").classifier
    found = pretrained.load(
        tmp_path / "notop.h5", model="efficientnetv2_b0", expected=initial, skip=skip
    )
    assert (
        found["params"]["predictions"]["kernel"].max() == 0
        and found["params"]["stem"]["bn"]["scale"].min() == 0.5
    )


def test_a_run(tmp_path, resnet):
    save_run(tmp_path / "run", resnet[1], model="resnet18")
    run = tmp_path / "run"
    assert_equal(pretrained.load(run, model="resnet18", expected=resnet[0]), resnet[1])
    assert pretrained.preprocessing(run) == "rgb|normalize(cifar10)"
    source = ConfigDict(
        {"model": {"name": "resnet18", "pretrained": str(run)}, "pretrained": {"cache": ""}}
    )
    assert pretrained.describe(source) == {
        "resnet18": {"file": "run", "sha256": trees.digest(trees.flatten(resnet[1]))}
    }
    export.export(str(run), tmp_path / "w.pth")
    assert_equal(
        pretrained.load(tmp_path / "w.pth", model="resnet18", expected=resnet[0]), resnet[1]
    )
    with pytest.raises(DataError, match="params/fc/kernel .3, 512. expected|512, 10"):
        pretrained.load(run, model="resnet18", expected=shapes("resnet18", 10))


def test_the_best_checkpoint_of_a_run_whose_model_needs_no_key_map(tmp_path):
    module = models.create(ConfigDict({"name": "cnn"}), num_classes=10)
    params = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32))
    tree = variables(params) | {"batch_stats": {}}
    save_run(tmp_path / "run", tree, model="cnn", epochs=3)
    assert_equal(
        pretrained.load(tmp_path / "run", model="cnn", expected=params), {"params": tree["params"]}
    )


def test_a_damaged_run(tmp_path):
    save_run(
        tmp_path / "run",
        {"params": {"a": np.ones((64, 64), np.float32)}, "batch_stats": {}},
        model="cnn",
    )
    for file in (tmp_path / "run" / "checkpoints" / "1" / "model").rglob("*"):
        if file.is_file() and file.stat().st_size > 0:
            file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(RunError, match="holds no whole checkpoint"):
        pretrained.load(tmp_path / "run", model="cnn", expected={})


def test_sources_that_there_are_not(tmp_path):
    with pytest.raises(
        ConfigError, match=r"'resnet50_v3'.*Did you mean 'resnet50_v\d'\?.*Names: resnet18_v1"
    ):
        pretrained.load("resnet50_v3", model="resnet50", expected={})
    with pytest.raises(DataError, match="is a folder, but no run folder: it has no config.json"):
        pretrained.load(tmp_path, model="resnet50", expected={})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="has saved no checkpoint"):
        pretrained.load(tmp_path, model="resnet50", expected={})


def test_the_command_line(tmp_path, resnet, resnet_file, capsys):
    target = tmp_path / "w.safetensors"
    assert (
        __main__.main(
            ["weights", "convert", str(resnet_file), "--model", "resnet18", "--to", str(target)]
        )
        == 0
    )
    assert (
        f"{target}: resnet18, {trees.count(resnet[0]['params']):,} parameters"
        in capsys.readouterr().out
    )
    assert (
        __main__.main(["weights", "export", str(target), "--to", str(tmp_path / "back.pth")]) == 0
    )
    assert_equal(
        pretrained.load(tmp_path / "back.pth", model="resnet18", expected=resnet[0]), resnet[1]
    )
    for to in ("w.h5", "nowhere/w.pth"):
        assert __main__.main(["weights", "export", str(target), "--to", str(tmp_path / to)]) == 2
    errors = capsys.readouterr().err
    assert (
        "should end in .pth or .pt or .safetensors for this model" in errors
        and "there is no folder" in errors
    )


def test_the_list(tmp_path):
    row = catalog.CATALOG["resnet18_v1"]
    path = download.cached_path(row, tmp_path)
    path.write_bytes(bytes(2_000_000))
    lines = weights.table(tmp_path).splitlines()
    assert lines[0].split() == ["name", "model", "parameters", "top-1", "%", "MB", "status"]
    assert lines[2].split() == [
        "resnet18_v1",
        "resnet18",
        "11,689,512",
        "69.76",
        "2.0",
        "in",
        "cache",
    ]
    assert lines[9].split() == [
        "resnet50_keras_notop",
        "resnet50_keras",
        "23,587,712",
        "-",
        "-",
        "to",
        "be",
        "downloaded",
    ]


def test_help_says_how(capsys):
    with pytest.raises(SystemExit, match="0"):
        __main__.main(["weights", "--help"])
    assert "convert resnet50_v2 --to resnet50.safetensors" in capsys.readouterr().out


def test_torch_loads_an_export_with_its_own_strictness(tmp_path, resnet):
    """Every name, shape and number, also of a module that counts its batches."""
    torch = pytest.importorskip("torch")
    ours = tmp_path / "ours.safetensors"
    safetensors_format.write(ours, trees.flatten(resnet[1]), {"model": "resnet18"})
    export.export(str(ours), tmp_path / "w.pth")
    stem = torch.nn.Module()
    stem.conv1, stem.bn1 = torch.nn.Conv2d(3, 64, 7, bias=False), torch.nn.BatchNorm2d(64)
    found = torch.load(tmp_path / "w.pth", weights_only=True)
    stem.load_state_dict(
        {name: found[name] for name in found if name.startswith(("conv1.", "bn1."))}, strict=True
    )
    kernel = resnet[1]["params"]["conv1"]["kernel"]
    np.testing.assert_array_equal(stem.conv1.weight.detach().numpy(), kernel.transpose(3, 2, 0, 1))
