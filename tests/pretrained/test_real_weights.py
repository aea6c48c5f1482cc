"""Real ImageNet weights: what they say of photos that scikit-learn carries, and the features that Keras has.

Tests of files that are not at hand skip, and say which file.
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
CLASSES = {"china.jpg": {663: "monastery", 698: "palace"}, "flower.jpg": {985: "daisy"}}


@pytest.fixture(scope="module")
def lite0():
    try:
        packages.find(CATALOG["efficientnet_lite0"])
    except DataError as error:
        pytest.skip(str(error))
    return classifiers.load("efficientnet_lite0")


def test_lite0_knows_a_palace_and_a_daisy(lite0):
    for name, accepted in CLASSES.items():
        assert all(lite0.class_names[number] == word for number, word in accepted.items())
        image, _ = lite0.reader(PHOTOS / name)
        probabilities = lite0.probabilities(image[None])[0]
        assert set(np.argsort(-probabilities)[:5]) & set(accepted)
        assert probabilities.sum() == pytest.approx(1)


def test_predict_by_a_name_in_the_catalogue(lite0, capsys, monkeypatch):
    monkeypatch.setattr(classifiers, "PublishedClassifier", lambda name: lite0)
    monkeypatch.setattr(commands.predict.signal, "signal", lambda *arguments: None)
    commands.predict.predict("efficientnet_lite0", [str(PHOTOS / "flower.jpg")])
    line = json.loads(capsys.readouterr().out)
    assert line["class"] == "daisy" and len(line["top"]) == 5


def test_class_names_are_a_thousand():
    names = published.CLASSES.read_text().splitlines()
    assert len(names) == len(set(names)) == 1000
    assert names[0] == "tench" and names[-1] == "toilet tissue"


def test_weights_without_a_classifier_predict_nothing():
    with pytest.raises(ConfigError, match="notop have no classifier .*: .*efficientnet_lite0"):
        classifiers.load("efficientnetv2_b0_keras_notop")


def keras_files() -> tuple[Path, Path]:
    """Keras' weights and the features that Keras computed with them, beside the folder of TFDS' data."""
    folder = (
        Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser().parent
        / "weights"
    )
    files = (
        folder / "efficientnetv2_b0_imagenet_notop.h5",
        folder / "efficientnetv2_b0_reference_features.npy",
    )
    for file in files:
        if not file.exists():
            pytest.skip(f"{file} is not there")
    return files


def test_efficientnetv2_gives_the_features_that_keras_gives():
    file, reference = keras_files()
    model = models.create(ConfigDict({"name": "efficientnetv2_b0"}), num_classes=10)
    images = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    normalize = parse("normalize(imagenet)").ops[0]
    x = normalize(images / 255, None)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    initial = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    skip = pretrained.key_map("efficientnetv2_b0").classifier
    variables = pretrained.load(file, model="efficientnetv2_b0", expected=initial, skip=skip)
    features = jax.jit(lambda v, x: model.apply(v, x, method="encode"))(variables, x)
    expected = np.load(reference)
    error = np.abs(features - expected).max() / np.abs(expected).max()
    apart = np.abs(expected[0] - expected[1]).max() / np.abs(expected).max()
    assert error <= 1e-4
    assert apart > 100 * error  # the two images' features can be told apart
