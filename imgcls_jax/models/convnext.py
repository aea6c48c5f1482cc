"""ConvNeXt (Liu et al., 2022, arXiv:2201.03545) as torchvision has it."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models.blocks import DropPath
from imgcls_jax.models.layers import Classifier, Conv, Dense

EPSILON = 1e-6

init = nn.initializers.normal(0.02)


def norm(dtype, **options) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=EPSILON, use_fast_variance=False, dtype=dtype, **options)


class Block(nn.Module):
    """x + a branch: a depthwise 7x7 convolution, LayerNorm and two dense layers over channels; same shape as x."""

    drop: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train: bool):
        channels = x.shape[-1]
        options = {"kernel_init": init, "dtype": self.dtype}
        y = Conv(
            channels, (7, 7), padding=3, feature_group_count=channels, name="block_0", **options
        )(x)
        y = norm(self.dtype, name="block_2")(y)
        y = nn.gelu(Dense(4 * channels, name="block_3", **options)(y), approximate=False)
        y = Dense(channels, name="block_5", **options)(y)
        scale = self.param("layer_scale", nn.initializers.constant(1e-6), (channels,))
        return x + DropPath(self.drop)(y * scale.astype(y.dtype), train=train)


class ConvNeXt(Classifier):
    """Images [B, H, W, 3] -> a map [B, H / 32, W / 32, last width] -> logits [B, num_classes].

    `stochastic_depth` is the probability with which the last block's branch is left out; it rises from 0 at the first.
    """

    num_classes: int
    widths: Sequence[int]
    blocks: Sequence[int]
    stochastic_depth: float = 0.1
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        def downsample(features: int, factor: int) -> Conv:
            size = (factor, factor)
            return Conv(features, size, size, padding="VALID", kernel_init=init, dtype=self.dtype)

        # torchvision counts on: features_0 is the stem, then stages at odd, what halves the map at even numbers.
        layers = [[downsample(self.widths[0], 4), norm(self.dtype)]]
        done, last = 0, sum(self.blocks) - 1
        for stage, blocks in enumerate(self.blocks):
            if stage:
                layers.append([norm(self.dtype), downsample(self.widths[stage], 2)])
            drops = [self.stochastic_depth * i / last for i in range(done, done + blocks)]
            layers.append([Block(drop, self.dtype) for drop in drops])
            done += blocks
        for number, group in enumerate(layers):
            setattr(self, f"features_{number}", group)
        self.groups = len(layers)
        self.classifier_0 = norm(self.dtype)
        self.classifier_2 = nn.Dense(self.num_classes, kernel_init=init, dtype=self.dtype)

    def features(self, x, *, train: bool = False):
        for number in range(self.groups):
            for layer in getattr(self, f"features_{number}"):
                x = layer(x, train=train) if isinstance(layer, Block) else layer(x)
        return x

    def head(self, x, *, train: bool = False):
        return self.classifier_2(self.classifier_0(x))


VARIANTS = {"convnext_tiny": partial(ConvNeXt, widths=(96, 192, 384, 768), blocks=(3, 3, 9, 3))}
