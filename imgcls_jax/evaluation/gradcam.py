"""What a model looks at: maps of how strongly each position of an image speaks for a class.

Grad-CAM and Grad-CAM++ weight the channels of the last feature map by gradients of a class's logit;
saliency takes the gradient with respect to the pixels. Models are explained in evaluation mode:
images without augmentation, stored batch statistics.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from imgcls_jax.data.batches import filled_batches
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.image_ops import CenterCrop, Resize
from imgcls_jax.data.transforms import Transform
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.evaluation.published import PublishedClassifier
from imgcls_jax.run.folder import RunFolder

BATCH_SIZE = 32  # images whose maps are computed at a time
SEED = 0  # of the order among equally confident predictions
# Groups of examples, each with the position in its third of the predictions: 0 first, 1 last.
GROUPS = {
    "most confident": 0.0,
    "in the middle": 0.5,
    "least confident": 1.0,
}
NUM_RIGHT = 4  # right predictions of each group
NUM_WRONG = 3  # wrong predictions of each group
HELD_SHARE = 0.8  # of a map's sum: a compact map holds it in a small part of the image
NUM_MEASURED = 200  # test images whose maps are measured, the same for all runs on a test set


def gradcam(
    model: nn.Module,
    variables: Any,
    x: Array,
    classes: Array,
) -> Array:
    """Grad-CAM, Selvaraju et al. (2017, arXiv:1610.02391).

    Channels are weighted by their mean gradient; negative values become 0.

    x: float32 [B, H, W, C], input of the model. classes: int [B], to explain.
    Returns maps float32 [B, h, w] >= 0.
    """
    features, gradients = _features_and_gradients(model, variables, x, classes)
    weights = gradients.mean((1, 2), keepdims=True)
    weighted = weights * features
    return nn.relu(weighted.sum(-1))


def gradcam_plus_plus(
    model: nn.Module,
    variables: Any,
    x: Array,
    classes: Array,
) -> Array:
    """Grad-CAM++, Chattopadhay et al. (2018, arXiv:1710.11063), equation 19.

    Only positive gradients count, weighted by position. Arguments and result are those of
    `gradcam`, up to a positive factor (the exponential of the logit, whose gradient the paper
    takes). The paper's features are never negative; for features that are, the sum in its
    denominator takes their positive part.
    """
    features, gradients = _features_and_gradients(model, variables, x, classes)
    gain = nn.relu(gradients)
    total = nn.relu(features).sum((1, 2), keepdims=True)
    # The weight of a position, g^2 / (2 g^2 + total g^3), times g, where g > 0.
    position_weights = gain / (2 + gain * total)
    weights = position_weights.sum((1, 2), keepdims=True)
    weighted = weights * features
    return nn.relu(weighted.sum(-1))


def saliency(
    model: nn.Module,
    variables: Any,
    x: Array,
    classes: Array,
) -> Array:
    """Saliency, Simonyan et al. (2013, arXiv:1312.6034): the largest |gradient| over the channels.

    Arguments and result are those of `gradcam`.
    """

    def score(x):
        return _sum_of_classes(model.apply(variables, x), classes)

    gradients = jax.grad(score)(x)
    return jnp.abs(gradients).max(-1)


METHODS: Mapping[str, Callable[..., Array]] = {
    "gradcam": gradcam,
    "gradcam++": gradcam_plus_plus,
    "saliency": saliency,
}


def maps(
    predictor: Predictor,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    method: str,
) -> np.ndarray:
    """Explains the classes int [N] in images uint8 [N, H, W, C]: maps float32 [N, H, W] >= 0.

    method: a key of METHODS. Feature maps are stretched bilinearly over the part of the image that
    the model sees.

    Raises RunError if the method needs feature maps and the model has none.
    """
    explain_batch = make_explain(predictor, method=method)
    count = len(images)
    batches = []
    for indices in filled_batches(count, min(BATCH_SIZE, count)):
        batches.append(explain_batch(images[indices], classes[indices]))
    return np.concatenate(batches)[:count]


def make_explain(
    predictor: Predictor | PublishedClassifier,
    *,
    method: str,
) -> Callable[[np.ndarray, np.ndarray], Array]:
    """Returns explain(images, classes) -> maps, as of `maps`, for one batch.

    It is compiled once for each batch size. Raises RunError like `maps`.
    """
    compute = METHODS[method]
    if compute is not saliency:
        _check_features(predictor)
    model = predictor.model
    transform = predictor.transform
    variables = jax.device_put(predictor.variables)

    @jax.jit
    def explain_batch(variables, images, classes):
        batch_maps = compute(model, variables, transform(images), classes)
        return _onto_images(batch_maps, transform, images.shape)

    return functools.partial(explain_batch, variables)


def explain(
    run: RunFolder,
    test: Dataset,
    *,
    method: str,
    seed: int = SEED,
) -> tuple[dict[str, Any], np.ndarray]:
    """Explains some of a run's right and wrong predictions on its test set.

    Returns a JSON-ready dict with method, seed and examples (see `select_examples`), and maps
    float32 [M, 2, H, W]: for each example one of the predicted class and one of the true class.
    Predictions and confidences are the run's, over its test-time views; maps are of the image
    itself.
    """
    probabilities, labels = run.predictions
    examples = select_examples(probabilities, labels, seed=seed)
    indices = [example["index"] for example in examples]
    classes = []
    for example in examples:
        classes += [example["prediction"], example["label"]]
    images = test.images[indices].repeat(2, axis=0)
    predictor = Predictor(run)
    flat_maps = maps(predictor, images, np.array(classes), method=method)
    height, width = flat_maps.shape[1:]
    description = {"method": method, "seed": seed, "examples": examples}
    return description, flat_maps.reshape(-1, 2, height, width)


def compactness(
    run: RunFolder,
    test: Dataset,
    *,
    method: str,
) -> np.ndarray:
    """Measures how compact a run's maps of its predicted classes are, float64 [N].

    It is `smallest_shares` of the maps of NUM_MEASURED test images, drawn with SEED.
    """
    count = min(NUM_MEASURED, len(test))
    shuffled = np.random.default_rng(SEED).permutation(len(test))
    chosen = np.sort(shuffled[:count])
    probabilities, _ = run.predictions
    predicted = probabilities.argmax(-1)[chosen]
    predictor = Predictor(run)
    chosen_maps = maps(predictor, test.images[chosen], predicted, method=method)
    return smallest_shares(chosen_maps)


def smallest_shares(maps: np.ndarray) -> np.ndarray:
    """Returns the smallest share of its positions that holds HELD_SHARE of each map's sum.

    maps: [N, H, W]. Returns float64 [N]; the smaller, the more compact. For a map of zeros it is 1.
    """
    num_positions = maps[0].size
    values = maps.astype(np.float64).reshape(-1, num_positions)
    largest_first = -np.sort(-values, axis=-1)
    sums = largest_first.sum(-1, keepdims=True)
    reached = largest_first.cumsum(-1) >= HELD_SHARE * sums
    shares = (reached.argmax(-1) + 1) / num_positions
    return np.where(largest_first.any(-1), shares, 1.0)


def select_examples(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Selects predictions worth looking at: first right ones, then wrong ones.

    The right and the wrong predictions are each ordered by confidence and divided into thirds. Of
    each third NUM_RIGHT or NUM_WRONG are selected: the first of the first, the middle of the
    second, the last of the third; all if there are fewer. The seed orders equal confidences.

    Returns index, label, prediction, confidence and group (see GROUPS) of each, ready for JSON.
    """
    confidence = probabilities.max(-1)
    predicted = probabilities.argmax(-1)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    most_confident_first = np.argsort(-confidence[shuffled], kind="stable")
    order = shuffled[most_confident_first]
    is_right = (predicted == labels)[order]
    selected = _select_of_each_group(order[is_right], NUM_RIGHT)
    selected += _select_of_each_group(order[~is_right], NUM_WRONG)
    examples = []
    for group, index in selected:
        example = {
            "index": int(index),
            "label": int(labels[index]),
            "prediction": int(predicted[index]),
            "confidence": float(confidence[index]),
            "group": group,
        }
        examples.append(example)
    return examples


