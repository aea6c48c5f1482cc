"""Our layers against Flax' own: the same parameters, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from imgcls_jax.models import cpu_kernels, winograd
from imgcls_jax.models.batch_axis import AXIS
from imgcls_jax.models.layers import BatchNorm, Conv, Dropout, max_pool
from imgcls_jax.models.lstm import LSTM


def normal(seed: int, shape: tuple[int, ...]):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def assert_same(ours, theirs, *arguments):
    """Equal values, and equal gradients of a random projection of them with respect to every argument."""
    expected = jax.jit(theirs)(*arguments)
    weights = normal(9, expected.shape)
    positions = tuple(range(len(arguments)))
    np.testing.assert_allclose(jax.jit(ours)(*arguments), expected, rtol=1e-5, atol=1e-5)
    ours, theirs = (
        jax.jit(jax.grad(lambda *a, f=f: (f(*a) * weights).sum(), positions))(*arguments)
        for f in (ours, theirs)
    )
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


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
    ours, theirs = (conv(features=5, kernel_size=kernel, **options) for conv in (Conv, nn.Conv))
    x = normal(0, (2, *size, 3))
    variables = theirs.init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x)) == jax.tree.map(
        jnp.shape, variables
    )
    assert_same(ours.apply, theirs.apply, variables, x)


@pytest.mark.parametrize(
    "options", [{"feature_group_count": 3}, {"input_dilation": (2, 2), "padding": ((1, 1), (1, 1))}]
)
def test_grouped_and_transposed_convolutions_are_left_to_xla(options):
    x = normal(0, (2, 8, 8, 3))
    ours, theirs = (conv(features=6, kernel_size=(3, 3), **options) for conv in (Conv, nn.Conv))
    assert_same(ours.apply, theirs.apply, theirs.init(jax.random.key(0), x), x)


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
    ours, theirs = (
        conv(features=4, kernel_size=(kernel, kernel), **options) for conv in (Conv, nn.Conv)
    )
    x = normal(0, (batch, *size, 4))
    assert_same(ours.apply, theirs.apply, theirs.init(jax.random.key(0), x), x)


def test_depthwise_sums_bfloat16_in_float32():
    options = {"features": 8, "kernel_size": (7, 7), "feature_group_count": 8, "use_bias": False}
    half, whole = Conv(**options, dtype=jnp.bfloat16), nn.Conv(**options)
    x = normal(0, (4, 9, 9, 8)).astype(jnp.bfloat16)
    variables = jax.tree.map(
        lambda w: w.astype(jnp.bfloat16).astype(jnp.float32), whole.init(jax.random.key(0), x)
    )
    y, expected = half.apply(variables, x), whole.apply(variables, x.astype(jnp.float32))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, expected.astype(jnp.bfloat16))


def test_depthwise_is_exported_for_any_batch():
    conv = Conv(features=3, kernel_size=(5, 5), strides=2, feature_group_count=3)
    x = normal(0, (5, 9, 9, 3))
    variables = conv.init(jax.random.key(0), x)
    shape = jax.export.symbolic_shape("b, 9, 9, 3")
    exported = jax.export.export(jax.jit(lambda x: conv.apply(variables, x)))(
        jax.ShapeDtypeStruct(shape, x.dtype)
    )
    assert "feature_group_count = 3" not in exported.mlir_module()  # in a form of our own
    np.testing.assert_allclose(exported.call(x), conv.apply(variables, x), rtol=1e-5, atol=1e-5)


def direct(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=cpu_kernels.NHWC)


@pytest.mark.parametrize("size", [(4, 4), (7, 9), (1, 6), (13, 8)])
def test_winograd_equals_direct_convolution(size):
    assert_same(winograd.convolve, direct, normal(0, (2, *size, 3)), normal(1, (3, 3, 3, 5)))


def test_winograd_error_is_a_small_multiple_of_the_direct_one():
    """Against float64, relative to the output's deviation: what benchmarks/layers.py measures."""
    x, w = normal(0, (2, 16, 16, 64)), normal(1, (3, 3, 64, 64))
    with jax.enable_x64(True):
        exact = np.asarray(direct(x.astype(jnp.float64), w.astype(jnp.float64)))
    errors = [
        np.std(np.asarray(f(x, w)) - exact) / exact.std() for f in (winograd.convolve, direct)
    ]
    assert 1e-8 < errors[1] < errors[0] < 2e-6


def test_winograd_is_taken_where_it_is_faster_unless_switched_off(monkeypatch):
    calls = []
    monkeypatch.setattr(winograd, "convolve", lambda x, w: calls.append(x.shape) or direct(x, w))
    conv = Conv(features=64, kernel_size=(3, 3), padding=1)

    def trace(shape, **options):
        calls.clear()
        with cpu_kernels.use(**options):
            jax.eval_shape(
                lambda x: conv.init(jax.random.key(0), x), jax.ShapeDtypeStruct(shape, jnp.float32)
            )
        return bool(calls)

    assert trace((16, 32, 32, 64))
    assert not trace((16, 32, 32, 64), winograd=False)
    assert not trace((16, 32, 32, 64), enabled=False)
    assert not trace((16, 32, 32, 3))  # few channels
    assert not trace((2, 9, 9, 64))  # few tiles, and these half empty
    assert trace((16, 32, 32, 64))


def test_winograd_transforms_a_frozen_kernel_once_a_dispatch():
    """XLA takes the transform of what does not change out of the loop of steps."""

    def steps(count, x, w):
        def step(i, total):
            return total + winograd.convolve(x[i], w).sum()

        return jax.lax.fori_loop(0, count, step, 0.0)

    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 8, 16, 16, 64), (3, 3, 64, 64))
    ]
    program = jax.jit(steps).lower(3, *shapes).compile().as_text()
    before_the_loop = program[program.index("ENTRY") :].partition(" while(")[0]
    assert "f32[36,64,64]" in before_the_loop


