"""What a model looks at: maps of how much each place of an image speaks for a class.

Grad-CAM and Grad-CAM++ weigh the channels of the last feature map by gradients of a class' logit, saliency takes the
gradient of the pixels. A model is explained as it evaluates: images without augmentation, stored batch statistics.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from imgcls_jax.data.batches import filled_batches
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.image_ops import CenterCrop, Resize
from imgcls_jax.data.transforms import Transform
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.run.folder import RunFolder

BATCH = 32  # images whose maps are computed at a time
SEED = 0  # of the order among equally confident predictions
GROUPS = {
    "most confident": 0.0,
    "in the middle": 0.5,
    "least confident": 1.0,
}  # and the place in their third
RIGHT, WRONG = 4, 3  # examples of each group
HELD = (
    0.8  # share of a map's sum: how small a part of the image holds it says how compact the map is
)
MEASURED = 200  # test images whose maps are measured, the same for every run on them


def gradcam(model: nn.Module, variables: Any, x: jax.Array, classes: jax.Array) -> jax.Array:
    """Selvaraju et al. (2017, arXiv:1610.02391): channels weighted by their mean gradient; what speaks against is 0.

    x: float32 [B, H, W, C], as the model takes it; classes: int [B], those explained. Returns float32 [B, h, w] >= 0.
    """
    maps, gradients = _map_and_gradient(model, variables, x, classes)
    return nn.relu((gradients.mean((1, 2), keepdims=True) * maps).sum(-1))


def gradcam_plus_plus(
    model: nn.Module, variables: Any, x: jax.Array, classes: jax.Array
) -> jax.Array:
    """Chattopadhay et al. (2018, arXiv:1710.11063), equation 19: positive gradients alone, weighted by place.

    As `gradcam`, and up to a positive factor (the exponential of the logit, of which the paper takes the gradient). The
    paper's maps are never negative; of maps that are, the sum in its denominator takes the positive part.
    """
    maps, gradients = _map_and_gradient(model, variables, x, classes)
    gain, total = nn.relu(gradients), nn.relu(maps).sum((1, 2), keepdims=True)
    # The weight of a place, g^2 / (2 g^2 + total g^3), times g, where g > 0.
    weights = (gain / (2 + gain * total)).sum((1, 2), keepdims=True)
    return nn.relu((weights * maps).sum(-1))


def saliency(model: nn.Module, variables: Any, x: jax.Array, classes: jax.Array) -> jax.Array:
    """Simonyan et al. (2013, arXiv:1312.6034): the largest absolute gradient over a pixel's channels. As `gradcam`."""
    score = lambda x: _of_classes(model.apply(variables, x), classes)  # noqa: E731
    return jnp.abs(jax.grad(score)(x)).max(-1)


METHODS: Mapping[str, Callable[..., jax.Array]] = {
    "gradcam": gradcam,
    "gradcam++": gradcam_plus_plus,
    "saliency": saliency,
}


def maps(
    predictor: Predictor, images: np.ndarray, classes: np.ndarray, *, method: str
) -> np.ndarray:
    """How much each place of images uint8 [N, H, W, C] speaks for `classes` int [N]: float32 [N, H, W] >= 0.

    Feature maps are stretched over what the model sees of an image, bilinearly. Raises RunError where the method needs
    feature maps and the model has none.
    """
    compute, model, transform = METHODS[method], predictor.model, predictor.transform
    if compute is not saliency:
        _check_features(predictor)

    @jax.jit
    def explained(variables, images, classes):
        return _onto_images(
            compute(model, variables, transform(images), classes), transform, images.shape
        )

    batches = filled_batches(len(images), min(BATCH, len(images)))
    found = [explained(predictor.variables, images[batch], classes[batch]) for batch in batches]
    return np.concatenate(found)[: len(images)]


def explain(
    run: RunFolder, test: Dataset, *, method: str, seed: int = SEED
) -> tuple[dict[str, Any], np.ndarray]:
    """Explains some of a run's predictions on its test set, right and wrong ones.

    Returns a JSON-ready dict: method, seed, and examples: their index, label, prediction, confidence and group; and
    maps float32 [M, 2, H, W]: of each example one for the class predicted and one for the true class. Predictions and
    confidences are the run's own, over its views; maps are of the image as it is.
    """
    probabilities, labels = run.predictions
    examples = pick(probabilities, labels, seed=seed)
    images = test.images[[each["index"] for each in examples]]
    classes = np.array([[each["prediction"], each["label"]] for each in examples])
    found = maps(Predictor(run), images.repeat(2, axis=0), classes.reshape(-1), method=method)
    return {"method": method, "seed": seed, "examples": examples}, found.reshape(
        -1, 2, *found.shape[1:]
    )