def _select_of_each_group(order: np.ndarray, count: int) -> list[tuple[str, int]]:
    """Returns (group, index) of `count` of each third of `order`, most confident first."""
    thirds = np.array_split(order, len(GROUPS))
    selected = []
    for (group, position), third in zip(GROUPS.items(), thirds, strict=True):
        num_rejected = max(len(third) - count, 0)
        start = int(position * num_rejected)
        for index in third[start : start + count]:
            selected.append((group, index))
    return selected


def _features_and_gradients(
    model: nn.Module, variables: Any, x: Array, classes: Array
) -> tuple[Array, Array]:
    """Returns the last feature map and the gradient of the classes' logits with respect to it.

    Both are float32 [B, h, w, C]. The maps of several backbones are concatenated along C.
    """
    features = model.apply(variables, x, method="features")

    def head(model, features):
        return model.head(model.pool(features))

    def score(features):
        logits = model.apply(variables, features, method=head)
        return _sum_of_classes(logits, classes)

    gradients = jax.grad(score)(features)
    return _concatenate_channels(features), _concatenate_channels(gradients)


def _concatenate_channels(features: Any) -> Array:
    concatenated = jnp.concatenate(jax.tree.leaves(features), -1)
    return concatenated.astype(jnp.float32)


def _sum_of_classes(logits: Array, classes: Array) -> Array:
    """Sums the logits of the classes over the batch, whose examples do not influence each other."""
    class_logits = jnp.take_along_axis(logits, classes[:, None], -1)
    return class_logits.sum()


