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
from imgcls_jax.evaluation.gradcam import GROUPS, METHODS, RIGHT, WRONG, pick
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.models.classifier import Classifier

X = np.random.default_rng(0).random((5, 8, 8, 2)).astype(np.float32)
CLASSES = np.array([0, 2, 1, 0, 2])
CNN = {
    "name": "cnn",
    "filters": (4,),
    "hidden": 8,
}  # its maps are two pixels smaller than the images


class Small(Classifier):
    """A convolution, ReLU, the mean over places, a dense layer."""

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
    draw = np.random.default_rng(1).normal
    moved = jax.tree.map(
        lambda leaf: leaf + 0.1 * draw(size=leaf.shape).astype(np.float32), variables["params"]
    )
    return {**variables, "params": moved}


def compute(method, model, variables, x, classes=CLASSES):
    return jax.jit(functools.partial(METHODS[method], model))(variables, x, classes)


def small_by_hand(params, x):
    """Feature maps and logits of Small, float64."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    maps = np.einsum("bhwcij,ijcf->bhwf", patches, np.asarray(params["conv"]["kernel"], np.float64))
    maps = np.maximum(maps + np.asarray(params["conv"]["bias"]), 0)
    return maps, maps.mean((1, 2)) @ np.asarray(params["dense"]["kernel"]) + np.asarray(
        params["dense"]["bias"]
    )


def gradcam_by_hand(maps, gradients):
    return np.maximum((gradients.mean((1, 2), keepdims=True) * maps).sum(-1), 0)


def gradcam_plus_plus_by_hand(maps, gradients):
    """Equation 19 of arXiv:1710.11063 as it stands, place by place."""
    out = np.zeros(maps.shape[:3])
    for n, (A, g) in enumerate(zip(maps, gradients, strict=True)):
        for k in range(A.shape[-1]):
            weight = 0.0
            for i, j in np.ndindex(A.shape[:2]):
                below = 2 * g[i, j, k] ** 2 + A[..., k].sum() * g[i, j, k] ** 3
                alpha = g[i, j, k] ** 2 / below if below else 0.0
                weight += alpha * max(g[i, j, k], 0)
            out[n] += weight * A[..., k]
    return np.maximum(out, 0)


BY_HAND = {"gradcam": gradcam_by_hand, "gradcam++": gradcam_plus_plus_by_hand}


@pytest.mark.parametrize("method", BY_HAND)
def test_by_hand_on_a_linear_head(method):
    """Where the gradient of a class' logit is its column of the kernel at every place, over their number."""
    model = Small()
    variables = initialized(model)
    maps, _ = small_by_hand(variables["params"], X)
    columns = np.asarray(variables["params"]["dense"]["kernel"], np.float64)[:, CLASSES].T
    gradients = np.broadcast_to(columns[:, None, None] / 64, maps.shape)
    expected = BY_HAND[method](maps, gradients)
    assert (expected > 0).mean() > 0.5
    np.testing.assert_allclose(compute(method, model, variables, X), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", BY_HAND)
def test_by_finite_differences_on_a_head_that_is_not_linear(method):
    """Report B's CNN, whose head takes each place by itself, so that gradients differ between places."""
    model = models.create(ConfigDict(CNN), num_classes=3)
    variables = initialized(model)
    maps = np.asarray(model.apply(variables, X, method="features"), np.float64)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])

    def score(maps):
        hidden = np.maximum(
            maps.reshape(len(maps), -1) @ params["dense"]["kernel"] + params["dense"]["bias"], 0
        )
        logits = hidden @ params["classifier"]["kernel"] + params["classifier"]["bias"]
        return logits[np.arange(len(maps)), CLASSES]

    gradients, step = np.zeros_like(maps), 1e-6
    for place in np.ndindex(maps.shape[1:]):
        nudge = np.zeros(maps.shape[1:])
        nudge[place] = step
        gradients[:, *place] = (score(maps + nudge) - score(maps - nudge)) / (2 * step)
    assert gradients.std((1, 2)).min() > 0
    expected = BY_HAND[method](maps, gradients)
    assert expected.max() > 0
    np.testing.assert_allclose(compute(method, model, variables, X), expected, rtol=1e-3, atol=1e-6)


