"""An LSTM layer, and the recurrent network of report B, which reads an image row by row."""

import jax.numpy as jnp
from flax import linen as nn

from imgcls_jax.models import cpu_lstm
from imgcls_jax.models.classifier import Classifier
from imgcls_jax.models.layers import glorot

GATES = "ifgo"  # input, forget, cell and output gate, in the order of the joined kernels


class LSTMClassifier(Classifier):
    """An LSTM over the rows of the image, and two dense layers on its last state (report B)."""

    num_classes: int
    units: int = 128
    hidden: int = 64
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.lstm = LSTM(self.units, dtype=self.dtype, forget_bias=1.0)
        self.dense = nn.Dense(self.hidden, kernel_init=glorot, dtype=self.dtype)
        self.classifier = nn.Dense(self.num_classes, kernel_init=glorot, dtype=self.dtype)

    def features(self, x, *, train: bool = False):
        batch, height, *_ = x.shape
        rows = x.reshape(batch, height, -1)
        return self.lstm(rows)[:, -1]

    def head(self, x, *, train: bool = False):
        x = nn.relu(self.dense(x))
        return self.classifier(x)


class LSTM(nn.Module):
    """`nn.RNN(nn.OptimizedLSTMCell(features))` from a zero state.

    x [N, T, C] -> the hidden states [N, T, features]. One product projects the inputs of all
    steps, and one product gives the gradient of each kernel.
    """

    features: int
    dtype: jnp.dtype | None = None
    kernel_init: nn.initializers.Initializer = glorot
    forget_bias: float = 0.0  # initial bias of the forget gate; 1 in Keras

    @nn.compact
    def __call__(self, x):
        cell = _CellParameters(self.features, self.kernel_init, self.forget_bias, name="cell")
        kernel, recurrent_kernel, bias = cell(x.shape[-1])
        x, kernel, recurrent_kernel, bias = nn.dtypes.promote_dtype(
            x, kernel, recurrent_kernel, bias, dtype=self.dtype
        )
        # The bias is the kernel's last row, so that it and its gradient are part of the products.
        ones = jnp.ones((*x.shape[:-1], 1), x.dtype)
        x = jnp.concatenate([x, ones], -1)
        kernel = jnp.concatenate([kernel, bias[None]])
        projected = cpu_lstm.project(x.swapaxes(0, 1), kernel)
        hidden = cpu_lstm.recur(projected, recurrent_kernel)
        return hidden.swapaxes(0, 1)


class _CellParameters(nn.Module):
    """The parameters of `nn.OptimizedLSTMCell` under the same names, joined in the order of GATES.

    Returns the kernel [C, 4 F], the recurrent kernel [F, 4 F] and the bias [4 F] for C input
    features.
    """

    features: int
    kernel_init: nn.initializers.Initializer
    forget_bias: float

    @nn.compact
    def __call__(self, input_features: int):
        kernels = []
        for gate in GATES:
            shape = (input_features, self.features)
            layer = _DenseParameters(shape, self.kernel_init, None, name=f"i{gate}")
            kernel, _ = layer()
            kernels.append(kernel)

        recurrent_kernels = []
        biases = []
        for gate in GATES:
            shape = (self.features, self.features)
            bias = self.forget_bias if gate == "f" else 0.0
            recurrent_init = nn.initializers.orthogonal()
            layer = _DenseParameters(shape, recurrent_init, bias, name=f"h{gate}")
            kernel, bias = layer()
            recurrent_kernels.append(kernel)
            biases.append(bias)

        return (
            jnp.concatenate(kernels, -1),
            jnp.concatenate(recurrent_kernels, -1),
            jnp.concatenate(biases, -1),
        )


class _DenseParameters(nn.Module):
    """Returns the kernel, and the bias or None, of a dense layer with kernels of this shape."""

    shape: tuple[int, int]
    kernel_init: nn.initializers.Initializer
    bias: float | None  # the initial one; None for a layer without

    @nn.compact
    def __call__(self):
        kernel = self.param("kernel", self.kernel_init, self.shape)
        if self.bias is None:
            return kernel, None
        bias_init = nn.initializers.constant(self.bias)
        return kernel, self.param("bias", bias_init, self.shape[1:])
