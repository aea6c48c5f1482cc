"""Residual networks for small images: ResNet-20 (report E) and the SE-ResNet (report C)."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.errors import ConfigError, choose
from imgcls_jax.models.blocks import SqueezeExcite
from imgcls_jax.models.layers import BatchNorm, Classifier, Conv, Dropout, glorot

SE_PLACES = {
    "none": "no such block",
    "stem": "one after the stem",
    "blocks": "one in every residual block",
}


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What a library's layers do where nothing else is asked of them."""

    kernel_init: nn.initializers.Initializer
    dense_init: nn.initializers.Initializer
    momentum: float  # of BatchNorm
    epsilon: float
    same: (
        bool  # Keras' padding, which differs from the symmetric one where strides meet an even size
    )

    def padding(self, kernel: int) -> int | str:
        return "SAME" if self.same else kernel // 2


OURS = Defaults(nn.initializers.he_normal(), nn.initializers.lecun_normal(), 0.9, 1e-5, same=False)
KERAS = Defaults(glorot, glorot, 0.99, 1e-3, same=True)


class BasicBlock(nn.Module):
    """Two convolutions, each with BatchNorm, beside a shortcut: the input, or a convolution of it where the number of
    channels or the stride changes. x [B, H, W, C] -> [B, H / strides, W / strides, filters].

    With `preact` BatchNorm and ReLU stand before the convolutions (He et al., 2016, arXiv:1603.05027): the sum is
    not rectified, and a convolution as shortcut reads what the first one reads, without a BatchNorm of its own.
    """

    filters: int
    strides: int = 1
    kernel: int = 3
    shortcut_kernel: int = 1
    squeezed: int = 0  # width of a squeeze-and-excitation block on the residual; 0 for none
    dropout: float = 0.0  # before the second convolution
    preact: bool = False
    use_bias: bool = False
    defaults: Defaults = OURS
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        def conv(x, kernel: int, strides: int, name: str):
            return Conv(
                self.filters,
                (kernel, kernel),
                strides=strides,
                padding=self.defaults.padding(kernel),
                use_bias=self.use_bias,
                kernel_init=self.defaults.kernel_init,
                dtype=self.dtype,
                name=name,
            )(x)

        def norm(x, name: str):
            options = {"momentum": self.defaults.momentum, "epsilon": self.defaults.epsilon}
            return BatchNorm(**options, dtype=self.dtype, name=name)(x, train=train)

        def squeeze_excite(x):
            return (
                SqueezeExcite(self.squeezed, dtype=self.dtype, name="se")(x) if self.squeezed else x
            )

        drop = Dropout(self.dropout)
        projects = self.strides > 1 or x.shape[-1] != self.filters
        if self.preact:
            y = nn.relu(norm(x, "bn1"))
            if projects:
                x = conv(y, self.shortcut_kernel, self.strides, "conv_shortcut")
            y = nn.relu(norm(conv(y, self.kernel, self.strides, "conv1"), "bn2"))
            return x + squeeze_excite(conv(drop(y, train=train), self.kernel, 1, "conv2"))
        y = nn.relu(norm(conv(x, self.kernel, self.strides, "conv1"), "bn1"))
        y = squeeze_excite(norm(conv(drop(y, train=train), self.kernel, 1, "conv2"), "bn2"))
        if projects:
            x = norm(conv(x, self.shortcut_kernel, self.strides, "conv_shortcut"), "bn_shortcut")
        return nn.relu(x + y)


class CifarResNet(Classifier):
    """A 3x3 stem, stages of basic blocks, the mean over places, one dense layer (He et al., 2015, arXiv:1512.03385).

    Stage i has blocks[i] blocks of width * 2^i channels; every stage but the first halves the map. Images
    [B, H, W, C] -> a map [B, H / 4, W / 4, 4 width] (of three stages) -> logits. The blocks are named layer1_0,
    layer1_1, ..., as in torchvision. `se` says where squeeze-and-excitation blocks are: a key of SE_PLACES.

    With `keras_defaults` weights start as Glorot and Bengio have them, BatchNorm has a momentum of 0.99 and an epsilon
    of 1e-3, and padding is Keras' `same`; otherwise convolutions start as He et al. have them, and momentum (0.9),
    epsilon (1e-5) and padding are torch's.
    """

    num_classes: int
    blocks: Sequence[int] = (3, 3, 3)
    width: int = 16
    kernels: Sequence[int] = (3, 3, 3)  # of each stage's blocks
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
        stages = len(self.blocks)
        for name in ("kernels", "shortcut_kernels"):
            sizes = getattr(self, name)
            if len(sizes) != stages or any(size < 1 or size % 2 == 0 for size in sizes):
                raise ConfigError(
                    f"config.model.{name} is {tuple(sizes)}: give an odd size for each of the {stages} stages that "
                    f"config.model.blocks {tuple(self.blocks)} has, such as {(3,) * stages}."
                )
        if min(self.blocks) < 1 or self.width < 1:
            raise ConfigError(
                f"config.model.blocks is {tuple(self.blocks)} and width {self.width}: every stage needs at least one "
                "block, and every layer one channel."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f"config.model.dropout is {self.dropout}: give at least 0 and below 1."
            )
        super().__post_init__()

    def _squeezed(self, filters: int, place: str) -> int:
        return max(filters // self.se_ratio, 1) if self.se == place else 0

    def setup(self):
        defaults = KERAS if self.keras_defaults else OURS
        norm = {"momentum": defaults.momentum, "epsilon": defaults.epsilon, "dtype": self.dtype}
        self.conv1 = Conv(
            self.width,
            (3, 3),
            padding=defaults.padding(3),
            use_bias=self.use_bias,
            kernel_init=defaults.kernel_init,
            dtype=self.dtype,
        )
        if not self.preact:
            self.bn1 = BatchNorm(**norm)
        if squeezed := self._squeezed(self.width, "stem"):
            self.se_stem = SqueezeExcite(squeezed, dtype=self.dtype)
        names = []
        for stage, depth in enumerate(self.blocks):
            filters = self.width * 2**stage
            for index in range(depth):
                names.append(f"layer{stage + 1}_{index}")
                block = BasicBlock(
                    filters,
                    strides=2 if stage and not index else 1,
                    kernel=self.kernels[stage],
                    shortcut_kernel=self.shortcut_kernels[stage],
                    squeezed=self._squeezed(filters, "blocks"),
                    dropout=self.dropout,
                    preact=self.preact,
                    use_bias=self.use_bias,
                    defaults=defaults,
                    dtype=self.dtype,
                )
                setattr(self, names[-1], block)
        self.block_names = names
        if self.preact:
            self.bn_last = BatchNorm(**norm)
        self.classifier = nn.Dense(
            self.num_classes, kernel_init=defaults.dense_init, dtype=self.dtype
        )

    def features(self, x, *, train: bool = False):
        x = self.conv1(x)
        if not self.preact:
            x = nn.relu(self.bn1(x, train=train))
        if self.se == "stem":
            x = self.se_stem(x)
        for name in self.block_names:
            x = getattr(self, name)(x, train=train)
        return nn.relu(self.bn_last(x, train=train)) if self.preact else x

    def head(self, x, *, train: bool = False):
        return self.classifier(x)


class ResNet20(CifarResNet):
    """Report E's, with biases before BatchNorm as in Keras: 274,826 parameters, 1,568 batch statistics included."""

    use_bias: bool = True


class SEResNet(CifarResNet):
    """Report C's, under five million parameters: 4,697,742."""

    blocks: Sequence[int] = (4, 4, 3)
    width: int = 64
    se: str = "stem"