def test_saliency_by_finite_differences():
    model = Small()
    variables = initialized(model)
    gradients, step = np.zeros(X.shape), 1e-6
    for place in np.ndindex(X.shape[1:]):
        nudge = np.zeros(X.shape[1:])
        nudge[place] = step
        each = [small_by_hand(variables["params"], X + sign * nudge)[1] for sign in (1, -1)]
        gradients[:, *place] = ((each[0] - each[1]) / (2 * step))[np.arange(5), CLASSES]
    found = compute("saliency", model, variables, X)
    np.testing.assert_allclose(found, np.abs(gradients).max(-1), rtol=1e-3, atol=1e-6)


def test_negative_features_leave_grad_cam_plus_plus_finite():
    """Their sum, as the paper has it, may make its denominator 0: here of 2 + g * sum, g being 1 / 4."""

    class Raw(Small):
        def features(self, x, *, train: bool = False):
            return x

        def head(self, x, *, train: bool = False):
            return x

    x = jnp.full((1, 2, 2, 2), -2.0).at[..., 1].set(1)
    found = compute("gradcam++", Raw(), {}, x, np.array([0]))
    np.testing.assert_array_equal(found, np.zeros((1, 2, 2)))  # what is negative speaks for nothing
    found = compute("gradcam++", Raw(), {}, x, np.array([1]))
    np.testing.assert_allclose(found, np.full((1, 2, 2), 1 / 3), rtol=1e-6)


def predictor(options, shape=(8, 8, 2), transform=""):
    """What `maps` needs of a Predictor, untrained."""
    model, parsed = models.create(ConfigDict(options), num_classes=3), parse(transform)
    variables = initialized(model, parsed(np.zeros((1, *shape), np.uint8)))
    return SimpleNamespace(
        name="untrained", model=model, transform=parsed, variables=variables, shape=shape
    )


def images(count=5, shape=(8, 8, 2)):
    return np.random.default_rng(2).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_maps_of_several_backbones_are_one_with_the_channels_of_all():
    """Here with pools of their own: the mean of VGG's places, all the places of the CNN."""
    options = {"vgg": {"blocks": (1, 1, 1), "filters": (2, 3, 4)}, "cnn": {"filters": (2, 5)}}
    both = predictor(
        {"name": "hybrid", "backbones": ("vgg", "cnn"), "options": options}, (10, 10, 2)
    )
    pictures = images(5, (10, 10, 2))
    vgg, cnn = jax.jit(both.model.apply, static_argnames="method")(
        both.variables, both.transform(pictures), method="features"
    )
    assert vgg.shape == (5, 2, 2, 4) and cnn.shape == (5, 2, 2, 5)
    kernel = np.asarray(both.variables["params"]["top"]["classifier"]["kernel"])[:, CLASSES].T
    gradients = (
        np.broadcast_to(kernel[:, None, None, :4] / 4, vgg.shape),
        kernel[:, 4:].reshape(cnn.shape),
    )
    expected = gradcam_by_hand(np.concatenate([vgg, cnn], -1), np.concatenate(gradients, -1))
    assert (expected > 0).any()
    found = compute("gradcam", both.model, both.variables, both.transform(pictures))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
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
def test_features_that_are_no_map_are_refused_but_for_saliency(case):
    options, found = REFUSED[case]
    refused = predictor(options)
    for method in BY_HAND:
        with pytest.raises(
            RunError, match=f"untrained: the features of the model {found}.*--method saliency"
        ):
            gradcam.maps(refused, images(), CLASSES, method=method)
    maps = gradcam.maps(refused, images(), CLASSES, method="saliency")
    assert maps.shape == (5, 8, 8) and (maps.max((1, 2)) > 0).all()


