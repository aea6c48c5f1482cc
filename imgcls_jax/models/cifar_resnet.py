"""Residual networks for small images: ResNet-20 (report E) and the SE-ResNet (report C)."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.models.classifier import Classifier
from imgcls_jax.models.layers import BatchNorm, Conv, Dropout, SqueezeExcite, glorot, lecun

SE_PLACES = {
    "none": "no squeeze-and-excitation block",
    "stem": "one after the stem",
    "blocks": "one in every residual block",
}


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What layers do by default: initial weights, BatchNorm's figures and padding."""

    kernel_init: nn.initializers.Initializer
    dense_init: nn.initializers.Initializer
    momentum: float
    epsilon: float
    same_padding: bool  # Keras' padding: another one where an even size meets a stride of 2

    def padding(self, kernel_size: int) -> int | str:
        if self.same_padding:
            return "SAME"
        return kernel_size // 2


TORCH = Defaults(
    kernel_init=nn.initializers.he_normal(),
    dense_init=lecun,
    momentum=0.9,
    epsilon=1e-5,
    same_padding=False,
)
KERAS = Defaults(
    kernel_init=glorot,
    dense_init=glorot,
    momentum=0.99,
    epsilon=1e-3,
    same_padding=True,
)


def batch_norm(defaults: Defaults, **options) -> BatchNorm:
    return BatchNorm(momentum=defaults.momentum, epsilon=defaults.epsilon, **options)


class BasicBlock(nn.Module):
    """Two convolutions with BatchNorm beside a shortcut.

    x [B, H, W, C] -> [B, H / strides, W / strides, filters].

    The shortcut is x itself, or a convolution of it where the number of channels or the stride
    changes.

    With `preact`, BatchNorm and ReLU come before the convolutions (He et al., 2016,
    arXiv:1603.05027): the sum is not rectified, and the shortcut's convolution has the input of the
    first one, and no BatchNorm.
    """

    filters: int
    strides: int = 1
    kernel: int = 3
    shortcut_kernel: int = 1
    squeezed: int = 0  # width of a squeeze-and-excitation block on the residual; 0 for none
    dropout: float = 0.0  # before the second convolution
    preact: bool = False
    use_bias: bool = False
    defaults: Defaults = TORCH
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        if self.preact:
            return self._preactivated(x, train)

        y = self._conv(x, self.kernel, self.strides, "conv1")
        y = nn.relu(self._norm(y, "bn1", train))
        y = Dropout(self.dropout)(y, train=train)
        y = self._conv(y, self.kernel, 1, "conv2")
        y = self._squeeze_excite(self._norm(y, "bn2", train))
        if self._changes_shape(x):
            x = self._conv(x, self.shortcut_kernel, self.strides, "conv_shortcut")
            x = self._norm(x, "bn_shortcut", train)
        return nn.relu(x + y)

    def _preactivated(self, x, train: bool):
        y = nn.relu(self._norm(x, "bn1", train))
        if self._changes_shape(x):
            x = self._conv(y, self.shortcut_kernel, self.strides, "conv_shortcut")
        y = self._conv(y, self.kernel, self.strides, "conv1")
        y = nn.relu(self._norm(y, "bn2", train))
        y = Dropout(self.dropout)(y, train=train)
        y = self._conv(y, self.kernel, 1, "conv2")
        return x + self._squeeze_excite(y)

    def _changes_shape(self, x) -> bool:
        return self.strides > 1 or x.shape[-1] != self.filters

    def _conv(self, x, kernel_size: int, strides: int, name: str):
        conv = Conv(
            self.filters,
            (kernel_size, kernel_size),
            strides=strides,
            padding=self.defaults.padding(kernel_size),
            use_bias=self.use_bias,
            kernel_init=self.defaults.kernel_init,
            dtype=self.dtype,
            name=name,
        )
        return conv(x)

    def _norm(self, x, name: str, train: bool):
        return batch_norm(self.defaults, dtype=self.dtype, name=name)(x, train=train)

    def _squeeze_excite(self, x):
        if not self.squeezed:
            return x
        return SqueezeExcite(self.squeezed, dtype=self.dtype, name="se")(x)


def _check_kernel_sizes(option: str, sizes: Sequence[int], blocks: Sequence[int]) -> None:
    stages = len(blocks)
    has_even_size = any(size < 1 or size % 2 == 0 for size in sizes)
    if len(sizes) != stages or has_even_size:
        raise ConfigError(
            f"config.model.{option} is {tuple(sizes)}: give an odd size for each of the {stages} "
            f"stages of config.model.blocks {tuple(blocks)}, for example {(3,) * stages}."
        )


