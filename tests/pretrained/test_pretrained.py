"""From a source to a model's variables and back: names, files, runs; and the command line."""

import functools
import hashlib
import json
import logging

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from imgcls_jax import __main__, backend, models, pretrained, trees
from imgcls_jax.commands import weights
from imgcls_jax.errors import ConfigError, DataError, RunError
from imgcls_jax.pretrained import (
    catalog,
    download,
    export,
    formats,
    keras_format,
    safetensors_format,
    sources,
    torch_format,
)
from imgcls_jax.pretrained.port import unport
from imgcls_jax.run.checkpoints import Checkpoints


@functools.cache
def shapes(model, classes=1000):
    return export._shapes({"name": model}, num_classes=classes)


def random_variables(expected):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), expected)


def assert_equal(variables, expected):
    leaves = trees.flatten(variables)
    expected_leaves = trees.flatten(expected)
    assert set(leaves) == set(expected_leaves)
    for path, leaf in expected_leaves.items():
        np.testing.assert_array_equal(leaves[path], leaf, strict=True)


@pytest.fixture(scope="module")
def resnet():
    """(shapes, variables) of ResNet-18 with three classes."""
    expected = shapes("resnet18", 3)
    return expected, random_variables(expected)


@pytest.fixture(scope="module")
def resnet_file(resnet, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    _, variables = resnet
    torch_format.write(path, unport(variables, name_of=catalog.key_map("resnet18").name_of))
    return path


def save_run(folder, variables, *, model, epochs=1):
    """A run whose first epoch was the best and has these variables; later ones are higher."""
    folder.mkdir()
    config = {
        "seed": 0,
        "model": {"name": model},
        "data": {"source": "tfds", "transform": "rgb|normalize(cifar10)"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    checkpoints = Checkpoints(folder / "checkpoints")
    for step in range(1, epochs + 1):
        increase = np.float32(step - 1)
        params, batch_stats = jax.tree.map(
            lambda leaf, increase=increase: leaf + increase,
            (variables["params"], variables["batch_stats"]),
        )
        checkpoints.save(
            step,
            model={"params": params, "model_state": {"batch_stats": batch_stats}},
            training={"step": np.int32(step)},
            progress={"best_step": 1},
        )
    checkpoints.close()


# ---------------------------------------------------------------------------------------------
# Files


@pytest.mark.parametrize("model", ["resnet18", "efficientnetv2_b0"])
def test_exported_and_loaded_again_in_every_format(tmp_path, model):
    expected = shapes(model)
    variables = random_variables(expected)
    source = tmp_path / "source.safetensors"
    safetensors_format.write(source, trees.flatten(variables), {"model": model})
    for suffix in export.SUFFIXES[catalog.key_map(model).family]:
        target = tmp_path / f"target{suffix}"
        export.export(str(source), target)
        assert not any(name.startswith("params/") for name in formats.read(target))
        assert_equal(pretrained.load(target, model=model, expected=expected), variables)


def test_converted_files_know_their_model_and_preprocessing(tmp_path, resnet, resnet_file):
    expected, variables = resnet
    target = tmp_path / "w.safetensors"
    with pytest.raises(ConfigError, match="does not say which model it is of: give --model"):
        export.convert(str(resnet_file), target)
    loaded = export.convert(str(resnet_file), target, model="resnet18")
    assert loaded.parameters == trees.count(expected["params"])  # with the file's three classes
    assert_equal(pretrained.load(target, model="resnet18", expected=expected), variables)
    assert export.load(str(target)).model == {"name": "resnet18"}
    assert pretrained.preprocessing(target) is None
    assert pretrained.preprocessing(resnet_file) is None


def test_a_name_in_the_catalogue(tmp_path, resnet, resnet_file, monkeypatch):
    expected, variables = resnet
    content = resnet_file.read_bytes()
    (tmp_path / resnet_file.name).write_bytes(content)
    row = catalog.Weights(
        model="resnet18",
        url="https://host.invalid/resnet18.pth",
        sha256=hashlib.sha256(content).hexdigest()[:8],
        transform="rgb",
    )
    monkeypatch.setitem(catalog.CATALOG, "small", row)
    loaded = pretrained.load("small", model="resnet18", expected=expected, cache=tmp_path)
    assert_equal(loaded, variables)
    assert pretrained.preprocessing("small") == "rgb"

    export.convert("small", tmp_path / "w.safetensors", cache=tmp_path)
    assert pretrained.preprocessing(tmp_path / "w.safetensors") == "rgb"

    message = "small are weights of the model 'resnet18', not of 'resnet50'.*resnet50_v1"
    with pytest.raises(ConfigError, match=message):
        pretrained.load("small", model="resnet50", expected=expected, cache=tmp_path)


def test_another_number_of_classes(resnet, resnet_file, caplog):
    _, variables = resnet
    initial = random_variables(shapes("resnet18", 10))
    message = rf"{resnet_file} (?s:.*)fc.weight \(3, 512\) in the file, \(10, 512\) expected"
    with pytest.raises(DataError, match=message):
        pretrained.load(resnet_file, model="resnet18", expected=initial)

    skip = pretrained.key_map("resnet18").classifier
    with caplog.at_level(logging.INFO):
        loaded = pretrained.load(resnet_file, model="resnet18", expected=initial, skip=skip)
    params = loaded["params"]
    assert_equal(params["fc"]["kernel"], initial["params"]["fc"]["kernel"])
    assert_equal(params["conv1"]["kernel"], variables["params"]["conv1"]["kernel"])
    assert "params/fc/kernel" in caplog.text


def test_the_file_of_another_architecture(resnet_file):
    model = "efficientnetv2_b0"
    with pytest.raises(DataError) as error:
        pretrained.load(resnet_file, model=model, expected=shapes(model))
    message = str(error.value)
    assert "102 in the file, but not in the model:\n  bn1.running_mean (64,)" in message
    first_missing = "block1a_project_bn/block1a_project_bn/moving_mean (16,), for"
    assert f"missing in the file:\n  {first_missing}" in message


@pytest.fixture(scope="module")
def keras_arrays():
    """Variables of EfficientNetV2-B0 that are 0.5, and the arrays of its file."""
    model = "efficientnetv2_b0"
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes(model))
    return variables, unport(variables, name_of=catalog.key_map(model).name_of)


def test_a_keras_file_with_the_first_name_of_the_classifier(tmp_path, keras_arrays):
    variables, arrays = keras_arrays
    renamed = {name.replace("predictions", "probs"): array for name, array in arrays.items()}
    path = tmp_path / "top.h5"
    keras_format.write(path, renamed)
    model = "efficientnetv2_b0"
    assert_equal(pretrained.load(path, model=model, expected=shapes(model)), variables)


def test_a_keras_file_without_a_classifier(tmp_path, keras_arrays):
    variables, arrays = keras_arrays
    without = {name: array for name, array in arrays.items() if "predictions" not in name}
    path = tmp_path / "notop.h5"
    keras_format.write(path, without)
    model = "efficientnetv2_b0"
    with pytest.raises(DataError, match="predictions/predictions/kernel"):
        pretrained.load(path, model=model, expected=shapes(model))

    initial = jax.tree.map(np.zeros_like, variables)
    skip = pretrained.key_map(model).classifier
    params = pretrained.load(path, model=model, expected=initial, skip=skip)["params"]
    assert params["predictions"]["kernel"].max() == 0
    assert params["stem"]["bn"]["scale"].min() == 0.5


# ---------------------------------------------------------------------------------------------
# Runs


def test_a_run(tmp_path, resnet):
    expected, variables = resnet
    run = tmp_path / "run"
    save_run(run, variables, model="resnet18")
    assert_equal(pretrained.load(run, model="resnet18", expected=expected), variables)
    assert pretrained.preprocessing(run) == "rgb|normalize(cifar10)"

    model = {"name": "resnet18", "pretrained": str(run)}
    config = ConfigDict({"model": model, "pretrained": {"cache": ""}})
    description = {"file": "run", "sha256": trees.digest(trees.flatten(variables))}
    assert pretrained.describe(config) == {"resnet18": description}

    target = tmp_path / "w.pth"
    export.export(str(run), target)
    assert_equal(pretrained.load(target, model="resnet18", expected=expected), variables)
    with pytest.raises(DataError, match="params/fc/kernel .3, 512. expected|512, 10"):
        pretrained.load(run, model="resnet18", expected=shapes("resnet18", 10))


def test_the_best_checkpoint_of_a_run_whose_model_needs_no_key_map(tmp_path):
    module = models.create(ConfigDict({"name": "cnn"}), num_classes=10)
    image = np.zeros((1, 28, 28, 1), np.float32)
    expected = jax.eval_shape(module.init, jax.random.key(0), image)
    variables = random_variables(expected)
    run = tmp_path / "run"
    save_run(run, {**variables, "batch_stats": {}}, model="cnn", epochs=3)
    assert_equal(pretrained.load(run, model="cnn", expected=expected), variables)


def test_a_damaged_run(tmp_path):
    run = tmp_path / "run"
    params = {"a": np.ones((64, 64), np.float32)}
    save_run(run, {"params": params, "batch_stats": {}}, model="cnn")
    for file in (run / "checkpoints" / "1" / "model").rglob("*"):
        if file.is_file() and file.stat().st_size > 0:
            file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(RunError, match="holds no whole checkpoint"):
        pretrained.load(run, model="cnn", expected={})


def test_sources_that_do_not_exist(tmp_path):
    message = r"'resnet50_v3'.*Did you mean 'resnet50_v\d'\?.*Names: resnet18_v1"
    with pytest.raises(ConfigError, match=message):
        pretrained.load("resnet50_v3", model="resnet50", expected={})
    with pytest.raises(DataError, match="is a folder, but no run folder: it has no config.json"):
        pretrained.load(tmp_path, model="resnet50", expected={})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="has saved no checkpoint"):
        pretrained.load(tmp_path, model="resnet50", expected={})


# ---------------------------------------------------------------------------------------------
# The command line


def run_weights(*arguments) -> int:
    return __main__.main(["weights", *map(str, arguments)])


def test_convert_and_export(tmp_path, resnet, resnet_file, capsys, monkeypatch):
    expected, variables = resnet
    target = tmp_path / "w.safetensors"
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = ("convert", resnet_file, "--model", "resnet18", "--to", "~/w.safetensors")
    assert run_weights(*arguments) == 0
    parameters = trees.count(expected["params"])
    assert f"{target}: resnet18, {parameters:,} parameters" in capsys.readouterr().out

    exported = tmp_path / "exported.pth"
    assert run_weights("export", target, "--to", exported) == 0
    assert_equal(pretrained.load(exported, model="resnet18", expected=expected), variables)

    assert run_weights("export", target, "--to", tmp_path / "w.h5") == 2
    errors = capsys.readouterr().err
    assert "should end in .pth or .pt or .safetensors for this model" in errors
    assert run_weights("export", target, "--to", tmp_path / "nowhere/w.pth") == 2
    assert "there is no folder" in capsys.readouterr().err
    assert run_weights("export", target, "--cache", tmp_path, "--to", exported) == 2
    assert "--cache is for a name of `imgcls weights list`" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_named(tmp_path, resnet_file, capsys, monkeypatch):
    def refuse():
        raise ConfigError("There is no such device.")

    monkeypatch.setattr(backend, "configure", refuse)
    assert run_weights("export", resnet_file, "--to", tmp_path / "w.pth") == 2
    assert capsys.readouterr().err == "error: There is no such device.\n"


def test_class_names_that_are_no_json_are_named(tmp_path):
    file = tmp_path / "w.safetensors"
    safetensors_format.write(file, {"a": np.zeros(2, np.float32)}, {"class_names": "["})
    with pytest.raises(DataError, match="w.safetensors is damaged: its class_names are no JSON"):
        sources.class_names(file)


def test_the_list(tmp_path):
    path = download.cached_path(catalog.CATALOG["resnet18_v1"], tmp_path)
    path.write_bytes(bytes(2_000_000))
    lines = weights.table(tmp_path).splitlines()
    header = "name model parameters top-1 % MB status"
    cached = "resnet18_v1 resnet18 11,689,512 69.76 2.0 in cache"
    missing = "resnet50_keras_notop resnet50_keras 23,587,712 - - to be downloaded"
    assert lines[0].split() == header.split()
    assert lines[2].split() == cached.split()
    assert lines[9].split() == missing.split()


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit, match="0"):
        run_weights("--help")
    assert "convert resnet50_v2 --to resnet50.safetensors" in capsys.readouterr().out


def test_torch_loads_an_export_with_its_own_strictness(tmp_path, resnet):
    """Every name, shape and number, also of a module that counts its batches."""
    torch = pytest.importorskip("torch")
    _, variables = resnet
    source = tmp_path / "source.safetensors"
    safetensors_format.write(source, trees.flatten(variables), {"model": "resnet18"})
    export.export(str(source), tmp_path / "w.pth")
    state = torch.load(tmp_path / "w.pth", weights_only=True)

    stem = torch.nn.Module()
    stem.conv1 = torch.nn.Conv2d(3, 64, 7, bias=False)
    stem.bn1 = torch.nn.BatchNorm2d(64)
    stem_names = [name for name in state if name.startswith(("conv1.", "bn1."))]
    stem.load_state_dict({name: state[name] for name in stem_names}, strict=True)
    kernel = variables["params"]["conv1"]["kernel"].transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(stem.conv1.weight.detach().numpy(), kernel)
