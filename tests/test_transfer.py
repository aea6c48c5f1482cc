"""The configs that start from ImageNet weights, on files of the same formats with other numbers and small images."""

import functools
import re

import jax
import numpy as np
import pytest

from configs import (
    cifar_convnext_tiny,
    cifar_efficientnet_b0,
    cifar_efficientnetv2_96,
    cifar_efficientnetv2_224,
    cifar_hybrid_lora,
    cifar_resnet50_finetune,
    cifar_resnet50_frozen,
    cifar_resnet50_se,
    mnist_hybrid_lora,
    mnist_resnet50_frozen,
)
from imgcls_jax import models, pretrained, trees
from imgcls_jax.data import Splits
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import ConfigError
from imgcls_jax.models import lora
from imgcls_jax.pretrained import catalog, export, keras_format, torch_format
from imgcls_jax.pretrained.port import unport
from imgcls_jax.run.checkpoints import Checkpoints
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import adapt, loop, phases, recorder, setup
from imgcls_jax.training.initializer import Initializer

CONFIGS = {
    "A1": mnist_hybrid_lora,
    "A3": cifar_hybrid_lora,
    "B2": mnist_resnet50_frozen,
    "D1": cifar_resnet50_frozen,
    "D2": cifar_resnet50_finetune,
    "D3": cifar_resnet50_se,
    "D4a": cifar_efficientnet_b0,
    "D6": cifar_convnext_tiny,
    "E6": cifar_efficientnetv2_96,
    "E7": cifar_efficientnetv2_224,
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
    "D6": 27_827_818,
    "E6": 1_497_450,
    "E7": 2_290_458,
}
FIRST_PHASE = {"E6": 333_578, "E7": 333_578}  # of 6,255,962 with batch statistics
LORA = (
    "resnet18/(conv1/k|layer4_1/conv2/k)|googlenet/(conv1|inception5b)/.*kernel|/projection_|/top/"
)
TRAINED = {  # of parameters and statistics
    "A1": LORA,
    "B2": "/predictions/",
    "D1": "/fc/",
    "D2": "/layer4_|/fc/",
    "D3": "/layer4_|/se_|/top/",
    "D4a": "",
    "D6": "",
    "E6": "block6g/(dwconv2|se|project)|block6h|b0/top/|/top/",
    "E7": "block6[fgh]|/top/",
}
CHANNELS = {"A1": 1, "B2": 1}
# How many blocks each stage has where a config is trained: compiling all of them takes minutes. What is trained is
# named by the last ones of resnet18 and efficientnetv2_b0.
BLOCKS = {
    "resnet18": (1, 1, 1, 2),
    "resnet50": (1, 1, 1, 2),
    "resnet50_keras": (1, 1, 1, 2),
    "efficientnet_b0": (1, 1, 1, 1, 1, 1, 1),
    "efficientnetv2_b0": (1, 1, 1, 1, 1, 8),
    "convnext_tiny": (1, 1, 1, 1),
}


@pytest.fixture
def shallow(monkeypatch):
    """Models with fewer blocks of each kind, and, afterwards, the memory of their programs.

    Their programs run for a step or two: to compile them well would take most of the time.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    for name, blocks in BLOCKS.items():
        model = models.MODELS[name]
        if "stages" in model.keywords:
            stages = zip(model.keywords["stages"], blocks, strict=True)
            changed = {"stages": tuple(stage._replace(blocks=count) for stage, count in stages)}
        else:
            changed = {"blocks": blocks}
        monkeypatch.setitem(models.MODELS, name, functools.partial(model, **changed))
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


def examples(count: int, channels: int) -> Dataset:
    images = np.random.default_rng(count).integers(
        0, 256, (count, 32, 32, channels), dtype=np.uint8
    )
    return Dataset(images, np.arange(count, dtype=np.int32) % 10, tuple("abcdefghij"))


def small(row: str):
    """The row's config at 32x32, and data for one step of it, or of each of its phases."""
    config = CONFIGS[row].get_config()
    config.data.transform = re.sub(r"resize\(\d+\)", "resize(32)", config.data.transform)
    config.train.update(epochs=1, batch_size=8, eval_batch_size=8)
    for phase in config.adapt.phases.values():
        phase.train.epochs = 1
    config.adapt.feature_folder = ""
    channels = CHANNELS.get(row, 3)
    data = Splits(
        train=examples(8, channels),
        validation=examples(8, channels),
        test=examples(8, channels),
        report={},
    )
    return config, data


@pytest.mark.parametrize("row", CONFIGS)
def test_counts_of_what_trains(row):
    config, data = small(row)
    model, transform = setup.build_model(config, num_classes=10)
    image = jax.eval_shape(transform, data.train.images[:1])
    params = Initializer(model, image, seed=0).shapes["params"]
    counts = []
    for phase in phases.of(config).values():
        adaptation = adapt.create(phase, model, params, image)
        adapted = jax.eval_shape(functools.partial(adaptation.add_pairs, seed=0), params)
        counts.append(trees.count(adaptation.split(adapted)[0]))
    assert counts == (
        [FIRST_PHASE[row], TRAINABLE[row]] if row in FIRST_PHASE else [TRAINABLE[row]]
    )


