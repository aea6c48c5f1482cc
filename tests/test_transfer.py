"""The configs that start from ImageNet weights, on files of the same formats with other numbers and small images."""

import jax
import numpy as np
import pytest

from configs import (
    cifar_efficientnet_b0,
    cifar_hybrid_lora,
    cifar_resnet50_finetune,
    cifar_resnet50_frozen,
    cifar_resnet50_se,
    mnist_hybrid_lora,
    mnist_resnet50_frozen,
)
from imgcls_jax import pretrained, trees
from imgcls_jax.data import Splits
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import ConfigError
from imgcls_jax.pretrained import catalog, export, keras_format, torch_format
from imgcls_jax.pretrained.port import unport
from imgcls_jax.run_folder import RunFolder
from imgcls_jax.training import loop, recorder, setup

CONFIGS = {
    "A1": mnist_hybrid_lora,
    "A3": cifar_hybrid_lora,
    "B2": mnist_resnet50_frozen,
    "D1": cifar_resnet50_frozen,
    "D2": cifar_resnet50_finetune,
    "D3": cifar_resnet50_se,
    "D4a": cifar_efficientnet_b0,
}
# Report A: two projections, the head, and pairs of rank 8 for nine convolutions, by their channels in and out.
PAIRS = (3 + 64, 512 + 512, 3 + 64, 832 + 384, 832 + 192, 192 + 384, 832 + 48, 48 + 128, 832 + 128)
HYBRID = 513 * 512 + 1025 * 512 + 1025 * 256 + 257 * 10 + 8 * sum(PAIRS)
TRAINABLE = {
    "A1": HYBRID,
    "A3": HYBRID,
    "D3": 15_511_690,
    "B2": 20_490,
    "D1": 20_490,
    "D2": 14_985_226,
    "D4a": 4_020_358,
}
CHANNELS = {"A1": 1, "B2": 1}


def examples(count: int, channels: int) -> Dataset:
    images = np.random.default_rng(count).integers(0, 256, (count, 32, 32, channels), dtype=np.uint8)
    return Dataset(images, np.arange(count, dtype=np.int32) % 10, tuple("abcdefghij"))


def small(row: str):
    """The row's config at 32x32, and data for one step of it."""
    config = CONFIGS[row].get_config()
    config.data.transform = config.data.transform.replace("224", "32")
    config.train.update(epochs=1, batch_size=8, eval_batch_size=8)
    channels = CHANNELS.get(row, 3)
    data = Splits(train=examples(16, channels), validation=examples(8, channels), test=examples(8, channels), report={})
    return config, data


@pytest.mark.parametrize("row", CONFIGS)
def test_counts_of_what_trains(row, monkeypatch):
    config, data = small(row)
    initialize = setup.steps.initialize
    monkeypatch.setattr(
        setup.steps, "initialize", lambda *args, **options: jax.eval_shape(lambda: initialize(*args, **options))
    )
    adaptation, params = describe(config, data)
    assert trees.count(adaptation.split(params)[0]) == TRAINABLE[row]


def describe(config, data):
    """The adaptation and the parameters' shapes."""
    from imgcls_jax.training import adapt

    model, transform = setup.build_model(config, num_classes=10)
    params, _ = setup.steps.initialize(model, transform, data.train.images, seed=0)
    image = jax.eval_shape(transform, data.train.images[:1])
    return adapt.create(config, model, params, image, seed=0)


def test_a_hybrid_takes_each_backbone_from_its_own_file(tmp_path):
    config, data = small("A1")
    model, transform = setup.build_model(config, num_classes=10)
    shapes = jax.eval_shape(lambda: setup.steps.initialize(model, transform, data.train.images, seed=0))
    params, model_state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    given, paths = {}, []
    for seed, name in enumerate(config.model.backbones):
        random, expected = np.random.default_rng(seed), export._shapes({"name": name}, num_classes=1000)
        given[name] = jax.tree.map(lambda leaf, random=random: random.random(leaf.shape, np.float32), expected)
        paths.append(tmp_path / f"{name}.pth")
        torch_format.write(paths[-1], unport(given[name], name_of=catalog.key_map(name).name_of))
    config.model.pretrained = ", ".join(map(str, paths))
    params, model_state = pretrained.initialize(config, params=params, model_state=model_state)
    for name, weights in given.items():
        weights = trees.flatten(weights)
        taken = trees.flatten({"params": params[name], "batch_stats": model_state["batch_stats"][name]})
        assert all(np.array_equal(leaf, weights[path]) for path, leaf in taken.items())
        assert set(weights) - set(taken) == {"params/fc/kernel", "params/fc/bias"}
    assert not np.any(params["top"]["classifier"]["kernel"])
    config.model.pretrained = str(paths[0])
    with pytest.raises(ConfigError, match="give 2 sources separated by commas, one for each of resnet18, googlenet"):
        pretrained.initialize(config, params=params, model_state=model_state)


def test_options_of_published_weights_reach_the_backbone():
    config = pretrained.resolve(mnist_hybrid_lora.get_config())
    assert config.model.options.googlenet.transform_input is True
    model, _ = setup.build_model(config, num_classes=10)
    assert model.options["googlenet"]["transform_input"]


@pytest.mark.parametrize("row", ["B2", "D1"])
def test_it_trains_from_a_file_and_the_backbone_stays(row, tmp_path, monkeypatch):
    monkeypatch.setattr(recorder.Recorder, "_write_scalars", lambda self, line: None)
    config, data = small(row)
    name = config.model.name
    expected = export._shapes({"name": name}, num_classes=1000)
    random = np.random.default_rng(0)
    weights = jax.tree.map(lambda leaf: random.normal(0, 0.05, leaf.shape).astype(np.float32) ** 2, expected)
    arrays = unport(weights, name_of=catalog.key_map(name).name_of)
    if name.endswith("keras"):
        path = tmp_path / "weights.h5"
        keras_format.write(path, arrays)
    else:
        path = tmp_path / "weights.pth"
        torch_format.write(path, arrays)
    config.model.pretrained = str(path)

    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_json("config.json", config.to_dict())
    loop.train(config, run, data)
    kept = pretrained.read(run.path, model=name)
    given = trees.flatten(weights)
    changed = {key for key, leaf in kept.items() if not np.array_equal(leaf, given[key])}
    classifier = {key for key in given if key.startswith(("params/fc/", "params/predictions/"))}
    assert changed == classifier and len(run.history) == 1
