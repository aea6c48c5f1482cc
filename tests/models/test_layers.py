"""Our layers against Flax' own: the same parameters, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from generated import initialized
from jax import lax

from imgcls_jax.models import cpu_kernels, winograd
from imgcls_jax.models.batch_axis import AXIS
from imgcls_jax.models.layers import BatchNorm, Conv, Dropout, max_pool
from imgcls_jax.models.lstm import LSTM


def normal(seed: int, shape: tuple[int, ...]):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def assert_same(function, reference, *arguments):
    """Equal values, and equal gradients of a random projection with respect to every argument."""
    expected = jax.jit(reference)(*arguments)
    np.testing.assert_allclose(jax.jit(function)(*arguments), expected, rtol=1e-5, atol=1e-5)
    weights = normal(9, expected.shape)

    def gradients(f):
        def projection(*arguments):
            return (f(*arguments) * weights).sum()

        positions = tuple(range(len(arguments)))
        return jax.jit(jax.grad(projection, positions))(*arguments)

    assert_close(gradients(function), gradients(reference), rtol=1e-4, atol=1e-4)


def assert_close(tree, expected, **tolerances):
    for leaf, expected_leaf in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, expected_leaf, **tolerances)


def assert_same_parameters(layer, variables, x, **options):
    """The layer has parameters of the same names and shapes."""
    init = functools.partial(layer.init, **options)
    initial = jax.eval_shape(init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, initial) == jax.tree.map(jnp.shape, variables)


def perturbed(tree):
    return jax.tree.map(lambda leaf: leaf + 0.1 * normal(1, leaf.shape), tree)


# ---------------------------------------------------------------------------------------------
# Convolution


@pytest.mark.parametrize(
    "kernel, strides, dilation, padding, size",
    [
        ((3, 3), (1, 1), (1, 1), "VALID", (8, 9)),
        ((3, 3), (1, 1), (1, 1), "SAME", (8, 9)),
        ((3, 3), (2, 2), (1, 1), "SAME", (9, 8)),
        ((3, 3), (2, 2), (1, 1), ((1, 1), (1, 1)), (8, 9)),
        ((7, 7), (2, 2), (1, 1), ((3, 3), (3, 3)), (16, 15)),
        ((1, 1), (2, 2), (1, 1), "VALID", (5, 6)),
        ((3, 2), (2, 1), (1, 2), ((1, 2), (0, 3)), (9, 10)),
    ],
)
def test_conv_equals_flax(kernel, strides, dilation, padding, size):
    options = {"strides": strides, "padding": padding, "kernel_dilation": dilation}
    conv = Conv(features=5, kernel_size=kernel, **options)
    reference = nn.Conv(features=5, kernel_size=kernel, **options)
    x = normal(0, (2, *size, 3))
    variables = initialized(reference, x)
    assert_same_parameters(conv, variables, x)
    assert_same(conv.apply, reference.apply, variables, x)


@pytest.mark.parametrize(
    "options", [{"feature_group_count": 3}, {"input_dilation": (2, 2), "padding": ((1, 1), (1, 1))}]
)
def test_grouped_and_transposed_convolutions_are_left_to_xla(options):
    x = normal(0, (2, 8, 8, 3))
    conv = Conv(features=6, kernel_size=(3, 3), **options)
    reference = nn.Conv(features=6, kernel_size=(3, 3), **options)
    variables = initialized(reference, x)
    assert_same(conv.apply, reference.apply, variables, x)


DEPTHWISE = [
    (3, 1, "SAME", (9, 8)),
    (5, 2, "SAME", (9, 8)),
    (7, 1, 3, (7, 7)),
    (3, 2, 1, (8, 9)),
    (3, 4, "VALID", (11, 12)),
]


@pytest.mark.parametrize("batch", [1, 6, 16])
@pytest.mark.parametrize("kernel, strides, padding, size", DEPTHWISE)
def test_depthwise_equals_flax(kernel, strides, padding, size, batch):
    options = {"strides": strides, "padding": padding, "feature_group_count": 4}
    conv = Conv(features=4, kernel_size=(kernel, kernel), **options)
    reference = nn.Conv(features=4, kernel_size=(kernel, kernel), **options)
    x = normal(0, (batch, *size, 4))
    variables = initialized(reference, x)
    assert_same(conv.apply, reference.apply, variables, x)


def test_depthwise_sums_bfloat16_in_float32():
    options = {
        "features": 8,
        "kernel_size": (7, 7),
        "feature_group_count": 8,
        "use_bias": False,
    }
    conv = Conv(**options, dtype=jnp.bfloat16)
    reference = nn.Conv(**options)
    x = normal(0, (4, 9, 9, 8)).astype(jnp.bfloat16)
    variables = initialized(reference, x)
    variables = jax.tree.map(lambda w: w.astype(jnp.bfloat16).astype(jnp.float32), variables)
    y = conv.apply(variables, x)
    expected = reference.apply(variables, x.astype(jnp.float32))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, expected.astype(jnp.bfloat16))


def test_depthwise_is_exported_for_any_batch():
    conv = Conv(features=3, kernel_size=(5, 5), strides=2, feature_group_count=3)
    x = normal(0, (5, 9, 9, 3))
    variables = initialized(conv, x)
    shape = jax.export.symbolic_shape("b, 9, 9, 3")
    export = jax.export.export(jax.jit(lambda x: conv.apply(variables, x)))
    exported = export(jax.ShapeDtypeStruct(shape, x.dtype))
    assert "feature_group_count = 3" not in exported.mlir_module()  # it has our own form
    np.testing.assert_allclose(exported.call(x), conv.apply(variables, x), rtol=1e-5, atol=1e-5)


def test_own_gradients_are_used_on_cpu_and_compile_to_plain_convolutions():
    """Inside a loop XLA's own gradient becomes a naive loop; ours must stay a convolution."""
    conv = Conv(features=4, kernel_size=(3, 3), use_bias=False)
    x = normal(0, (2, 8, 8, 3))
    variables = initialized(conv, x)

    def step(_, variables):
        gradients = jax.grad(lambda v: (conv.apply(v, x) ** 2).sum())(variables)
        return jax.tree.map(lambda value, gradient: value - 0.1 * gradient, variables, gradients)

    def train(variables):
        return lax.fori_loop(0, 3, step, variables)

    program = jax.jit(train).lower(variables).as_text()
    convolutions = [line for line in program.splitlines() if "stablehlo.convolution" in line]
    assert len(convolutions) == 2
    assert all("[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in line for line in convolutions)


# ---------------------------------------------------------------------------------------------
# Winograd's convolution


def direct(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=cpu_kernels.NHWC)


@pytest.mark.parametrize("size", [(4, 4), (7, 9), (1, 6), (13, 8)])
def test_winograd_equals_direct_convolution(size):
    x = normal(0, (2, *size, 3))
    w = normal(1, (3, 3, 3, 5))
    assert_same(winograd.convolve, direct, x, w)


def test_winograd_error_is_a_small_multiple_of_the_direct_one():
    """Against float64, relative to the output's deviation: what benchmarks/layers.py measures."""
    x = normal(0, (2, 16, 16, 64))
    w = normal(1, (3, 3, 64, 64))
    with jax.enable_x64(True):
        exact = np.asarray(direct(x.astype(jnp.float64), w.astype(jnp.float64)))

    def error(convolve) -> float:
        return np.std(np.asarray(convolve(x, w)) - exact) / exact.std()

    assert 1e-8 < error(direct) < error(winograd.convolve) < 2e-6


def test_winograd_is_taken_where_it_is_faster_unless_switched_off(monkeypatch):
    calls = []

    def recording_convolve(x, w):
        calls.append(x.shape)
        return direct(x, w)

    monkeypatch.setattr(winograd, "convolve", recording_convolve)
    conv = Conv(features=64, kernel_size=(3, 3), padding=1)

    def is_taken(shape, **options):
        calls.clear()
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        with cpu_kernels.use(**options):
            jax.eval_shape(lambda x: conv.init(jax.random.key(0), x), x)
        return bool(calls)

    assert is_taken((16, 32, 32, 64))
    assert not is_taken((16, 32, 32, 64), winograd=False)
    assert not is_taken((16, 32, 32, 64), enabled=False)
    assert not is_taken((16, 32, 32, 3))  # few channels
    assert not is_taken((2, 9, 9, 64))  # few tiles, and these half empty
    assert is_taken((16, 32, 32, 64))


def test_winograd_transforms_a_frozen_kernel_once_a_dispatch():
    """XLA moves the transform of a constant kernel out of the loop of steps."""

    def steps(count, x, w):
        def step(i, total):
            return total + winograd.convolve(x[i], w).sum()

        return lax.fori_loop(0, count, step, 0.0)

    x = jax.ShapeDtypeStruct((4, 8, 16, 16, 64), jnp.float32)
    w = jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
    program = jax.jit(steps).lower(3, x, w).compile().as_text()
    main = program[program.index("ENTRY") :]
    before_the_loop, _, _ = main.partition(" while(")
    assert "f32[36,64,64]" in before_the_loop


def test_winograd_does_not_depend_on_the_number_of_devices():
    x = normal(0, (4, 8, 8, 3))
    w = normal(1, (3, 3, 3, 5))

    def loss(w, x):
        return (winograd.convolve(x, w) ** 2).mean()

    def mean_gradient(x):
        return lax.pmean(jax.grad(loss)(w, x), AXIS)

    expected = jax.grad(loss)(w, x)
    gradients = jax.pmap(mean_gradient, axis_name=AXIS)(x.reshape(2, 2, 8, 8, 3))
    np.testing.assert_allclose(gradients[1], expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------
# Max pool


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
@pytest.mark.parametrize("window", [(2, 2), (3, 2)])
def test_max_pool_equals_flax_also_in_ties(size, window):
    # Whole numbers: many windows have several largest entries.
    x = jnp.round(normal(0, (2, *size, 3)))
    assert_same(lambda x: max_pool(x, window), lambda x: nn.max_pool(x, window, window), x)


@pytest.mark.parametrize(
    "strides, padding",
    [(1, "SAME"), (2, "SAME"), (2, "VALID"), (2, ((1, 1), (1, 1))), (2, ((0, 1), (0, 0)))],
)
def test_overlapping_max_pool_equals_flax_also_in_ties(strides, padding):
    x = jnp.round(normal(0, (2, 9, 10, 3)))
    arguments = ((3, 3), (strides, strides), padding)
    assert_same(lambda x: max_pool(x, *arguments), lambda x: nn.max_pool(x, *arguments), x)


# ---------------------------------------------------------------------------------------------
# LSTM


def test_lstm_equals_flax():
    lstm = LSTM(7)
    reference = nn.RNN(nn.OptimizedLSTMCell(7, name="cell"))
    x = normal(0, (3, 5, 4))
    variables = initialized(reference, x)
    assert_same_parameters(lstm, variables, x)
    assert_same(lstm.apply, reference.apply, perturbed(variables), x)


def test_forget_bias_is_that_of_the_forget_gate():
    variables = initialized(LSTM(2, forget_bias=1.0), jnp.zeros((1, 3, 4)))
    cell = variables["params"]["cell"]
    biases = {gate: cell[f"h{gate}"]["bias"].tolist() for gate in "ifgo"}
    assert biases == {"i": [0, 0], "f": [1, 1], "g": [0, 0], "o": [0, 0]}


# ---------------------------------------------------------------------------------------------
# BatchNorm and dropout


@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (16, 3)])
def test_batch_norm_equals_flax(shape):
    norm = BatchNorm(momentum=0.8, epsilon=1e-3)
    reference = nn.BatchNorm(momentum=0.8, epsilon=1e-3)
    x = 3 * normal(0, shape) + 1
    variables = initialized(reference, x, use_running_average=True)
    assert_same_parameters(norm, variables, x, train=True)
    variables["params"] = perturbed(variables["params"])
    variables["batch_stats"] = {"mean": normal(2, (3,)), "var": normal(3, (3,)) ** 2 + 0.1}

    def evaluate(variables, x):
        return norm.apply(variables, x, train=False)

    def evaluate_reference(variables, x):
        return reference.apply(variables, x, use_running_average=True)

    def train(variables, x):
        return norm.apply(variables, x, mutable="batch_stats", train=True)

    def train_reference(variables, x):
        return reference.apply(variables, x, mutable="batch_stats", use_running_average=False)

    assert_same(evaluate, evaluate_reference, variables, x)
    assert_same(
        lambda variables, x: train(variables, x)[0],
        lambda variables, x: train_reference(variables, x)[0],
        variables,
        x,
    )
    _, statistics = train(variables, x)
    _, expected = train_reference(variables, x)
    assert_close(statistics, expected, rtol=1e-5, atol=1e-6)


def test_batch_norm_and_dropout_do_not_depend_on_the_number_of_devices():
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = BatchNorm()(x, train=True)
            return Dropout(0.5)(x, train=True)

    x = normal(0, (8, 6)) + 1
    model = Both()
    variables = model.init({"params": jax.random.key(0), "dropout": jax.random.key(0)}, x)
    rngs = {"dropout": jax.random.key(1)}

    def apply(x):
        return model.apply(variables, x, mutable="batch_stats", rngs=rngs)

    expected, expected_statistics = apply(x)
    y, statistics = jax.pmap(apply, axis_name=AXIS)(x.reshape(2, 4, 6))
    np.testing.assert_allclose(y.reshape(8, 6), expected, rtol=1e-5)
    second_device = jax.tree.map(lambda leaf: leaf[1], statistics)
    assert_close(second_device, expected_statistics, rtol=1e-5)


def test_dropout_keeps_the_mean_and_is_off_in_evaluation():
    x = jnp.ones((64, 100))
    dropped = Dropout(0.25).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)}
    assert abs(dropped.mean() - 1) < 0.02
    rows = {row.tobytes() for row in np.asarray(dropped)}
    assert len(rows) == 64
    assert (Dropout(0.25).apply({}, x, train=False) == x).all()
