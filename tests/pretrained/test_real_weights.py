"""Real ImageNet weights: what they say of two photos, and the features that Keras computed.

Tests of files that are not on this machine skip, and say which file.
"""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
import sklearn.datasets
from ml_collections import ConfigDict

from imgcls_jax import commands, models, pretrained
from imgcls_jax.data.transforms import parse
from imgcls_jax.errors import ConfigError, DataError
from imgcls_jax.evaluation import classifiers, published
from imgcls_jax.pretrained import CATALOG, packages

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
# The classes that are right for each photo.
CLASSES = {"china.jpg": {663: "monastery", 698: "palace"}, "flower.jpg": {985: "daisy"}}


@pytest.fixture(scope="module")
def lite0():
    try:
        packages.find(CATALOG["efficientnet_lite0"])
    except DataError as error:
        pytest.skip(str(error))
    return classifiers.load("efficientnet_lite0")


@pytest.mark.parametrize("photo", CLASSES)
def test_lite0_recognises_a_palace_and_a_daisy(lite0, photo):
    right_classes = CLASSES[photo]
    for number, name in right_classes.items():
        assert lite0.class_names[number] == name
    image, _ = lite0.reader(PHOTOS / photo)
    probabilities = lite0.probabilities(image[None])[0]
    top5 = np.argsort(-probabilities)[:5]
    assert set(top5) & set(right_classes)
    assert probabilities.sum() == pytest.approx(1)


def test_predict_by_a_name_in_the_catalogue(lite0, capsys, monkeypatch):
    monkeypatch.setattr(classifiers, "PublishedClassifier", lambda name, **options: lite0)
    commands.predict.predict("efficientnet_lite0", [str(PHOTOS / "flower.jpg")])
    line = json.loads(capsys.readouterr().out)
    assert line["class"] == "daisy"
    assert len(line["top"]) == 5


def test_class_names_are_a_thousand():
    names = published.CLASSES.read_text().splitlines()
    assert len(names) == len(set(names)) == 1000
    assert names[0] == "tench"
    assert names[-1] == "toilet tissue"


def test_weights_without_a_classifier_predict_nothing():
    with pytest.raises(ConfigError, match="notop have no classifier .*: .*efficientnet_lite0"):
        classifiers.load("efficientnetv2_b0_keras_notop")


def keras_files() -> tuple[Path, Path]:
    """Keras' weights, and the features that Keras computed with them.

    Both are beside the folder of TFDS' data.
    """
    tfds_folder = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    folder = tfds_folder.parent / "weights"
    weights = folder / "efficientnetv2_b0_imagenet_notop.h5"
    features = folder / "efficientnetv2_b0_reference_features.npy"
    for file in (weights, features):
        if not file.exists():
            pytest.skip(f"{file} is not there")
    return weights, features


def test_efficientnetv2_gives_the_features_that_keras_gives():
    weights_file, features_file = keras_files()
    name = "efficientnetv2_b0"
    model = models.create(ConfigDict({"name": name}), num_classes=10)
    images = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    normalize = parse("normalize(imagenet)").ops[0]
    x = normalize(images / 255, None)

    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    initial = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    skip = pretrained.key_map(name).classifier
    variables = pretrained.load(weights_file, model=name, expected=initial, skip=skip)
    features = jax.jit(lambda v, x: model.apply(v, x, method="encode"))(variables, x)

    expected = np.load(features_file)
    largest = np.abs(expected).max()
    error = np.abs(features - expected).max() / largest
    apart = np.abs(expected[0] - expected[1]).max() / largest
    assert error <= 1e-4
    assert apart > 100 * error  # the two images' features can be told apart
