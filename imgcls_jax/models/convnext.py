"""ConvNeXt (Liu et al., 2022, arXiv:2201.03545) as torchvision has it."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.classifier import Classifier
from imgcls_jax.models.layers import Conv, Dense, DropPath

EPSILON = 1e-6
LAYER_SCALE = 1e-6

kernel_init = nn.initializers.normal(0.02)


def layer_norm(dtype, **options) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=EPSILON, use_fast_variance=False, dtype=dtype, **options)


class Block(nn.Module):
    """x plus a branch: a depthwise 7x7 convolution, LayerNorm, two dense layers over channels.

    The shape stays that of x, [B, H, W, C].
    """

    drop_path: float  # probability with which an example loses the branch
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train: bool):
        channels = x.shape[-1]
        options = {"kernel_init": kernel_init, "dtype": self.dtype}
        depthwise = Conv(
            channels, (7, 7), padding=3, feature_group_count=channels, name="block_0", **options
        )
        y = depthwise(x)
        y = layer_norm(self.dtype, name="block_2")(y)
        y = Dense(4 * channels, name="block_3", **options)(y)
        y = nn.gelu(y, approximate=False)
        y = Dense(channels, name="block_5", **options)(y)
        scale_init = nn.initializers.constant(LAYER_SCALE)
        scale = self.param("layer_scale", scale_init, (channels,))
        y = y * scale.astype(y.dtype)
        return x + DropPath(self.drop_path)(y, train=train)


class ConvNeXt(Classifier):
    """Images [B, H, W, 3] -> a map [B, H / 32, W / 32, last width] -> logits [B, num_classes].

    `stochastic_depth` is the probability with which an example loses the last block's branch; it
    rises linearly from 0 at the first block.
    """

    num_classes: int
    widths: Sequence[int]
    blocks: Sequence[int]
    stochastic_depth: float = 0.1
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        # As in torchvision, features_0 is the stem, odd numbers are stages, and the other even ones
        # halve the map.
        stem = self._downsample(self.widths[0], 4, "features_0_0")
        layers = [stem, layer_norm(self.dtype, name="features_0_1")]
        last_block = sum(self.blocks) - 1
        position = 0
        for stage, depth in enumerate(self.blocks):
            if stage > 0:
                layers.append(layer_norm(self.dtype, name=f"features_{2 * stage}_0"))
                name = f"features_{2 * stage}_1"
                layers.append(self._downsample(self.widths[stage], 2, name))
            for index in range(depth):
                rate = self.stochastic_depth * position / last_block
                name = f"features_{2 * stage + 1}_{index}"
                layers.append(Block(rate, self.dtype, name=name))
                position += 1
        self.layers = layers
        self.classifier_0 = layer_norm(self.dtype)
        self.classifier_2 = nn.Dense(self.num_classes, kernel_init=kernel_init, dtype=self.dtype)

    def _downsample(self, features: int, factor: int, name: str) -> Conv:
        size = (factor, factor)
        return Conv(
            features,
            size,
            size,
            padding="VALID",
            kernel_init=kernel_init,
            dtype=self.dtype,
            name=name,
        )

    def features(self, x, *, train: bool = False):
        for layer in self.layers:
            if isinstance(layer, Block):
                x = layer(x, train=train)
            else:
                x = layer(x)
        return x

    def head(self, x, *, train: bool = False):
        x = self.classifier_0(x)
        return self.classifier_2(x)


VARIANTS = {"convnext_tiny": partial(ConvNeXt, widths=(96, 192, 384, 768), blocks=(3, 3, 9, 3))}
