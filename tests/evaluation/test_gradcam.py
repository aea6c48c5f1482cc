"""Grad-CAM, Grad-CAM++ and saliency: by hand, by finite differences, and on a trained run."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from ml_collections import ConfigDict
from scipy import stats

from configs import base
from imgcls_jax import commands, data, models, trees
from imgcls_jax.data.transforms import parse
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import gradcam
from imgcls_jax.evaluation.gradcam import GROUPS, METHODS, NUM_RIGHT, NUM_WRONG, select_examples
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.models.classifier import Classifier

X = np.random.default_rng(0).random((5, 8, 8, 2)).astype(np.float32)
CLASSES = np.array([0, 2, 1, 0, 2])
# Its maps are two pixels smaller than the images.
CNN = {"name": "cnn", "filters": (4,), "hidden": 8}


class Small(Classifier):
    """A convolution, ReLU, the mean over positions, a dense layer."""

    def setup(self):
        self.conv = nn.Conv(4, (3, 3))
        self.dense = nn.Dense(3)

    def features(self, x, *, train: bool = False):
        return nn.relu(self.conv(x))

    def head(self, x, *, train: bool = False):
        return self.dense(x)


def initialized(model, x=X):
    """Variables in which biases are not zero."""
    variables = jax.jit(model.init)(jax.random.key(0), x)
    rng = np.random.default_rng(1)

    def perturb(leaf):
        return leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32)

    return {**variables, "params": jax.tree.map(perturb, variables["params"])}


def compute(method, model, variables, x, classes=CLASSES):
    return jax.jit(functools.partial(METHODS[method], model))(variables, x, classes)


def small_by_hand(params, x):
    """Feature maps and logits of Small, float64."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    conv, dense = params["conv"], params["dense"]
    maps = np.einsum("bhwcij,ijcf->bhwf", patches, conv["kernel"])
    maps = np.maximum(maps + conv["bias"], 0)
    return maps, maps.mean((1, 2)) @ dense["kernel"] + dense["bias"]


def gradcam_by_hand(maps, gradients):
    return np.maximum((gradients.mean((1, 2), keepdims=True) * maps).sum(-1), 0)


def gradcam_plus_plus_by_hand(maps, gradients):
    """Equation 19 of arXiv:1710.11063, position by position."""
    out = np.zeros(maps.shape[:3])
    for n, (A, g) in enumerate(zip(maps, gradients, strict=True)):
        for k in range(A.shape[-1]):
            weight = 0.0
            for i, j in np.ndindex(A.shape[:2]):
                gradient = g[i, j, k]
                denominator = 2 * gradient**2 + A[..., k].sum() * gradient**3
                if denominator:
                    alpha = gradient**2 / denominator
                    weight += alpha * max(gradient, 0)
            out[n] += weight * A[..., k]
    return np.maximum(out, 0)


BY_HAND = {"gradcam": gradcam_by_hand, "gradcam++": gradcam_plus_plus_by_hand}


@pytest.mark.parametrize("method", BY_HAND)
def test_by_hand_on_a_linear_head(method):
    """The gradient of a class's logit is its kernel column divided by the number of positions."""
    model = Small()
    variables = initialized(model)
    maps, _ = small_by_hand(variables["params"], X)
    kernel = np.asarray(variables["params"]["dense"]["kernel"], np.float64)
    columns = kernel[:, CLASSES].T
    gradients = np.broadcast_to(columns[:, None, None] / 64, maps.shape)
    expected = BY_HAND[method](maps, gradients)
    assert (expected > 0).mean() > 0.5
    np.testing.assert_allclose(compute(method, model, variables, X), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", BY_HAND)
def test_by_finite_differences_on_a_head_that_is_not_linear(method):
    """Report B's CNN has a weight for each position, so gradients differ between positions."""
    model = models.create(ConfigDict(CNN), num_classes=3)
    variables = initialized(model)
    maps = np.asarray(model.apply(variables, X, method="features"), np.float64)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])

    def score(maps):
        dense, classifier = params["dense"], params["classifier"]
        flat = maps.reshape(len(maps), -1)
        hidden = np.maximum(flat @ dense["kernel"] + dense["bias"], 0)
        logits = hidden @ classifier["kernel"] + classifier["bias"]
        return logits[np.arange(len(maps)), CLASSES]

    gradients = finite_differences(score, maps)
    assert gradients.std((1, 2)).min() > 0
    expected = BY_HAND[method](maps, gradients)
    assert expected.max() > 0
    np.testing.assert_allclose(compute(method, model, variables, X), expected, rtol=1e-3, atol=1e-6)


