"""The residual networks of reports C and E, until the package has them."""

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.layers import BatchNorm, Classifier, Conv

he_normal = nn.initializers.he_normal()


class SqueezeExcite(nn.Module):
    """Scales each channel by a figure in (0, 1), made of the means of all channels: [B, H, W, C] -> the same shape."""

    squeezed: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        s = nn.relu(nn.Dense(self.squeezed, dtype=self.dtype, name="reduce")(x.mean((1, 2))))
        s = nn.sigmoid(nn.Dense(x.shape[-1], dtype=self.dtype, name="expand")(s))
        return x * s[:, None, None, :]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each with BatchNorm, beside a shortcut: the input, or a 1x1 convolution of it where the
    number of channels or the stride changes. [B, H, W, C] -> [B, H / strides, W / strides, filters]."""

    filters: int
    strides: int = 1
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        def conv_norm(x, kernel: int, strides: int, suffix: str):
            x = Conv(
                self.filters,
                (kernel, kernel),
                strides=strides,
                padding=kernel // 2,
                use_bias=self.use_bias,
                kernel_init=he_normal,
                dtype=self.dtype,
                name=f"conv{suffix}",
            )(x)
            return BatchNorm(dtype=self.dtype, name=f"bn{suffix}")(x, train=train)

        y = nn.relu(conv_norm(x, 3, self.strides, "1"))
        y = conv_norm(y, 3, 1, "2")
        if y.shape != x.shape:
            x = conv_norm(x, 1, self.strides, "_shortcut")
        return nn.relu(x + y)


class CifarResNet(Classifier):
    """A residual network for small images: a 3x3 stem, stages of basic blocks, mean over places, one dense layer.

    Every stage but the first halves the map. `squeezed` is the width of a squeeze-and-excitation block after the stem;
    0 for none. The blocks are named layer1_0, layer1_1, ..., as in torchvision.
    """

    num_classes: int
    blocks: tuple[int, ...] = (3, 3, 3)
    filters: tuple[int, ...] = (16, 32, 64)
    squeezed: int = 0
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32

    def _layout(self) -> list[tuple[str, int, int]]:
        """Name, filters and strides of each block."""
        return [
            (f"layer{stage}_{i}", filters, 2 if stage > 1 and i == 0 else 1)
            for stage, (blocks, filters) in enumerate(zip(self.blocks, self.filters, strict=True), 1)
            for i in range(blocks)
        ]

    def setup(self):
        self.conv1 = Conv(
            self.filters[0], (3, 3), padding=1, use_bias=self.use_bias, kernel_init=he_normal, dtype=self.dtype
        )
        self.bn1 = BatchNorm(dtype=self.dtype)
        if self.squeezed:
            self.se = SqueezeExcite(self.squeezed, dtype=self.dtype)
        for name, filters, strides in self._layout():
            setattr(self, name, BasicBlock(filters, strides, self.use_bias, dtype=self.dtype))
        self.classifier = nn.Dense(self.num_classes, dtype=self.dtype)

    def features(self, x, *, train: bool = False):
        x = nn.relu(self.bn1(self.conv1(x), train=train))
        if self.squeezed:
            x = self.se(x)
        for name, _, _ in self._layout():
            x = getattr(self, name)(x, train=train)
        return x

    def head(self, x, *, train: bool = False):
        return self.classifier(x.mean((1, 2)))


class ResNet20(CifarResNet):
    """ResNet-20 with convolutions as shortcuts (report E): 274,826 parameters, batch statistics included."""

    use_bias: bool = True


class SEResNet(CifarResNet):
    """The SE-ResNet of report C, under five million parameters: 4,697,742, batch statistics left out."""

    blocks: tuple[int, ...] = (4, 4, 3)
    filters: tuple[int, ...] = (64, 128, 256)
    squeezed: int = 4


MODELS: dict[str, type[Classifier]] = {"resnet20": ResNet20, "se_resnet": SEResNet}