def _onto_images(
    maps: Array,
    transform: Transform,
    shape: tuple[int, ...],
) -> Array:
    """Undoes the resizing and cropping of the transform on maps [B, h, w] of its output.

    shape: [B, H, W, C] of the images. Returns [B, H, W], which is 0 where the transform crops.
    """
    geometric = [op for op in transform.ops if isinstance(op, Resize | CenterCrop)]
    input_shapes = []
    batch, height, width, _ = shape
    image = jax.ShapeDtypeStruct((batch, height, width, 1), jnp.float32)
    for op in geometric:
        input_shapes.append(image)
        image = jax.eval_shape(_without_key(op), image)
    maps = jax.image.resize(maps[..., None], image.shape, "linear")
    for op, input_shape in zip(reversed(geometric), reversed(input_shapes), strict=True):
        if isinstance(op, CenterCrop):
            pad = jax.linear_transpose(_without_key(op), input_shape)  # with zeros
            (maps,) = pad(maps)
        else:
            maps = jax.image.resize(maps, input_shape.shape, "linear")
    return maps[..., 0]


def _without_key(op: Resize | CenterCrop) -> Callable[[Array], Array]:
    """Returns the operation as a function of images alone; it draws no random numbers."""
    return lambda x: op(x, None)


def _check_features(predictor: Predictor | PublishedClassifier) -> None:
    """Raises RunError unless the model's features are maps of one size with several positions."""
    model = predictor.model

    def features(variables, images):
        return model.apply(variables, predictor.transform(images), method="features")

    image = jax.ShapeDtypeStruct((1, *predictor.shape), np.uint8)
    outputs = jax.eval_shape(features, predictor.variables, image)
    shapes = [output.shape[1:] for output in jax.tree.leaves(outputs)]
    sizes = {shape[:-1] for shape in shapes}
    if len(sizes) == 1:
        (size,) = sizes
        if len(size) == 2 and np.prod(size) > 1:
            return
    descriptions = ["x".join(map(str, shape)) for shape in shapes]
    raise RunError(
        f"{predictor.name}: the features of the model {type(model).__name__} are "
        f"{' and '.join(descriptions)}. Grad-CAM needs a map height x width x channels of several "
        "positions, and of several backbones maps of one size: --method saliency explains every "
        "model."
    )
