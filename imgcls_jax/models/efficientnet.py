"""EfficientNet-B0, EfficientNetV2-B0 and EfficientNet-Lite0.

B0 (arXiv:1905.11946) is torchvision's, V2-B0 (arXiv:2104.00298) is Keras', and Lite0, the B0 for
phones, is as TensorFlow published it.

Keras' V2 normalises its input inside the model. Here preprocessing does that, as for every other
model: it is the usual division by 255, and ImageNet's mean and deviation. Lite0 is B0 without
squeeze and excitation and with ReLU6. Its padding and batch statistics are TensorFlow's, and its
modules have Keras' names.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.classifier import Classifier
from imgcls_jax.models.layers import (
    ConvNorm,
    Dropout,
    DropPath,
    SqueezeExcite,
    from_imagenet_statistics,
)

STEM_FEATURES = 32
TOP_FEATURES = 1280


class Stage(NamedTuple):
    """A row of the papers' tables: blocks, the first of which strides and changes the channels."""

    fused: bool
    expand: int
    kernel_size: int
    strides: int
    features: int
    blocks: int


B0 = (
    Stage(False, 1, 3, 1, 16, 1),
    Stage(False, 6, 3, 2, 24, 2),
    Stage(False, 6, 5, 2, 40, 2),
    Stage(False, 6, 3, 2, 80, 3),
    Stage(False, 6, 5, 1, 112, 3),
    Stage(False, 6, 5, 2, 192, 4),
    Stage(False, 6, 3, 1, 320, 1),
)
V2_B0 = (
    Stage(True, 1, 3, 1, 16, 1),
    Stage(True, 4, 3, 2, 32, 2),
    Stage(True, 4, 3, 2, 48, 2),
    Stage(False, 4, 3, 2, 96, 3),
    Stage(False, 6, 3, 1, 112, 5),
    Stage(False, 6, 3, 2, 192, 8),
)


@dataclasses.dataclass(frozen=True)
class Style:
    """How a library builds an EfficientNet, and the names of its modules."""

    same_padding: bool  # Keras' padding instead of torch's symmetric one
    epsilon: float
    momentum: float
    activation: Callable
    conv_norm_names: tuple[str, str]
    squeeze_excite_names: tuple[str, str] | None  # None: blocks without
    stem_name: str
    classifier_name: str
    top_name: Callable[[int], str]  # of the number of stages
    block_name: Callable[[int, int], str]  # of stage (from 1) and index (from 0)
    part_name: Callable[[str, int], str]  # of a part of a block and its position in the block


TORCHVISION = Style(
    same_padding=False,
    epsilon=1e-5,
    momentum=0.9,
    activation=nn.silu,
    conv_norm_names=("0", "1"),
    squeeze_excite_names=("fc1", "fc2"),
    stem_name="features_0",
    classifier_name="classifier_1",
    top_name=lambda stages: f"features_{stages + 1}",
    block_name=lambda stage, index: f"features_{stage}_{index}",
    part_name=lambda part, position: f"block_{position}",
)
KERAS = Style(
    same_padding=True,
    epsilon=1e-3,
    momentum=0.9,
    activation=nn.silu,
    conv_norm_names=("conv", "bn"),
    squeeze_excite_names=("reduce", "expand"),
    stem_name="stem",
    classifier_name="predictions",
    top_name=lambda stages: "top",
    block_name=lambda stage, index: f"block{stage}{'abcdefgh'[index]}",
    part_name=lambda part, position: part,
)
LITE = dataclasses.replace(KERAS, momentum=0.99, activation=nn.relu6, squeeze_excite_names=None)


def conv_norm(style: Style, dtype) -> partial:
    """Returns a ConvNorm of this style, without features, kernel size and strides."""
    return partial(
        ConvNorm,
        epsilon=style.epsilon,
        momentum=style.momentum,
        same_padding=style.same_padding,
        activation=style.activation,
        names=style.conv_norm_names,
        dtype=dtype,
    )