def compactness(run: RunFolder, test: Dataset, *, method: str) -> np.ndarray:
    """How compact a run's maps of the classes that it predicts are, on MEASURED test images drawn by SEED: float [N].

    Of each the smallest share of its places that holds HELD of the map's sum: the smaller, the more compact. Where a
    map is 0 all over it is 1.
    """
    count = min(MEASURED, len(test))
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(test))[:count])
    predicted = run.predictions[0].argmax(-1)[chosen]
    return smallest_shares(maps(Predictor(run), test.images[chosen], predicted, method=method))


def smallest_shares(maps: np.ndarray) -> np.ndarray:
    """Of each map [N, H, W] the smallest share of its places that holds HELD of its sum."""
    values = -np.sort(-maps.reshape(len(maps), -1).astype(np.float64), axis=-1)
    held = values.cumsum(-1) >= HELD * values.sum(-1, keepdims=True)
    return np.where(values.any(-1), (held.argmax(-1) + 1) / values.shape[-1], 1.0)


def pick(probabilities: np.ndarray, labels: np.ndarray, *, seed: int) -> list[dict[str, Any]]:
    """Predictions worth a look: of the right ones, then of the wrong ones, RIGHT and WRONG of each of GROUPS.

    Ordered by confidence, equals in an order drawn from the seed, they fall into three equal parts: the first of the
    first, the middle of the second and the last of the third are taken. Where there are fewer, all are.
    """
    confidence, predicted = probabilities.max(-1), probabilities.argmax(-1)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(-confidence[shuffled], kind="stable")]
    right = (predicted == labels)[order]
    examples = []
    for part, most in ((order[right], RIGHT), (order[~right], WRONG)):
        for (group, place), third in zip(
            GROUPS.items(), np.array_split(part, len(GROUPS)), strict=True
        ):
            start = int(place * max(len(third) - most, 0))
            examples += [
                {
                    "index": int(index),
                    "label": int(labels[index]),
                    "prediction": int(predicted[index]),
                    "confidence": float(confidence[index]),
                    "group": group,
                }
                for index in third[start : start + most]
            ]
    return examples


def _map_and_gradient(model, variables, x, classes) -> tuple[jax.Array, jax.Array]:
    """The last feature map and the gradient of the classes' logits at it, both float32 [B, h, w, C].

    The maps of several backbones are taken as one, with the channels of all.
    """
    features = model.apply(variables, x, method="features")

    def score(features):
        logits = model.apply(
            variables, features, method=lambda model, features: model.head(model.pool(features))
        )
        return _of_classes(logits, classes)

    both = (features, jax.grad(score)(features))
    maps, gradients = (
        jnp.concatenate(jax.tree.leaves(each), -1).astype(jnp.float32) for each in both
    )
    return maps, gradients


def _of_classes(logits, classes):
    """Summed over the batch, whose examples do not touch each other."""
    return jnp.take_along_axis(logits, classes[:, None], -1).sum()


def _onto_images(maps: jax.Array, transform: Transform, shape: tuple[int, ...]) -> jax.Array:
    """Maps [B, h, w] of what the transform makes of images of `shape` [B, H, W, C] -> [B, H, W], each place where it
    lies in the image; 0 where the transform crops."""
    ops = [op for op in transform.ops if isinstance(op, Resize | CenterCrop)]
    seen = [
        jax.ShapeDtypeStruct((*shape[:3], 1), jnp.float32)
    ]  # before each operation, and after the last
    for op in ops:
        seen.append(jax.eval_shape(lambda x, op=op: op(x, None), seen[-1]))
    maps = jax.image.resize(maps[..., None], seen[-1].shape, "linear")
    for op, before in zip(reversed(ops), reversed(seen[:-1]), strict=True):
        if isinstance(op, CenterCrop):
            (maps,) = jax.linear_transpose(lambda x, op=op: op(x, None), before)(
                maps
            )  # zeros around it
        else:
            maps = jax.image.resize(maps, before.shape, "linear")
    return maps[..., 0]


def _check_features(predictor: Predictor) -> None:
    model, transform = predictor.model, predictor.transform
    image = jax.ShapeDtypeStruct((1, *predictor.shape), np.uint8)
    features = jax.eval_shape(
        lambda variables, images: model.apply(variables, transform(images), method="features"),
        predictor.variables,
        image,
    )
    shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(features)]
    places = {shape[:-1] for shape in shapes}
    if len(places) == 1 and all(len(each) == 2 and np.prod(each) > 1 for each in places):
        return
    found = " and ".join("x".join(map(str, shape)) for shape in shapes)
    raise RunError(
        f"{predictor.name}: the features of the model {type(model).__name__} are {found}. Grad-CAM needs a map "
        "height x width x channels of several places, and of several backbones maps of one size: --method saliency "
        "explains every model."
    )
