"""A wide and shallow network for CIFAR-10 that trains in few epochs.

It is in the spirit of Jordan (2024, arXiv:2404.00498).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from imgcls_jax.data.dataset import sample_indices
from imgcls_jax.models.classifier import Classifier
from imgcls_jax.models.cpu_kernels import NHWC
from imgcls_jax.models.layers import BatchNorm, Conv, max_pool

WHITENING_EXAMPLES = 5_000  # training images from which the whitening is computed
MOMENTUM = 0.6

# torch's default: uniform up to 1 / sqrt(fan-in) in both directions
uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def identity_first(key, shape, dtype=jnp.float32):
    """Initialises [k, k, C, F]: the first min(C, F) filters are identities, others random."""
    kernel = uniform(key, shape, dtype)
    centre = shape[0] // 2
    count = min(shape[2:])
    channels = jnp.arange(count)
    kernel = kernel.at[..., :count].set(0)
    return kernel.at[centre, centre, channels, channels].set(1)


def whitening_kernel(images: np.ndarray, size: int, *, epsilon: float = 5e-4) -> np.ndarray:
    """Returns filters that make patches of images [N, H, W, C] uncorrelated with variance 1.

    float32 [size, size, C, 2 size^2 C]: the eigenvectors of the patches' covariance, divided by the
    square roots of their eigenvalues, largest first.
    """
    channels = images.shape[-1]
    patches = np.lib.stride_tricks.sliding_window_view(
        np.asarray(images), (size, size), axis=(1, 2)
    )
    patches = patches.transpose(0, 1, 2, 4, 5, 3)
    patches = patches.reshape(-1, size * size * channels)
    covariance = patches.T.astype(np.float64) @ patches / len(patches)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    filters = eigenvectors / np.sqrt(np.maximum(eigenvalues, 0) + epsilon)
    filters = filters[:, ::-1]
    filters = np.concatenate([filters, -filters], axis=1)
    return filters.reshape(size, size, channels, -1).astype(np.float32)


class Whitening(nn.Module):
    """A convolution without padding, by the fixed variable `whitening/kernel`, and a trained bias.

    x [B, H, W, C] -> [B, H - size + 1, W - size + 1, 2 size^2 C].
    """

    size: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]
        features = 2 * self.size**2 * channels
        shape = (self.size, self.size, channels, features)
        kernel = self.variable("whitening", "kernel", jnp.zeros, shape)
        bias = self.param("bias", nn.initializers.zeros, (features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel.value, bias, dtype=self.dtype)
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=NHWC)
        return y + bias


class FastCNN(Classifier):
    """A fixed whitening layer, then blocks of two 3x3 convolutions with a max pool between; GELU.

    Images [B, 32, 32, 3] -> a map [B, 3, 3, filters[-1]] -> its maxima -> logits. BatchNorm has no
    scale. `prepare` computes the whitening from training images; only its bias is a parameter.
    """

    num_classes: int
    filters: Sequence[int] = (64, 256, 256)
    patch: int = 2  # size of the whitened patches
    logit_scale: float = 1 / 9
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.whitening = Whitening(self.patch, dtype=self.dtype)
        blocks = []
        for number, features in enumerate(self.filters, 1):
            first = self._conv(features, f"block{number}_conv1")
            first_norm = self._norm(f"block{number}_bn1")
            second = self._conv(features, f"block{number}_conv2")
            second_norm = self._norm(f"block{number}_bn2")
            blocks.append((first, first_norm, second, second_norm))
        self.blocks = blocks
        self.classifier = nn.Dense(
            self.num_classes, use_bias=False, kernel_init=uniform, dtype=self.dtype
        )

    def _conv(self, features: int, name: str) -> Conv:
        return Conv(
            features,
            (3, 3),
            use_bias=False,
            kernel_init=identity_first,
            dtype=self.dtype,
            name=name,
        )

    def _norm(self, name: str) -> BatchNorm:
        return BatchNorm(momentum=MOMENTUM, use_scale=False, dtype=self.dtype, name=name)

    def features(self, x, *, train: bool = False):
        x = nn.gelu(self.whitening(x))
        for first, first_norm, second, second_norm in self.blocks:
            x = max_pool(first(x), (2, 2))
            x = nn.gelu(first_norm(x, train=train))
            x = second(x)
            x = nn.gelu(second_norm(x, train=train))
        return x

    def pool(self, x):
        return x.max((1, 2))

    def head(self, x, *, train: bool = False):
        return self.classifier(x) * self.logit_scale

    def prepare(self, variables, images, transform):
        chosen = sample_indices(len(images), WHITENING_EXAMPLES)  # the first are of few classes
        examples = transform(images[chosen])
        kernel = jnp.asarray(whitening_kernel(examples, self.patch))
        return {**variables, "whitening": {"whitening": {"kernel": kernel}}}
