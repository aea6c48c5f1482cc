"""Whether pretrained weights get images as they were trained on them."""

import logging

from ml_collections import ConfigDict

from imgcls_jax.data.image_ops import CenterCrop, Normalize, Op, Resize, Rgb
from imgcls_jax.data.transforms import parse
from imgcls_jax.pretrained import sources

log = logging.getLogger(__name__)


def warn_of_differences(config: ConfigDict) -> None:
    """Warns where images have another size or other values than those of the weights' training."""
    transform = config.data.transform
    size = _size(transform, config.data.image_size)
    for model, source in sources.by_model(config.model).items():
        trained_transform = sources.preprocessing(source)
        if trained_transform is None:
            log.warning(
                "The preprocessing of %s is not known: "
                "data.transform should be that of its training.",
                source,
            )
            continue
        trained_size = _size(trained_transform, 0)
        trained_values = _value_ops(trained_transform)
        if _model_options(config.model, model).get("transform_input"):
            # The model itself turns ImageNet's values into those of the weights.
            trained_values = [Normalize("imagenet")]
        if trained_size != size or trained_values != _value_ops(transform):
            log.warning(
                "The weights %s were trained on images%s through %r; data.transform is %r%s.",
                source,
                _in_pixels(trained_size),
                trained_transform,
                transform,
                _in_pixels(size),
            )


def _model_options(config: ConfigDict, model: str) -> ConfigDict:
    """The options of the config's model, or of one of its backbones."""
    if model == config.name:
        return config
    options = config.get("options") or {}
    return options.get(model, {})


def _value_ops(transform: str) -> list[Op]:
    """The deterministic operations on the values of images: normalization, order of channels."""
    operations = []
    for op in parse(transform).ops:
        if not op.random and not isinstance(op, Rgb | Resize | CenterCrop):
            operations.append(op)
    return operations


def _size(transform: str, image_size: int) -> int:
    """The side in pixels of images of `image_size` after a transform; 0 if it is not known."""
    size = image_size
    for op in parse(transform).ops:
        if isinstance(op, Resize | CenterCrop):
            size = op.size
    return size


def _in_pixels(size: int) -> str:
    if not size:
        return ""
    return f" of {size}x{size} pixels"