def finite_differences(score, x, step=1e-6):
    """The gradient of score(x) -> [N] with respect to each example of x [N, ...]."""
    gradients = np.zeros(x.shape)
    for position in np.ndindex(x.shape[1:]):
        nudge = np.zeros(x.shape[1:])
        nudge[position] = step
        gradients[:, *position] = (score(x + nudge) - score(x - nudge)) / (2 * step)
    return gradients


def test_saliency_by_finite_differences():
    model = Small()
    variables = initialized(model)

    def score(x):
        _, logits = small_by_hand(variables["params"], x)
        return logits[np.arange(len(x)), CLASSES]

    expected = np.abs(finite_differences(score, X)).max(-1)
    maps = compute("saliency", model, variables, X)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-6)


def test_negative_features_leave_grad_cam_plus_plus_finite():
    """With their sum the paper's denominator may be 0: here 2 + g * sum with g = 1 / 4."""

    class Raw(Small):
        def features(self, x, *, train: bool = False):
            return x

        def head(self, x, *, train: bool = False):
            return x

    x = jnp.full((1, 2, 2, 2), -2.0).at[..., 1].set(1)
    of_negative = compute("gradcam++", Raw(), {}, x, np.array([0]))
    np.testing.assert_array_equal(of_negative, np.zeros((1, 2, 2)))
    of_positive = compute("gradcam++", Raw(), {}, x, np.array([1]))
    np.testing.assert_allclose(of_positive, np.full((1, 2, 2), 1 / 3), rtol=1e-6)


def predictor(options, shape=(8, 8, 2), transform=""):
    """What `maps` needs of a Predictor, untrained."""
    model = models.create(ConfigDict(options), num_classes=3)
    transform = parse(transform)
    x = transform(np.zeros((1, *shape), np.uint8))
    return SimpleNamespace(
        name="untrained",
        model=model,
        transform=transform,
        variables=initialized(model, x),
        shape=shape,
    )


def images(count=5, shape=(8, 8, 2)):
    return np.random.default_rng(2).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_maps_of_several_backbones_are_one_with_the_channels_of_all():
    """VGG's features are averaged over positions, the CNN's are flattened."""
    options = {"vgg": {"blocks": (1, 1, 1), "filters": (2, 3, 4)}, "cnn": {"filters": (2, 5)}}
    hybrid = {"name": "hybrid", "backbones": ("vgg", "cnn"), "options": options}
    both = predictor(hybrid, (10, 10, 2))
    pictures = images(5, (10, 10, 2))
    x = both.transform(pictures)
    apply = jax.jit(both.model.apply, static_argnames="method")
    vgg, cnn = apply(both.variables, x, method="features")
    assert vgg.shape == (5, 2, 2, 4)
    assert cnn.shape == (5, 2, 2, 5)
    kernel = np.asarray(both.variables["params"]["top"]["classifier"]["kernel"])
    columns = kernel[:, CLASSES].T
    vgg_gradients = np.broadcast_to(columns[:, None, None, :4] / 4, vgg.shape)
    cnn_gradients = columns[:, 4:].reshape(cnn.shape)
    features = np.concatenate([vgg, cnn], -1)
    gradients = np.concatenate([vgg_gradients, cnn_gradients], -1)
    expected = gradcam_by_hand(features, gradients)
    assert (expected > 0).any()
    computed = compute("gradcam", both.model, both.variables, x)
    np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-6)
    assert gradcam.maps(both, pictures, CLASSES, method="gradcam").shape == (5, 10, 10)