def test_a_hybrid_takes_each_backbone_from_its_own_file(tmp_path):
    config, data = small("A1")
    model, transform = setup.build_model(config, num_classes=10)
    shapes = Initializer(model, jax.eval_shape(transform, data.train.images[:1]), seed=0).shapes
    given, paths = {}, []
    for seed, name in enumerate(config.model.backbones):
        random, expected = (
            np.random.default_rng(seed),
            export._shapes({"name": name}, num_classes=1000),
        )
        given[name] = jax.tree.map(
            lambda leaf, random=random: random.random(leaf.shape, np.float32), expected
        )
        paths.append(tmp_path / f"{name}.pth")
        torch_format.write(paths[-1], unport(given[name], name_of=catalog.key_map(name).name_of))
    config.model.pretrained = ", ".join(map(str, paths))
    loaded = pretrained.initialize(config, shapes)
    for name, weights in given.items():
        weights = trees.flatten(weights)
        taken = trees.flatten(
            {"params": loaded["params"][name], "batch_stats": loaded["batch_stats"][name]}
        )
        assert all(np.array_equal(leaf, weights[path]) for path, leaf in taken.items())
        assert set(weights) - set(taken) == {"params/fc/kernel", "params/fc/bias"}
    assert loaded["params"]["top"] == shapes["params"]["top"]
    config.model.pretrained = str(paths[0])
    with pytest.raises(
        ConfigError, match="give 2 sources separated by commas, one for each of resnet18, googlenet"
    ):
        pretrained.initialize(config, shapes)


def test_options_of_published_weights_reach_the_backbone():
    config = pretrained.resolve(mnist_hybrid_lora.get_config())
    assert config.model.options.googlenet.transform_input is True
    model, _ = setup.build_model(config, num_classes=10)
    assert model.options["googlenet"]["transform_input"]


def write_weights(path, name: str) -> dict[str, np.ndarray]:
    """A file of made-up weights of the model in its own format; returns them by the paths of the model's variables."""
    random, expected = np.random.default_rng(0), export._shapes({"name": name}, num_classes=1000)
    weights = jax.tree.map(
        lambda leaf: random.normal(0, 0.05, leaf.shape).astype(np.float32), expected
    )
    weights["batch_stats"] = jax.tree.map(
        lambda leaf: np.abs(leaf) + 0.5, weights.get("batch_stats", {})
    )
    write = keras_format.write if path.suffix == ".h5" else torch_format.write
    write(path, unport(weights, name_of=catalog.key_map(name).name_of))
    return trees.flatten(weights)


# A3 trains as A1 does, on images of three channels, as D1's are.
@pytest.mark.parametrize("row", [row for row in CONFIGS if row != "A3"])
def test_it_trains_from_files_what_it_should_and_nothing_else(row, tmp_path, monkeypatch, shallow):
    monkeypatch.setattr(recorder.Recorder, "_write_epoch", lambda self, line: None)
    config, data = small(row)
    hybrid = config.model.name == "hybrid"
    paths, given = [], {}
    for name in config.model.backbones if hybrid else [config.model.name]:
        suffix = ".h5" if catalog.key_map(name).family == "keras" else ".pth"
        paths.append(tmp_path / f"{name}{suffix}")
        for path, leaf in write_weights(paths[-1], name).items():
            given[path.replace("/", f"/{name}/", 1) if hybrid else path] = leaf
    config.model.pretrained = ",".join(map(str, paths))
    config = pretrained.resolve(config)

    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_json("config.json", config.to_dict())
    run.write_json(
        "data.json",
        {
            "class_names": data.train.class_names,
            "splits": {"train": {"shape": (32, 32, 3), "pixel_mean": 120.0}},
        },
    )
    loop.train(config, run, data)
    assert all(np.isfinite(line["train_loss"]) for line in run.history)
    kept = newest(run)
    changed = {
        path
        for path, leaf in kept.items()
        if path in given and not np.array_equal(leaf, given[path])
    }
    trained = {path for path in kept if re.search(TRAINED[row], path)}
    # A bias before a norm has no gradient but rounding's, and what a ReLU cut off all over the batch has none.
    assert changed <= trained and len(changed) > 0.7 * len(trained & set(given))


def newest(run: RunFolder) -> dict[str, np.ndarray]:
    """Parameters, low-rank pairs merged, and statistics of the newest checkpoint, by path."""
    step = max(int(path.name) for path in (run.path / "checkpoints").iterdir())
    checkpoints = Checkpoints(run.path / "checkpoints", read_only=True)
    model = checkpoints._try(step, {"model": None})["model"]
    checkpoints.close()
    params = lora.LoRA.from_config(run.config).merge(model["params"])
    return trees.flatten({"params": params, **model["model_state"]})