def test_maps_lie_where_the_model_looks():
    """Shrunk from 20x12 to 10x10, of which the middle 6x6 is seen: in the image rows 4 to 15, columns 2.4 to 9.6."""
    seeing = predictor(CNN, (20, 12, 3), "resize(10)|center_crop(6)|normalize(imagenet)")
    maps = gradcam.maps(seeing, images(5, (20, 12, 3)), CLASSES, method="saliency")
    assert maps.shape == (5, 20, 12) and maps[:, 5:15, 4:8].any((1, 2)).all()
    outside = np.ones((20, 12), bool)
    outside[3:17, 1:11] = False  # a pixel more, for interpolation
    assert not maps[:, outside].any()
    x = seeing.transform(images(5, (20, 12, 3)))
    small = compute("saliency", seeing.model, seeing.variables, x)
    np.testing.assert_allclose(maps.mean((1, 2)), np.asarray(small).sum((1, 2)) / 100, rtol=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_batches_change_nothing(method, monkeypatch):
    explained = predictor(CNN)
    whole = gradcam.maps(explained, images(), CLASSES, method=method)
    monkeypatch.setattr(gradcam, "BATCH", 2)
    np.testing.assert_allclose(
        gradcam.maps(explained, images(), CLASSES, method=method), whole, rtol=1e-4, atol=1e-7
    )


def test_the_rule_of_the_pick():
    random = np.random.default_rng(3)
    probabilities = random.dirichlet(np.ones(4), 300).astype(np.float32)
    labels = np.where(
        random.random(300) < 0.6, probabilities.argmax(1), random.integers(0, 4, 300)
    ).astype(np.int32)
    examples = pick(probabilities, labels, seed=0)
    assert examples == pick(probabilities, labels, seed=0)
    confidence, hit = probabilities.max(1), probabilities.argmax(1) == labels
    for right, most in ((True, RIGHT), (False, WRONG)):
        ranked = sorted(np.flatnonzero(hit == right), key=lambda i: -confidence[i])
        chosen = {
            group: [
                each["index"]
                for each in examples
                if each["group"] == group and (each["label"] == each["prediction"]) == right
            ]
            for group in GROUPS
        }
        assert (
            chosen["most confident"] == ranked[:most]
            and chosen["least confident"] == ranked[-most:]
        )
        places = [ranked.index(i) / len(ranked) for i in chosen["in the middle"]]
        assert len(places) == most and all(0.45 < place < 0.55 for place in places)
    for each in examples:
        assert (
            each["confidence"] == confidence[each["index"]]
            and each["label"] == labels[each["index"]]
        )


def test_equally_confident_predictions_are_drawn_by_the_seed():
    probabilities = np.tile(np.array([[1.0, 0.0]], np.float32), (500, 1))
    labels = np.zeros(500, np.int32)
    indices = [
        [each["index"] for each in pick(probabilities, labels, seed=seed)] for seed in (0, 0, 1)
    ]
    assert indices[0] == indices[1] != indices[2] and max(indices[0]) > 100


@pytest.mark.parametrize("wrong", [0, 1, 2, 7])
def test_of_few_mistakes_all_are_picked(wrong):
    probabilities = (
        np.eye(2, dtype=np.float32)[np.zeros(40, int)]
        * np.linspace(0.6, 1, 40, dtype=np.float32)[:, None]
    )
    labels = (np.arange(40) < wrong).astype(np.int32)
    examples = pick(probabilities, labels, seed=0)
    found = [each["index"] for each in examples if each["label"] == 1]
    assert found == list(range(wrong))[::-1] and len(examples) == wrong + 3 * RIGHT


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network with maps of 6x6, trained on the digits."""
    config = base.get_config()
    config.data.source = config.data.name = "digits"
    config.model = ConfigDict({"name": "cnn", "filters": (16,), "hidden": 32, "pretrained": None})
    config.train.update(epochs=4, batch_size=32)
    config.optimizer.learning_rate = 3e-3
    return commands.train.train(config, tmp_path_factory.mktemp("runs") / "digits")


def rank_correlation(one, other):
    """Mean over the images whose maps are not empty."""
    return np.mean(
        [
            stats.spearmanr(a.ravel(), b.ravel())[0]
            for a, b in zip(one, other, strict=True)
            if a.std() and b.std()
        ]
    )


@pytest.mark.parametrize("method", METHODS)
def test_maps_depend_on_the_weights(run, method):
    """The sanity check of Adebayo et al. (2018, arXiv:1810.03292): maps of weights drawn anew rank places otherwise.

    Grad-CAM++, whose weights are never negative, does worst: on a single layer it shows where any filter sees strokes.
    """
    test = data.load(run.config.data).test
    trained = Predictor(run)
    classes = trained.logits(test.images[:60]).argmax(-1)
    assert (classes == test.labels[:60]).mean() > 0.85
    maps = gradcam.maps(trained, test.images[:60], classes, method=method)
    np.testing.assert_array_equal(
        gradcam.maps(Predictor(run), test.images[:60], classes, method=method), maps
    )
    correlations = []
    for seed in range(3):
        drawn = trained.model.init(jax.random.key(seed), trained.transform(test.images[:1]))
        assert trees.count(drawn["params"]) == trained.parameters
        other = SimpleNamespace(**vars(trained) | {"variables": drawn})
        correlations.append(
            rank_correlation(maps, gradcam.maps(other, test.images[:60], classes, method=method))
        )
    assert abs(np.mean(correlations)) < (0.95 if method == "gradcam++" else 0.4), correlations


def test_a_run_is_explained_from_its_folder(run):
    test = data.load(run.config.data).test
    found, maps = gradcam.explain(run, test, method="gradcam")
    again, same = gradcam.explain(run, test, method="gradcam")
    assert found == again and found["method"] == "gradcam"
    np.testing.assert_array_equal(maps, same)
    assert maps.shape == (len(found["examples"]), 2, 8, 8) and maps.min() >= 0
    for example, (predicted, true) in zip(found["examples"], maps, strict=True):
        assert test.labels[example["index"]] == example["label"]
        assert (example["label"] == example["prediction"]) == np.array_equal(predicted, true)
    wrong = next(each for each in found["examples"] if each["label"] != each["prediction"])
    one = gradcam.maps(
        Predictor(run), test.images[[wrong["index"]]], np.array([wrong["label"]]), method="gradcam"
    )
    np.testing.assert_allclose(
        one[0], maps[found["examples"].index(wrong), 1], rtol=1e-4, atol=1e-6
    )


def test_the_smallest_share_that_holds_most_of_a_map():
    maps = np.zeros((4, 2, 5), np.float32)
    maps[0, 1, 2] = 3.0  # one of ten places holds all
    maps[1] = 1.0  # eight of ten hold 0.8
    maps[2, 0] = [8, 1, 0.5, 0.25, 0.25]
    np.testing.assert_allclose(gradcam.smallest_shares(maps), [0.1, 0.8, 0.1, 1.0])


def test_compactness_is_of_the_same_images_for_every_run(run, monkeypatch):
    test = data.load(run.config.data).test
    monkeypatch.setattr(gradcam, "MEASURED", 12)
    seen = []
    monkeypatch.setattr(
        gradcam,
        "maps",
        lambda predictor, images, classes, method: seen.append((images, classes)) or MAPS,
    )
    assert gradcam.compactness(run, test, method="gradcam") == pytest.approx([0.25] * 12)
    gradcam.compactness(run, test, method="gradcam")
    (images, classes), (again, _) = seen
    np.testing.assert_array_equal(images, again)
    places = [
        next(i for i, image in enumerate(test.images) if (image == each).all()) for each in images
    ]
    assert len(set(places)) == 12 and (run.predictions[0].argmax(-1)[places] == classes).all()


MAPS = np.tile(np.array([[1.0, 0.0], [0.0, 0.0]]), (12, 1, 1))
