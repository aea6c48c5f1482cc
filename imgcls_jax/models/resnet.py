"""ResNet (He et al., 2015, arXiv:1512.03385) as torchvision and as Keras have it."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.classifier import Classifier
from imgcls_jax.models.layers import BatchNorm, Conv, glorot, he, lecun, max_pool


@dataclasses.dataclass(frozen=True)
class Style:
    """How a library builds a ResNet, and the names of its modules."""

    use_bias: bool  # in convolutions
    epsilon: float
    momentum: float
    strided_conv: int  # the convolution of a bottleneck that has the stride: 1 or 2
    stem_names: tuple[str, str]  # convolution, BatchNorm
    classifier_name: str
    classifier_init: nn.initializers.Initializer
    block_name: Callable[[int, int], str]  # of stage (from 1) and index (from 0)
    layer_names: Callable[[int], tuple[str, str]]  # of a block's layer; 0 is the shortcut


def _torchvision_layers(number: int) -> tuple[str, str]:
    if number == 0:
        return "downsample_0", "downsample_1"
    return f"conv{number}", f"bn{number}"


# A bottleneck has its stride in the 3x3 convolution (ResNet "V1.5").
TORCHVISION = Style(
    use_bias=False,
    epsilon=1e-5,
    momentum=0.9,
    strided_conv=2,
    stem_names=("conv1", "bn1"),
    classifier_name="fc",
    classifier_init=lecun,
    block_name=lambda stage, index: f"layer{stage}_{index}",
    layer_names=_torchvision_layers,
)
# A bottleneck has its stride in the first 1x1 convolution, as in the paper.
KERAS = Style(
    use_bias=True,
    epsilon=1.001e-5,
    momentum=0.99,
    strided_conv=1,
    stem_names=("conv1_conv", "conv1_bn"),
    classifier_name="predictions",
    classifier_init=glorot,
    block_name=lambda stage, index: f"conv{stage + 1}_block{index + 1}",
    layer_names=lambda number: (f"{number}_conv", f"{number}_bn"),
)


def conv(style: Style, features: int, kernel_size: int, strides: int, **options) -> nn.Module:
    return Conv(
        features,
        (kernel_size, kernel_size),
        strides,
        padding=kernel_size // 2,
        use_bias=style.use_bias,
        kernel_init=he,
        **options,
    )


def norm(style: Style, **options) -> BatchNorm:
    return BatchNorm(momentum=style.momentum, epsilon=style.epsilon, **options)


class Block(nn.Module):
    """x plus its residual, rectified: two 3x3 convolutions, or a bottleneck of 1x1, 3x3 and 1x1.

    x [B, H, W, C] -> [B, H / strides, W / strides, F]; F is `features`, or four times that from a
    bottleneck.
    """

    features: int
    strides: int
    bottleneck: bool
    style: Style
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train: bool):
        if self.bottleneck:
            y = self._bottleneck(x, train)
        else:
            y = self._conv_norm(x, 1, kernel_size=3, strides=self.strides, train=train)
            y = nn.relu(y)
            y = self._conv_norm(y, 2, kernel_size=3, train=train)
        if x.shape != y.shape:
            features = y.shape[-1]
            x = self._conv_norm(x, 0, features=features, strides=self.strides, train=train)
        return nn.relu(x + y)

    def _bottleneck(self, x, train: bool):
        strides = [1, 1]
        strides[self.style.strided_conv - 1] = self.strides
        x = self._conv_norm(x, 1, strides=strides[0], train=train)
        x = nn.relu(x)
        x = self._conv_norm(x, 2, kernel_size=3, strides=strides[1], train=train)
        x = nn.relu(x)
        return self._conv_norm(x, 3, features=4 * self.features, train=train)

    def _conv_norm(
        self,
        x,
        number: int,
        *,
        features: int | None = None,
        kernel_size: int = 1,
        strides: int = 1,
        train: bool,
    ):
        """The layer of this number in `style.layer_names`, by default with the block's features."""
        conv_name, norm_name = self.style.layer_names(number)
        convolution = conv(
            self.style,
            features or self.features,
            kernel_size,
            strides,
            dtype=self.dtype,
            name=conv_name,
        )
        batch_norm = norm(self.style, dtype=self.dtype, name=norm_name)
        x = convolution(x)
        return batch_norm(x, train=train)


class ResNet(Classifier):
    """Images [B, H, W, 3] -> a map [B, H / 32, W / 32, 512 or 2048] -> logits [B, num_classes]."""

    num_classes: int
    blocks: Sequence[int]
    bottleneck: bool
    style: Style
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        style = self.style
        conv_name, norm_name = style.stem_names
        self.stem_conv = conv(style, 64, 7, 2, dtype=self.dtype, name=conv_name)
        self.stem_norm = norm(style, dtype=self.dtype, name=norm_name)

        residual_blocks = []
        for stage, depth in enumerate(self.blocks, 1):
            features = 32 * 2**stage
            for index in range(depth):
                strides = 2 if stage > 1 and index == 0 else 1
                name = style.block_name(stage, index)
                block = Block(features, strides, self.bottleneck, style, self.dtype, name=name)
                residual_blocks.append(block)
        self.residual_blocks = residual_blocks
        self.classifier = nn.Dense(
            self.num_classes,
            kernel_init=style.classifier_init,
            dtype=self.dtype,
            name=style.classifier_name,
        )

    def features(self, x, *, train: bool = False):
        x = self.stem_conv(x)
        x = self.stem_norm(x, train=train)
        x = nn.relu(x)
        # Keras pads with zeros here. After ReLU a zero is never a window's only maximum, so the
        # numbers are the same.
        x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for block in self.residual_blocks:
            x = block(x, train=train)
        return x

    def head(self, x, *, train: bool = False):
        return self.classifier(x)


VARIANTS = {
    "resnet18": partial(ResNet, blocks=(2, 2, 2, 2), bottleneck=False, style=TORCHVISION),
    "resnet50": partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=True, style=TORCHVISION),
    "resnet50_keras": partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=True, style=KERAS),
}
