"""EfficientNet-B0 (arXiv:1905.11946) as torchvision has it, EfficientNetV2-B0 (arXiv:2104.00298) as Keras has it,
and EfficientNet-Lite0, the B0 for phones as TensorFlow published it.

Keras' V2 normalises its input inside; here that is left to the preprocessing, as for every other model: it is the
usual division by 255 and ImageNet's mean and deviation. Lite0 is B0 without squeeze and excite and with ReLU6, its
padding and batch statistics TensorFlow's; its modules have Keras' names.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.blocks import ConvNorm, DropPath, SqueezeExcite, from_imagenet
from imgcls_jax.models.layers import Classifier, Dropout


class Stage(NamedTuple):
    """A row of the papers' tables: blocks of which the first has the strides and changes the channels."""

    fused: bool
    expand: int
    kernel: int
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


class Torchvision:
    same = False
    epsilon = 1e-5
    momentum = 0.9
    activation = staticmethod(nn.silu)
    conv_norm = ("0", "1")
    squeeze_excite = ("fc1", "fc2")
    stem, head = "features_0", "classifier_1"

    @staticmethod
    def top(stages: int) -> str:
        return f"features_{stages + 1}"

    @staticmethod
    def block(stage: int, index: int) -> str:
        return f"features_{stage}_{index}"

    @staticmethod
    def part(name: str, number: int) -> str:
        return f"block_{number}"


class Keras:
    same = True
    epsilon = 1e-3
    momentum = 0.9
    activation = staticmethod(nn.silu)
    conv_norm = ("conv", "bn")
    squeeze_excite = ("reduce", "expand")
    stem, head = "stem", "predictions"

    @staticmethod
    def top(stages: int) -> str:
        return "top"

    @staticmethod
    def block(stage: int, index: int) -> str:
        return f"block{stage}{'abcdefgh'[index]}"

    @staticmethod
    def part(name: str, number: int) -> str:
        return name


class Lite(Keras):
    momentum = 0.99
    activation = staticmethod(nn.relu6)
    squeeze_excite = None


def conv_norm(style: type, dtype) -> partial:
    settings = {
        "epsilon": style.epsilon,
        "momentum": style.momentum,
        "same": style.same,
        "names": style.conv_norm,
    }
    return partial(ConvNorm, activation=style.activation, dtype=dtype, **settings)


class Block(nn.Module):
    """The inverted residual: expand, filter every channel by itself, squeeze and excite, project; and x where it fits.

    A fused block expands by one full convolution instead of the first two, without squeeze and excite.
    x [B, H, W, C] -> [B, H / strides, W / strides, stage.features].
    """

    stage: Stage
    strides: int
    drop: float
    style: type
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train: bool):
        stage, channels, parts = self.stage, x.shape[-1], 0

        def part(name: str) -> str:
            nonlocal parts
            parts += 1
            return self.style.part(name, parts - 1)

        conv, wide, y = conv_norm(self.style, self.dtype), channels * stage.expand, x
        if stage.fused and stage.expand == 1:
            y = conv(stage.features, stage.kernel, self.strides, name=part("project"))(
                y, train=train
            )
        else:
            if stage.fused:
                y = conv(wide, stage.kernel, self.strides, name=part("expand"))(y, train=train)
            else:
                if stage.expand != 1:
                    y = conv(wide, name=part("expand"))(y, train=train)
                filtered = conv(
                    wide, stage.kernel, self.strides, depthwise=True, name=part("dwconv2")
                )
                y = filtered(y, train=train)
                if names := self.style.squeeze_excite:
                    squeeze_excite = partial(
                        SqueezeExcite, channels // 4, self.style.activation, dtype=self.dtype
                    )
                    y = squeeze_excite(names=names, name=part("se"))(y)
            y = conv(stage.features, activation=None, name=part("project"))(y, train=train)
        if self.strides == 1 and channels == stage.features:
            y = x + DropPath(self.drop)(y, train=train)
        return y


class EfficientNet(Classifier):
    """Images [B, H, W, 3] -> a map [B, H / 32, W / 32, 1280] -> logits [B, num_classes].

    `stochastic_depth` is the probability with which the last block's branch is left out; it rises from 0 at the first.
    `transform_input` turns images that are normalised by ImageNet's mean and deviation into
    (pixel - 127) / 128 of 0 to 255, as Lite0's weights want them: for a hybrid with a backbone that
    wants the former.
    """

    num_classes: int
    stages: Sequence[Stage]
    style: type
    dropout: float = 0.2
    stochastic_depth: float = 0.2
    transform_input: bool = False
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        conv = conv_norm(self.style, self.dtype)
        setattr(self, self.style.stem, conv(32, 3, 2))
        names, total = [], sum(stage.blocks for stage in self.stages)
        for number, stage in enumerate(self.stages, 1):
            for index in range(stage.blocks):
                drop = self.stochastic_depth * len(names) / total
                names.append(self.style.block(number, index))
                block = Block(stage, 1 if index else stage.strides, drop, self.style, self.dtype)
                setattr(self, names[-1], block)
        names.append(self.style.top(len(self.stages)))
        setattr(self, names[-1], conv(1280))
        self.layer_names = [self.style.stem, *names]
        self.drop = Dropout(self.dropout)
        setattr(self, self.style.head, nn.Dense(self.num_classes, dtype=self.dtype))

    def features(self, x, *, train: bool = False):
        if self.transform_input:
            x = from_imagenet(x, 127 / 255, 128 / 255)
        for name in self.layer_names:
            x = getattr(self, name)(x, train=train)
        return x

    def head(self, x, *, train: bool = False):
        return getattr(self, self.style.head)(self.drop(x, train=train))


VARIANTS = {
    "efficientnet_b0": partial(EfficientNet, stages=B0, style=Torchvision, transform_input=False),
    "efficientnetv2_b0": partial(EfficientNet, stages=V2_B0, style=Keras, transform_input=False),
    "efficientnet_lite0": partial(EfficientNet, stages=B0, style=Lite),
}
