"""The recurrence of an LSTM, with gradients that XLA compiles well for CPUs.

The gate order is input, forget, cell, output: the last axis of `projected` and of the recurrent
kernel holds the four side by side. JAX would derive a gradient that multiplies and sums the
recurrent kernel's gradient in every step of the scan, which is slow on CPUs. Here the backward scan
only computes the gradients of the gates' inputs; the gradients of both kernels are one matrix
product each over all steps.

The numbers equal those of `nn.OptimizedLSTMCell` up to rounding.
"""

import jax
import jax.numpy as jnp
from jax import lax

from imgcls_jax.models import cpu_kernels


def recur(projected, recurrent_kernel):
    """Returns the hidden states [T, N, F] of an LSTM that starts from zeros.

    projected: inputs times their kernel, with bias, [T, N, 4 F]. recurrent_kernel: [F, 4 F].
    """
    if cpu_kernels.enabled():
        return _recur_fast(projected, recurrent_kernel)
    return _recur(projected, recurrent_kernel)


def _cell(state, projected, recurrent_kernel):
    """One step: state (c, h), [N, F] each, and projected [N, 4 F] -> next state, gates."""
    c, h = state
    i, f, g, o = jnp.split(projected + h @ recurrent_kernel, 4, -1)
    i = jax.nn.sigmoid(i)
    f = jax.nn.sigmoid(f)
    g = jnp.tanh(g)
    o = jax.nn.sigmoid(o)
    c = f * c + i * g
    h = o * jnp.tanh(c)
    return (c, h), (i, f, g, o)


def _zero_state(projected, recurrent_kernel):
    batch_size = projected.shape[1]
    features = recurrent_kernel.shape[0]
    zeros = jnp.zeros((batch_size, features), projected.dtype)
    return zeros, zeros


def _recur(projected, recurrent_kernel):
    def step(state, projected_step):
        state, _ = _cell(state, projected_step, recurrent_kernel)
        _, h = state
        return state, h

    _, hidden = lax.scan(step, _zero_state(projected, recurrent_kernel), projected)
    return hidden


_recur_fast = jax.custom_vjp(_recur)


def _recur_forward(projected, recurrent_kernel):
    def step(state, projected_step):
        state, gates = _cell(state, projected_step, recurrent_kernel)
        return state, (*state, *gates)

    initial_state = _zero_state(projected, recurrent_kernel)
    _, (c, h, *gates) = lax.scan(step, initial_state, projected)
    return h, (c, h, gates, recurrent_kernel)


def _recur_backward(residuals, d_hidden):
    c, h, gates, recurrent_kernel = residuals

    def step(carry, inputs):
        dc, dh = carry
        d_hidden, c, c_before, i, f, g, o = inputs
        dh = dh + d_hidden
        tanh_c = jnp.tanh(c)
        dc = dc + dh * o * (1 - tanh_c**2)
        di = dc * g * i * (1 - i)
        df = dc * c_before * f * (1 - f)
        dg = dc * i * (1 - g**2)
        do = dh * tanh_c * o * (1 - o)
        d_projected = jnp.concatenate([di, df, dg, do], -1)
        return (dc * f, d_projected @ transposed_kernel), d_projected

    transposed_kernel = lax.optimization_barrier(recurrent_kernel.T)
    zeros = jnp.zeros_like(h[0])
    inputs = (d_hidden, c, _one_step_later(c), *gates)
    _, d_projected = lax.scan(step, (zeros, zeros), inputs, reverse=True)
    return d_projected, _product_over_steps(_one_step_later(h), d_projected)


_recur_fast.defvjp(_recur_forward, _recur_backward)


def _one_step_later(states):
    """The states [T, N, F] before each step: zeros, then all but the last."""
    return jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])


@jax.custom_vjp
def project(x, kernel):
    """Returns x [T, N, C] @ kernel [C, 4 F]."""
    return x @ kernel


def _project_forward(x, kernel):
    return x @ kernel, (x, kernel)


def _project_backward(residuals, d_projected):
    x, kernel = residuals
    return d_projected @ kernel.T, _product_over_steps(x, d_projected)


project.defvjp(_project_forward, _project_backward)


def _product_over_steps(a, b):
    """Returns the sum over all steps and examples of a [T, N, A] times b [T, N, B]: [A, B].

    The barrier makes XLA transpose `a` once, before the product: its fast product needs that.
    """
    a = a.reshape(-1, a.shape[-1])
    b = b.reshape(-1, b.shape[-1])
    return lax.optimization_barrier(a.T) @ b