def test_winograd_does_not_depend_on_the_number_of_devices():
    x, w = normal(0, (4, 8, 8, 3)), normal(1, (3, 3, 3, 5))

    def loss(w, x):
        return (winograd.convolve(x, w) ** 2).mean()

    whole = jax.grad(loss)(w, x)
    parts = jax.pmap(lambda x: lax.pmean(jax.grad(loss)(w, x), AXIS), axis_name=AXIS)(
        x.reshape(2, 2, 8, 8, 3)
    )
    np.testing.assert_allclose(parts[1], whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
@pytest.mark.parametrize("window", [(2, 2), (3, 2)])
def test_max_pool_equals_flax_also_in_ties(size, window):
    x = jnp.round(
        normal(0, (2, *size, 3))
    )  # whole numbers: many windows have several largest entries
    assert_same(lambda x: max_pool(x, window), lambda x: nn.max_pool(x, window, window), x)


@pytest.mark.parametrize(
    "strides, padding",
    [(1, "SAME"), (2, "SAME"), (2, "VALID"), (2, ((1, 1), (1, 1))), (2, ((0, 1), (0, 0)))],
)
def test_overlapping_max_pool_equals_flax_also_in_ties(strides, padding):
    x = jnp.round(normal(0, (2, 9, 10, 3)))
    ours, theirs = (
        lambda x, pool=pool: pool(x, (3, 3), (strides, strides), padding)
        for pool in (max_pool, nn.max_pool)
    )
    assert_same(ours, theirs, x)


def test_lstm_equals_flax():
    ours, theirs = LSTM(7), nn.RNN(nn.OptimizedLSTMCell(7, name="cell"))
    x = normal(0, (3, 5, 4))
    variables = theirs.init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x)) == jax.tree.map(
        jnp.shape, variables
    )
    variables = jax.tree.map(
        lambda leaf: leaf + 0.1 * normal(1, leaf.shape), variables
    )  # biases too
    assert_same(ours.apply, theirs.apply, variables, x)


def test_forget_bias_is_that_of_the_forget_gate():
    cell = LSTM(2, forget_bias=1.0).init(jax.random.key(0), jnp.zeros((1, 3, 4)))["params"]["cell"]
    assert {gate: cell[f"h{gate}"]["bias"].tolist() for gate in "ifgo"} == {
        "i": [0, 0], "f": [1, 1], "g": [0, 0], "o": [0, 0],
    }  # fmt: skip


def test_own_gradients_are_used_on_cpu_and_compile_to_plain_convolutions():
    """Inside a loop XLA's own gradient becomes a naive loop; ours must stay a convolution in NHWC."""
    conv = Conv(features=4, kernel_size=(3, 3), use_bias=False)
    x = normal(0, (2, 8, 8, 3))
    variables = conv.init(jax.random.key(0), x)

    def train(variables):
        step = jax.grad(lambda v: (conv.apply(v, x) ** 2).sum())
        return lax.fori_loop(
            0, 3, lambda _, v: jax.tree.map(lambda a, b: a - 0.1 * b, v, step(v)), variables
        )

    text = jax.jit(train).lower(variables).as_text()
    layouts = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert len(layouts) == 2 and all(
        "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in line for line in layouts
    )


@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (16, 3)])
def test_batch_norm_equals_flax(shape):
    ours, theirs = BatchNorm(momentum=0.8, epsilon=1e-3), nn.BatchNorm(momentum=0.8, epsilon=1e-3)
    x = 3 * normal(0, shape) + 1
    variables = theirs.init(jax.random.key(0), x, use_running_average=True)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x, train=True)) == jax.tree.map(
        jnp.shape, variables
    )
    variables["params"] = jax.tree.map(
        lambda leaf: leaf + 0.1 * normal(1, leaf.shape), variables["params"]
    )
    variables["batch_stats"] = {"mean": normal(2, (3,)), "var": normal(3, (3,)) ** 2 + 0.1}
    assert_same(
        lambda v, x: ours.apply(v, x, train=False),
        lambda v, x: theirs.apply(v, x, use_running_average=True),
        variables,
        x,
    )

    def in_training(module, **options):
        return lambda v, x: module.apply(v, x, mutable="batch_stats", **options)

    ours, theirs = in_training(ours, train=True), in_training(theirs, use_running_average=False)
    assert_same(lambda v, x: ours(v, x)[0], lambda v, x: theirs(v, x)[0], variables, x)
    for one, other in zip(
        *(jax.tree.leaves(norm(variables, x)[1]) for norm in (ours, theirs)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_batch_norm_and_dropout_do_not_depend_on_the_number_of_devices():
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Dropout(0.5)(BatchNorm()(x, train=True), train=True)

    x, model = normal(0, (8, 6)) + 1, Both()
    key, variables = (
        jax.random.key(1),
        model.init({"params": jax.random.key(0), "dropout": jax.random.key(0)}, x),
    )

    def apply(x):
        return model.apply(variables, x, mutable="batch_stats", rngs={"dropout": key})

    whole, statistics = apply(x)
    parts, statistics_of_parts = jax.pmap(apply, axis_name=AXIS)(x.reshape(2, 4, 6))
    np.testing.assert_allclose(parts.reshape(8, 6), whole, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-5), statistics_of_parts, statistics
    )


def test_dropout_keeps_the_mean_and_is_off_in_evaluation():
    x = jnp.ones((64, 100))
    dropped = Dropout(0.25).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)} and abs(dropped.mean() - 1) < 0.02
    assert len({row.tobytes() for row in np.asarray(dropped)}) == 64
    assert (Dropout(0.25).apply({}, x, train=False) == x).all()