class CifarResNet(Classifier):
    """A ResNet for small images (He et al., 2015, arXiv:1512.03385).

    A 3x3 stem, stages of basic blocks, the mean over positions, one dense layer.

    Stage i has blocks[i] blocks of width * 2^i channels; every stage but the first halves the map.
    Images [B, H, W, C] -> a map [B, H / 4, W / 4, 4 width] (of three stages) -> logits. The blocks
    have torchvision's names: layer1_0, layer1_1, ... `se` says where squeeze-and-excitation blocks
    are: a key of SE_PLACES.

    With `keras_defaults` initial weights are those of Glorot and Bengio, BatchNorm has a momentum
    of 0.99 and an epsilon of 1e-3, and padding is Keras' `same`. Otherwise initial kernels are
    those of He et al., and momentum (0.9), epsilon (1e-5) and padding are torch's.
    """

    num_classes: int
    blocks: Sequence[int] = (3, 3, 3)
    width: int = 16
    kernels: Sequence[int] = (3, 3, 3)  # size in the blocks of each stage
    shortcut_kernels: Sequence[int] = (1, 1, 1)
    se: str = "none"
    se_ratio: int = 16  # channels for each unit of a squeeze-and-excitation block
    dropout: float = 0.0
    preact: bool = False
    use_bias: bool = False
    keras_defaults: bool = False
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        choose("place of squeeze-and-excitation (config.model.se)", self.se, SE_PLACES)
        _check_kernel_sizes("kernels", self.kernels, self.blocks)
        _check_kernel_sizes("shortcut_kernels", self.shortcut_kernels, self.blocks)
        if min(self.blocks) < 1 or self.width < 1:
            raise ConfigError(
                f"config.model.blocks is {tuple(self.blocks)} and config.model.width {self.width}: "
                "every stage needs at least one block, and every layer at least one channel."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f"config.model.dropout is {self.dropout}: give at least 0 and below 1."
            )
        super().__post_init__()

    def setup(self):
        defaults = KERAS if self.keras_defaults else TORCH
        self.conv1 = Conv(
            self.width,
            (3, 3),
            padding=defaults.padding(3),
            use_bias=self.use_bias,
            kernel_init=defaults.kernel_init,
            dtype=self.dtype,
        )
        if not self.preact:
            self.bn1 = batch_norm(defaults, dtype=self.dtype)
        if self.se == "stem":
            self.se_stem = SqueezeExcite(self._squeezed(self.width), dtype=self.dtype)

        residual_blocks = []
        for stage, depth in enumerate(self.blocks):
            for index in range(depth):
                residual_blocks.append(self._block(stage, index, defaults))
        self.residual_blocks = residual_blocks

        if self.preact:
            self.bn_last = batch_norm(defaults, dtype=self.dtype)
        self.classifier = nn.Dense(
            self.num_classes, kernel_init=defaults.dense_init, dtype=self.dtype
        )

    def _block(self, stage: int, index: int, defaults: Defaults) -> BasicBlock:
        filters = self.width * 2**stage
        halves_map = stage > 0 and index == 0
        squeezed = 0
        if self.se == "blocks":
            squeezed = self._squeezed(filters)
        return BasicBlock(
            filters,
            strides=2 if halves_map else 1,
            kernel=self.kernels[stage],
            shortcut_kernel=self.shortcut_kernels[stage],
            squeezed=squeezed,
            dropout=self.dropout,
            preact=self.preact,
            use_bias=self.use_bias,
            defaults=defaults,
            dtype=self.dtype,
            name=f"layer{stage + 1}_{index}",
        )

    def _squeezed(self, filters: int) -> int:
        return max(filters // self.se_ratio, 1)

    def features(self, x, *, train: bool = False):
        x = self.conv1(x)
        if not self.preact:
            x = nn.relu(self.bn1(x, train=train))
        if self.se == "stem":
            x = self.se_stem(x)
        for block in self.residual_blocks:
            x = block(x, train=train)
        if self.preact:
            x = nn.relu(self.bn_last(x, train=train))
        return x

    def head(self, x, *, train: bool = False):
        return self.classifier(x)


class ResNet20(CifarResNet):
    """Report E's, with biases before BatchNorm as in Keras.

    274,826 parameters, with 1,568 batch statistics.
    """

    use_bias: bool = True


class SEResNet(CifarResNet):
    """Report C's, with less than five million parameters: 4,697,742."""

    blocks: Sequence[int] = (4, 4, 3)
    width: int = 64
    se: str = "stem"
