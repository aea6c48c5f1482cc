"""The reference models of torchvision, Keras and lite0.py, with given weights."""

import os

# Keras reads it when it is imported. It is set only here, since others need TensorFlow.
os.environ["KERAS_BACKEND"] = "torch"

import keras  # noqa: E402
import lite0  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from generated import CASES, MEAN, STD, tree  # noqa: E402

from imgcls_jax.pretrained.port import unport  # noqa: E402

try:
    import torchvision
except RuntimeError:
    # Its compiled ops do not fit this torch. The models need only their names.
    library = torch.library.Library("torchvision", "DEF")
    for op in ("nms", "qnms"):
        library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

OPTIONS = {
    "resnet18": {},
    "resnet50": {},
    "googlenet": {
        "aux_logits": False,
        "init_weights": False,
        "transform_input": True,
        "dropout": 0.0,
    },
    "efficientnet_b0": {"dropout": 0.0, "stochastic_depth_prob": 0.0},
    "convnext_tiny": {"stochastic_depth_prob": 0.0},
}
KERAS = {
    "resnet50_keras": keras.applications.ResNet50,
    "efficientnetv2_b0": keras.applications.EfficientNetV2B0,
}
LAST_MAP = {
    "resnet18": "layer4",
    "resnet50": "layer4",
    "resnet50_keras": "conv5_block3_out",
    "googlenet": "inception5b",
    "efficientnet_b0": "features",
    "efficientnetv2_b0": "top_activation",
    "efficientnet_lite0": "last_map",
    "convnext_tiny": "features",
}


def build(
    name: str,
    arrays: dict[str, np.ndarray],
    *,
    num_classes: int,
    shape: tuple[int, int],
    dtype="float32",
):
    """Returns the reference for images of this shape, with our variables as its own.

    Both have to have the same variables. dtype: only torch's. Keras normalises, averages and
    multiplies in float32 even if it is told to use float64.
    """
    named = unport(tree(arrays), name_of=CASES[name].name_of)
    if CASES[name].source == "keras":
        return _keras_model(name, named, num_classes=num_classes, shape=shape)
    model = torch_model(name, num_classes).eval()
    state = {key: torch.from_numpy(array) for key, array in named.items()}
    for key in model.state_dict():
        if key.endswith(".num_batches_tracked"):
            state[key] = torch.tensor(0)
    model.load_state_dict(state, strict=True)
    return model.to(getattr(torch, dtype))


def _keras_model(
    name: str, named: dict[str, np.ndarray], *, num_classes: int, shape: tuple[int, int]
) -> keras.Model:
    model = KERAS[name](
        weights=None, classifier_activation=None, classes=num_classes, input_shape=(*shape, 3)
    )
    variables = keras_variables(model)
    assert set(variables) == set(named)
    for key, variable in variables.items():
        assert variable.shape == named[key].shape
        variable.assign(named[key])
    return model


def torch_model(name: str, num_classes: int) -> torch.nn.Module:
    if CASES[name].source == "torch":
        return lite0.Lite0(num_classes)
    return getattr(torchvision.models, name)(weights=None, num_classes=num_classes, **OPTIONS[name])


def keras_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The variables by their names in a published file: "layer/layer/weight"."""
    variables = {}
    for variable in model.weights:
        layer = variable.path.split("/")[0]
        variables[f"{layer}/{variable.path}"] = variable
    return variables


def names(name: str, model) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the arrays in the reference's file, without torch's counters."""
    if CASES[name].source == "keras":
        return {key: tuple(variable.shape) for key, variable in keras_variables(model).items()}
    shapes = {}
    for key, array in model.state_dict().items():
        if not key.endswith(".num_batches_tracked"):
            shapes[key] = tuple(array.shape)
    return shapes


def outputs(name: str, model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, h, w, C] and logits of normalised images."""
    if CASES[name].source == "keras":
        last_map = model.get_layer(LAST_MAP[name]).output
        both = keras.Model(model.input, [last_map, model.output])
        with torch.no_grad():
            features, logits = both(keras_images(name, x), training=False)
        return features.numpy(), logits.numpy()

    maps = []

    def keep(layer, inputs, output):
        maps.append(output)

    handle = model.get_submodule(LAST_MAP[name]).register_forward_hook(keep)
    with torch.no_grad():
        logits = model(torch_images(x, model))
    handle.remove()
    (features,) = maps
    return features.permute(0, 2, 3, 1).numpy(), logits.numpy()


def torch_images(x: np.ndarray, model: torch.nn.Module) -> torch.Tensor:
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(next(model.parameters()).dtype)


def keras_images(name: str, x: np.ndarray) -> np.ndarray:
    """EfficientNetV2 normalises inside: it takes 0 to 255."""
    if name == "efficientnetv2_b0":
        return (x * STD + MEAN) * 255
    return x
