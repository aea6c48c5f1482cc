"""A wide and shallow network for CIFAR-10 that few epochs train, in the spirit of Jordan (2024, arXiv:2404.00498)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from imgcls_jax.models.cpu_kernels import NHWC
from imgcls_jax.models.layers import BatchNorm, Classifier, Conv, max_pool

uniform = nn.initializers.variance_scaling(
    1 / 3, "fan_in", "uniform"
)  # torch's default, 1 / sqrt(fan-in) either side
EXAMPLES = 5_000  # of which the whitening is computed


def identity_first(key, shape, dtype=jnp.float32):
    """[k, k, C, F]: the first min(C, F) filters hand a channel on as it is, the others are random."""
    kernel = uniform(key, shape, dtype)
    count, middle = min(shape[2:]), shape[0] // 2
    return (
        kernel.at[..., :count]
        .set(0)
        .at[middle, middle, jnp.arange(count), jnp.arange(count)]
        .set(1)
    )


def whitening_kernel(images: np.ndarray, size: int, *, epsilon: float = 5e-4) -> np.ndarray:
    """Filters that make the patches of images [N, H, W, C] uncorrelated and of variance 1, and their negatives.

    Returns float32 [size, size, C, 2 size^2 C]: the eigenvectors of the patches' covariance over the roots of their
    eigenvalues, largest first.
    """
    patches = np.lib.stride_tricks.sliding_window_view(
        np.asarray(images), (size, size), axis=(1, 2)
    )
    patches = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size * size * images.shape[-1])
    values, vectors = np.linalg.eigh(patches.T.astype(np.float64) @ patches / len(patches))
    filters = (vectors / np.sqrt(np.maximum(values, 0) + epsilon))[:, ::-1]
    filters = np.concatenate([filters, -filters], axis=1)
    return filters.reshape(size, size, images.shape[-1], -1).astype(np.float32)


class Whitening(nn.Module):
    """A convolution with a fixed kernel, `whitening/kernel` in the state, and a bias: no padding.

    x [B, H, W, C] -> [B, H - size + 1, W - size + 1, 2 size^2 C].
    """

    size: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        features = 2 * self.size**2 * x.shape[-1]
        kernel = self.variable(
            "whitening", "kernel", jnp.zeros, (self.size, self.size, x.shape[-1], features)
        )
        bias = self.param("bias", nn.initializers.zeros, (features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel.value, bias, dtype=self.dtype)
        return (
            jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=NHWC) + bias
        )


class FastCNN(Classifier):
    """A fixed whitening layer, then blocks of two 3x3 convolutions with a 2x2 max pool after the first; GELU.

    Images [B, 32, 32, 3] -> a map [B, 3, 3, filters[-1]] -> its maxima -> logits. BatchNorm has no scale. The whitening
    is computed from training images (`prepare`) and no parameter: only its bias is trained.
    """

    num_classes: int
    filters: Sequence[int] = (64, 256, 256)
    patch: int = 2  # size of the whitened patches
    logit_scale: float = 1 / 9
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.whitening = Whitening(self.patch, dtype=self.dtype)
        for block, filters in enumerate(self.filters, 1):
            for i in (1, 2):
                conv = Conv(
                    filters, (3, 3), use_bias=False, kernel_init=identity_first, dtype=self.dtype
                )
                setattr(self, f"block{block}_conv{i}", conv)
                setattr(
                    self,
                    f"block{block}_bn{i}",
                    BatchNorm(momentum=0.6, use_scale=False, dtype=self.dtype),
                )
        self.classifier = nn.Dense(
            self.num_classes, use_bias=False, kernel_init=uniform, dtype=self.dtype
        )

    def features(self, x, *, train: bool = False):
        x = nn.gelu(self.whitening(x))
        for block in range(1, len(self.filters) + 1):
            x = max_pool(getattr(self, f"block{block}_conv1")(x), (2, 2))
            x = nn.gelu(getattr(self, f"block{block}_bn1")(x, train=train))
            x = getattr(self, f"block{block}_conv2")(x)
            x = nn.gelu(getattr(self, f"block{block}_bn2")(x, train=train))
        return x

    def pool(self, x):
        return x.max((1, 2))

    def head(self, x, *, train: bool = False):
        return self.classifier(x) * self.logit_scale

    def prepare(self, model_state, images, transform):
        kernel = whitening_kernel(transform(images[:EXAMPLES]), self.patch)
        return {**model_state, "whitening": {"whitening": {"kernel": jnp.asarray(kernel)}}}