REFUSED = {
    "a sequence": ({"name": "attention", "width": 4}, "SelfAttention are 8x4"),
    "a vector": ({"name": "lstm", "units": 6}, "LSTMClassifier are 6"),
    "one place": (
        {"name": "vgg", "blocks": (1, 1, 1, 1), "filters": (4, 4, 4, 6)},
        "VGG are 1x1x6",
    ),
    "two sizes": (
        {
            "name": "hybrid",
            "backbones": ("vgg", "cnn"),
            "options": {"vgg": {"blocks": (1,), "filters": (3,)}, "cnn": {"filters": (4,)}},
        },
        "Hybrid are 8x8x3 and 6x6x4",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_only_saliency_explains_features_that_are_not_maps(case):
    options, description = REFUSED[case]
    refused = predictor(options)
    message = f"untrained: the features of the model {description}.*--method saliency"
    for method in BY_HAND:
        with pytest.raises(RunError, match=message):
            gradcam.maps(refused, images(), CLASSES, method=method)
    maps = gradcam.maps(refused, images(), CLASSES, method="saliency")
    assert maps.shape == (5, 8, 8)
    assert (maps.max((1, 2)) > 0).all()


def test_maps_are_where_the_model_looks():
    """20x12 is resized to 10x10 and cropped to 6x6: in the image rows 4 to 15, columns 2.4 to 9.6.

    Outside of that maps are 0.
    """
    cropping = predictor(CNN, (20, 12, 3), "resize(10)|center_crop(6)|normalize(imagenet)")
    pictures = images(5, (20, 12, 3))
    maps = gradcam.maps(cropping, pictures, CLASSES, method="saliency")
    assert maps.shape == (5, 20, 12)
    assert maps[:, 5:15, 4:8].any((1, 2)).all()
    outside = np.ones((20, 12), bool)
    outside[3:17, 1:11] = False  # a pixel more, for interpolation
    assert not maps[:, outside].any()
    x = cropping.transform(pictures)
    small = np.asarray(compute("saliency", cropping.model, cropping.variables, x))
    np.testing.assert_allclose(maps.mean((1, 2)), small.sum((1, 2)) / 100, rtol=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_batches_change_nothing(method, monkeypatch):
    explained = predictor(CNN)
    whole = gradcam.maps(explained, images(), CLASSES, method=method)
    monkeypatch.setattr(gradcam, "BATCH_SIZE", 2)
    in_batches = gradcam.maps(explained, images(), CLASSES, method=method)
    np.testing.assert_allclose(in_batches, whole, rtol=1e-4, atol=1e-7)


def indices(examples, *, group=None, is_right=None):
    """The indices of the examples of a group, right or wrong ones."""
    selected = []
    for example in examples:
        right = example["label"] == example["prediction"]
        if group in (None, example["group"]) and is_right in (None, right):
            selected.append(example["index"])
    return selected


def test_which_examples_are_selected():
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet(np.ones(4), 300).astype(np.float32)
    predicted = probabilities.argmax(1)
    labels = np.where(rng.random(300) < 0.6, predicted, rng.integers(0, 4, 300)).astype(np.int32)
    examples = select_examples(probabilities, labels, seed=0)
    assert examples == select_examples(probabilities, labels, seed=0)
    confidence = probabilities.max(1)
    for is_right, count in ((True, NUM_RIGHT), (False, NUM_WRONG)):
        ranked = np.flatnonzero((predicted == labels) == is_right)
        ranked = sorted(ranked, key=lambda i: -confidence[i])
        first, middle, last = [
            indices(examples, group=group, is_right=is_right) for group in GROUPS
        ]
        assert first == ranked[:count]
        assert last == ranked[-count:]
        assert len(middle) == count
        for index in middle:
            assert 0.45 < ranked.index(index) / len(ranked) < 0.55
    for example in examples:
        assert example["confidence"] == confidence[example["index"]]
        assert example["label"] == labels[example["index"]]


def test_equally_confident_predictions_are_ordered_by_the_seed():
    probabilities = np.tile(np.array([[1.0, 0.0]], np.float32), (500, 1))
    labels = np.zeros(500, np.int32)
    first = indices(select_examples(probabilities, labels, seed=0))
    again = indices(select_examples(probabilities, labels, seed=0))
    reseeded = indices(select_examples(probabilities, labels, seed=1))
    assert first == again
    assert first != reseeded
    assert max(first) > 100


@pytest.mark.parametrize("wrong", [0, 1, 2, 7])
def test_of_few_mistakes_all_are_selected(wrong):
    confidence = np.linspace(0.6, 1, 40, dtype=np.float32)
    probabilities = np.stack([confidence, np.zeros_like(confidence)], axis=1)
    labels = (np.arange(40) < wrong).astype(np.int32)
    examples = select_examples(probabilities, labels, seed=0)
    assert indices(examples, is_right=False) == list(range(wrong))[::-1]
    assert len(examples) == wrong + 3 * NUM_RIGHT


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network with maps of 6x6, trained on the digits."""
    config = base.get_config()
    config.data.source = config.data.name = "digits"
    config.model = ConfigDict({"name": "cnn", "filters": (16,), "hidden": 32, "pretrained": None})
    config.train.update(epochs=4, batch_size=32)
    config.optimizer.learning_rate = 3e-3
    return commands.train.train(config, tmp_path_factory.mktemp("runs") / "digits")


def rank_correlation(maps, other_maps):
    """The mean over the images whose maps are not constant."""
    correlations = []
    for a, b in zip(maps, other_maps, strict=True):
        if a.std() and b.std():
            correlation, _ = stats.spearmanr(a.ravel(), b.ravel())
            correlations.append(correlation)
    return np.mean(correlations)


@pytest.mark.parametrize("method", METHODS)
def test_maps_depend_on_the_weights(run, method):
    """The sanity check of Adebayo et al. (2018, arXiv:1810.03292): random weights rank otherwise.

    Grad-CAM++, whose weights are never negative, does worst: on a single layer it shows where any
    filter responds to strokes.
    """
    test = data.load(run.config.data).test
    images, labels = test.images[:60], test.labels[:60]
    trained = Predictor(run)
    classes = trained.logits(images).argmax(-1)
    assert (classes == labels).mean() > 0.85
    maps = gradcam.maps(trained, images, classes, method=method)
    again = gradcam.maps(Predictor(run), images, classes, method=method)
    np.testing.assert_array_equal(again, maps)
    correlations = []
    for seed in range(3):
        variables = trained.model.init(jax.random.key(seed), trained.transform(images[:1]))
        assert trees.count(variables["params"]) == trained.parameters
        untrained = SimpleNamespace(**vars(trained) | {"variables": variables})
        random_maps = gradcam.maps(untrained, images, classes, method=method)
        correlations.append(rank_correlation(maps, random_maps))
    limit = 0.4
    if method == "gradcam++":
        limit = 0.95
    assert abs(np.mean(correlations)) < limit, correlations


def test_a_run_is_explained_from_its_folder(run):
    test = data.load(run.config.data).test
    explanation, maps = gradcam.explain(run, test, method="gradcam")
    explanation_again, maps_again = gradcam.explain(run, test, method="gradcam")
    examples = explanation["examples"]
    assert explanation == explanation_again
    assert explanation["method"] == "gradcam"
    np.testing.assert_array_equal(maps, maps_again)
    assert maps.shape == (len(examples), 2, 8, 8)
    assert maps.min() >= 0
    for example, (of_predicted, of_true) in zip(examples, maps, strict=True):
        assert test.labels[example["index"]] == example["label"]
        is_right = example["label"] == example["prediction"]
        assert is_right == np.array_equal(of_predicted, of_true)
    row, wrong = next(
        (row, example)
        for row, example in enumerate(examples)
        if example["label"] != example["prediction"]
    )
    image = test.images[[wrong["index"]]]
    (of_true,) = gradcam.maps(Predictor(run), image, np.array([wrong["label"]]), method="gradcam")
    np.testing.assert_allclose(of_true, maps[row, 1], rtol=1e-4, atol=1e-6)


def test_the_smallest_share_that_holds_most_of_a_map():
    maps = np.zeros((4, 2, 5), np.float32)
    maps[0, 1, 2] = 3.0  # one position of ten holds all
    maps[1] = 1.0  # eight of ten hold 0.8
    maps[2, 0] = [8, 1, 0.5, 0.25, 0.25]
    np.testing.assert_allclose(gradcam.smallest_shares(maps), [0.1, 0.8, 0.1, 1.0])


def test_compactness_is_of_the_same_images_for_every_run(run, monkeypatch):
    test = data.load(run.config.data).test
    monkeypatch.setattr(gradcam, "NUM_MEASURED", 12)
    explained = []

    def quarter_maps(predictor, images, classes, method):
        """Maps with all of their sum at one position of four."""
        explained.append((images, classes))
        return np.tile(np.array([[1.0, 0.0], [0.0, 0.0]]), (12, 1, 1))

    monkeypatch.setattr(gradcam, "maps", quarter_maps)
    assert gradcam.compactness(run, test, method="gradcam") == pytest.approx([0.25] * 12)
    gradcam.compactness(run, test, method="gradcam")
    (images, classes), (images_again, _) = explained
    np.testing.assert_array_equal(images, images_again)
    positions = []
    for image in images:
        same = (test.images == image).all((1, 2, 3))
        positions.append(int(same.argmax()))
    assert len(set(positions)) == 12
    probabilities, _ = run.predictions
    assert (probabilities.argmax(-1)[positions] == classes).all()