class Block(nn.Module):
    """The inverted residual: expand, filter each channel, squeeze and excite, project.

    x is added where the result has its shape.

    A fused block expands by one full convolution instead of the first two, without squeeze and
    excitation. x [B, H, W, C] -> [B, H / strides, W / strides, stage.features].
    """

    stage: Stage
    strides: int
    drop_path: float  # probability with which an example loses the branch
    style: Style
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train: bool):
        if self.stage.fused:
            y = self._fused_branch(x, train)
        else:
            y = self._inverted_branch(x, train)
        if self.strides == 1 and x.shape[-1] == self.stage.features:
            return x + DropPath(self.drop_path)(y, train=train)
        return y

    def _fused_branch(self, x, train: bool):
        stage = self.stage
        conv = conv_norm(self.style, self.dtype)
        if stage.expand == 1:
            name = self.style.part_name("project", 0)
            project = conv(stage.features, stage.kernel_size, self.strides, name=name)
            return project(x, train=train)

        expanded = x.shape[-1] * stage.expand
        name = self.style.part_name("expand", 0)
        expand = conv(expanded, stage.kernel_size, self.strides, name=name)
        x = expand(x, train=train)
        name = self.style.part_name("project", 1)
        return conv(stage.features, activation=None, name=name)(x, train=train)

    def _inverted_branch(self, x, train: bool):
        stage = self.stage
        style = self.style
        channels = x.shape[-1]
        expanded = channels * stage.expand
        names = self._inverted_names()
        conv = conv_norm(style, self.dtype)

        if "expand" in names:
            x = conv(expanded, name=names["expand"])(x, train=train)
        depthwise = conv(
            expanded, stage.kernel_size, self.strides, depthwise=True, name=names["dwconv2"]
        )
        x = depthwise(x, train=train)
        if "se" in names:
            squeeze_excite = SqueezeExcite(
                channels // 4,
                style.activation,
                style.squeeze_excite_names,
                self.dtype,
                name=names["se"],
            )
            x = squeeze_excite(x)
        return conv(stage.features, activation=None, name=names["project"])(x, train=train)

    def _inverted_names(self) -> dict[str, str]:
        """The parts of an inverted branch in their order, with the names of their modules."""
        parts = ["dwconv2"]
        if self.stage.expand != 1:
            parts.insert(0, "expand")
        if self.style.squeeze_excite_names is not None:
            parts.append("se")
        parts.append("project")
        return {part: self.style.part_name(part, i) for i, part in enumerate(parts)}


class EfficientNet(Classifier):
    """Images [B, H, W, 3] -> a map [B, H / 32, W / 32, 1280] -> logits [B, num_classes].

    `stochastic_depth` is the probability with which an example loses the last block's branch; it
    rises linearly from 0 at the first block. `transform_input` turns images that are normalised by
    ImageNet's mean and deviation into (pixel - 127) / 128 of 0 to 255, on which Lite0's weights
    were trained: for a hybrid whose other backbone wants ImageNet's.
    """

    num_classes: int
    stages: Sequence[Stage]
    style: Style
    dropout: float = 0.2
    stochastic_depth: float = 0.2
    transform_input: bool = False
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        style = self.style
        conv = conv_norm(style, self.dtype)
        layers = [conv(STEM_FEATURES, 3, 2, name=style.stem_name)]

        blocks_before = 0
        total_blocks = sum(stage.blocks for stage in self.stages)
        for number, stage in enumerate(self.stages, 1):
            for index in range(stage.blocks):
                strides = stage.strides if index == 0 else 1
                rate = self.stochastic_depth * blocks_before / total_blocks
                name = style.block_name(number, index)
                layers.append(Block(stage, strides, rate, style, self.dtype, name=name))
                blocks_before += 1

        layers.append(conv(TOP_FEATURES, name=style.top_name(len(self.stages))))
        self.layers = layers
        self.drop = Dropout(self.dropout)
        self.classifier = nn.Dense(self.num_classes, dtype=self.dtype, name=style.classifier_name)

    def features(self, x, *, train: bool = False):
        if self.transform_input:
            x = from_imagenet_statistics(x, 127 / 255, 128 / 255)
        for layer in self.layers:
            x = layer(x, train=train)
        return x

    def head(self, x, *, train: bool = False):
        x = self.drop(x, train=train)
        return self.classifier(x)


VARIANTS = {
    "efficientnet_b0": partial(EfficientNet, stages=B0, style=TORCHVISION, transform_input=False),
    "efficientnetv2_b0": partial(EfficientNet, stages=V2_B0, style=KERAS, transform_input=False),
    "efficientnet_lite0": partial(EfficientNet, stages=B0, style=LITE),
}
