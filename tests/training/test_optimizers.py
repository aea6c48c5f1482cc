"""Each optimizer against the textbook update, written out in NumPy, and each schedule against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from imgcls_jax.errors import ConfigError
from imgcls_jax.training import checks, losses, optimizers, schedules

GRADS = np.random.default_rng(0).normal(size=(5, 3)) * 3
RATE, DECAY, START = 0.1, 0.01, np.array([1.0, -2.0, 3.0])


def options(**changes):
    config = base.get_config().optimizer
    config.update(changes)
    return config


def run(config):
    optimizer = optimizers.create(config, optax.constant_schedule(RATE))
    params = jnp.asarray(START, jnp.float32)
    state = optimizer.init(params)
    for grad in GRADS:
        updates, state = optimizer.update(jnp.asarray(grad, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
    return params


def adam(*, decoupled: bool):
    params, m, v = START.copy(), np.zeros(3), np.zeros(3)
    for t, grad in enumerate(GRADS, 1):
        grad = grad if decoupled else grad + DECAY * params
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        update = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        params = params - RATE * (update + (DECAY * params if decoupled else 0))
    return params


def momentum(beta: float, *, nesterov: bool = False, clip=lambda grad: grad):
    params, velocity = START.copy(), np.zeros(3)
    for grad in GRADS:
        grad = clip(grad) + DECAY * params
        velocity = beta * velocity + grad
        params = params - RATE * (grad + beta * velocity if nesterov else velocity)
    return params


def rmsprop(decay: float):
    params, square = START.copy(), np.zeros(3)
    for grad in GRADS:
        grad = grad + DECAY * params
        square = decay * square + (1 - decay) * grad**2
        params = params - RATE * grad / (np.sqrt(square) + 1e-8)
    return params


def adagrad():
    params, square = START.copy(), np.zeros(3)
    for grad in GRADS:
        grad = grad + DECAY * params
        square = square + grad**2
        params = params - RATE * grad / (np.sqrt(square) + 1e-8)
    return params


def to_norm(grad):
    return grad * min(1, 0.5 / np.linalg.norm(grad))


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"name": "adam"}, adam(decoupled=False)),
        ({"name": "adamw"}, adam(decoupled=True)),
        ({"name": "sgd"}, momentum(0.0)),
        ({"name": "rmsprop", "beta2": 0.9}, rmsprop(0.9)),
        ({"name": "adagrad"}, adagrad()),
        ({"name": "sgd", "momentum": 0.9}, momentum(0.9)),
        ({"name": "sgd", "momentum": 0.9, "nesterov": True}, momentum(0.9, nesterov=True)),
        ({"name": "sgd", "clip_value": 0.1}, momentum(0.0, clip=lambda grad: grad.clip(-0.1, 0.1))),
        ({"name": "sgd", "clip_norm": 0.5}, momentum(0.0, clip=to_norm)),
    ],
)
def test_optimizer_equals_its_formula(changes, expected):
    np.testing.assert_allclose(run(options(weight_decay=DECAY, **changes)), expected, rtol=1e-4)


def quadratic(config, steps=200):
    """What an optimizer makes of a dense layer whose kernel should be the identity; the loss after."""
    params = {"kernel": jnp.full((4, 4), 0.5), "bias": jnp.ones(4)}

    def loss(params):
        return ((params["kernel"] - jnp.eye(4)) ** 2).sum() + (params["bias"] ** 2).sum()

    optimizer = optimizers.create(config, optax.cosine_decay_schedule(0.05, steps))
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(
            jax.grad(loss)(params), state, params, grad_fn=lambda params, _: jax.grad(loss)(params)
        )
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return float(loss(optimizers.evaluation_params(state, params)))


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_of_the_table_minimizes(name):
    assert quadratic(options(name=name)) < 0.5  # at first it is 7


def test_muon_turns_the_gradient_of_a_kernel_into_an_orthogonal_matrix():
    params = {"kernel": jnp.zeros((3, 3, 4, 8)), "bias": jnp.zeros(8)}
    grads = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(leaf.ndim), leaf.shape), params
    )
    optimizer = optimizers.create(options(name="muon"), optax.constant_schedule(1.0))
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    singular = np.linalg.svd(np.asarray(updates["kernel"]).reshape(36, 8), compute_uv=False)
    assert singular.min() > 0.5 * singular.max()
    steps = np.abs(updates["bias"])  # Adam's first step is the same for every entry
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)


def test_sam_takes_the_gradient_at_the_worst_point_nearby():
    params = jnp.asarray([3.0, -4.0])
    scales = jnp.asarray([1.0, 10.0])

    def gradient(params):
        return scales * params

    config = options(name="sam", rho=0.1)
    optimizer = optimizers.create(config, optax.constant_schedule(0.01))
    updates, _ = optimizer.update(
        gradient(params), optimizer.init(params), params, grad_fn=lambda p, _: gradient(p)
    )
    grads = gradient(params)
    nearby = params + 0.1 * grads / jnp.linalg.norm(grads)
    np.testing.assert_allclose(updates, -0.01 * gradient(nearby), rtol=1e-5)


@pytest.mark.parametrize(
    "clip, length", [({}, 5e3), ({"clip_norm": 1.0}, 1.0), ({"clip_value": 2.0}, 8**0.5)]
)
def test_sam_clips_the_gradient_of_its_step(clip, length):
    params = jnp.asarray([30.0, -40.0])
    config = options(name="sam", rho=1e-6, **clip)
    optimizer = optimizers.create(config, optax.constant_schedule(0.1))
    updates, _ = optimizer.update(
        100 * params, optimizer.init(params), params, grad_fn=lambda p, _: 100 * p
    )
    assert np.linalg.norm(updates) == pytest.approx(0.1 * length, rel=1e-4)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"optimizer.multipliers": (("kernel", 0.1),)}, "optimizer.multipliers"),
        ({"optimizer.beta1": 0.0}, "optimizer.beta1=0"),
        ({"schedule.name": "plateau"}, "schedule.name=plateau"),
    ],
)
def test_what_an_average_of_weights_does_not_go_with_is_refused(changes, named):
    config = base.get_config()
    config.update_from_flattened_dict({"optimizer.name": "schedule_free_adamw"} | changes)
    with pytest.raises(ConfigError, match=f"average does not go with {named}: leave one"):
        checks.check(config)


def test_schedule_free_validates_an_average():
    optimizer = optimizers.create(options(name="schedule_free_adamw"), lambda _: 0.1)
    params = {"kernel": jnp.ones((2, 2))}
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
    average = optimizers.evaluation_params(state, params)
    assert np.abs(average["kernel"] - params["kernel"]).max() > 1e-4
    adam = optimizers.create(options(name="adam"), lambda _: 0.1)
    assert optimizers.evaluation_params(adam.init(params), params) is params


def test_the_factor_of_a_plateau_multiplies_the_update():
    optimizer = optimizers.create(options(name="sgd"), lambda _: 0.5, has_plateau=True)
    params = jnp.ones(3)
    state = optimizers.set_plateau_factor(optimizer.init(params), jnp.float32(0.1))
    updates, state = optimizer.update(jnp.ones(3), state, params)
    np.testing.assert_allclose(updates, -0.05)
    assert float(optimizers.plateau_factor(state)) == pytest.approx(0.1)


def test_there_is_no_optimizer_of_that_name():
    with pytest.raises(ConfigError, match="Did you mean 'adam'"):
        optimizers.create(options(name="adm"), RATE)


def test_factors_on_the_rate_and_decay_of_kernels_alone():
    params = {
        "dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
        "bn": {"bias": jnp.ones(2)},
    }
    optimizer = optimizers.create(
        options(
            name="sgd",
            weight_decay=DECAY,
            decay_vectors=False,
            multipliers=(("^bn/", 64.0), ("bias", 2.0)),
        ),
        optax.constant_schedule(-1.0),
    )
    update, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_allclose(update["dense"]["kernel"], 1 + DECAY)
    np.testing.assert_allclose(update["dense"]["bias"], 2)
    np.testing.assert_allclose(update["bn"]["bias"], 64)  # the first pattern that is found


def test_a_pattern_that_is_found_nowhere():
    optimizer = optimizers.create(
        options(multipliers=(("desne", 2.0),)), optax.constant_schedule(RATE)
    )
    with pytest.raises(ConfigError, match="'desne' is found in no parameter's path.*dense/kernel"):
        optimizer.init({"dense": {"kernel": jnp.ones((2, 2))}})


def rates(epochs=10, steps_per_epoch=10, **changes):
    config = base.get_config().schedule
    config.update(changes)
    schedule = schedules.create(config, peak=0.5, epochs=epochs, steps_per_epoch=steps_per_epoch)
    return np.array([float(schedule(step)) for step in range(epochs * steps_per_epoch)])


def test_constant_and_plateau_keep_the_peak():
    for name in ("constant", "plateau"):
        assert np.allclose(rates(name=name), 0.5)


def test_cosine():
    step = np.arange(100)
    expected = 0.5 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * step / 100)))
    np.testing.assert_allclose(rates(name="cosine", end_factor=0.1), expected, rtol=1e-5)


def test_linear():
    np.testing.assert_allclose(
        rates(name="linear", end_factor=0.1), 0.5 - 0.45 * np.arange(100) / 100, rtol=1e-5
    )


def test_step():
    expected = np.repeat([0.5, 0.1, 0.02], [30, 40, 30])
    np.testing.assert_allclose(
        rates(name="step", step_epochs=(3, 7), factor=0.2), expected, rtol=1e-5
    )


def test_two_falls_at_one_step_are_both_made():
    values = rates(name="step", step_epochs=(3, 3.01), factor=0.2)
    assert np.isclose(values[29], 0.5) and np.isclose(values[30], 0.02)


def test_falls_after_the_last_epoch_are_told():
    config = base.get_config().schedule
    config.update(name="step", step_epochs=(3, 10, 12))
    assert schedules.unreached(config, 10) == [10, 12]
    config.name = "cosine"
    assert schedules.unreached(config, 10) == []


def test_a_short_warmup_is_at_least_a_step():
    values = rates(name="constant", warmup_epochs=0.01)
    assert values[0] == 0 and np.allclose(values[1:], 0.5)
    (only,) = rates(name="constant", warmup_epochs=0.5, epochs=1, steps_per_epoch=1)
    assert only == 0.5  # which a warm-up would leave at 0


def test_onecycle_rises_to_the_peak_and_falls():
    values = rates(name="onecycle", pct_start=0.3)
    assert values.argmax() == 30 and np.isclose(values[30], 0.5)
    assert (
        (np.diff(values[:31]) > 0).all() and (np.diff(values[30:]) < 0).all() and values[-1] < 0.01
    )


def test_warmup_rises_linearly_then_the_schedule_follows():
    expected = np.minimum(np.arange(100) / 20, 1) * 0.5
    np.testing.assert_allclose(rates(name="constant", warmup_epochs=2.0), expected, rtol=1e-5)
    cosine = rates(name="cosine", warmup_epochs=2.0)
    np.testing.assert_allclose(
        cosine[20:], 0.25 * (1 + np.cos(np.pi * np.arange(80) / 80)), atol=1e-6
    )
    falls = rates(name="step", warmup_epochs=2.0, step_epochs=(3,), factor=0.1)
    assert np.isclose(falls[29], 0.5) and np.isclose(falls[30], 0.05)


@pytest.mark.parametrize(
    "changes",
    [{"name": "cosin"}, {"warmup_epochs": 10.0}, {"name": "onecycle", "warmup_epochs": 1.0}],
)
def test_schedule_refuses_what_cannot_be(changes):
    with pytest.raises(
        ConfigError, match="Did you mean 'cosine'|fewer than train.epochs|warm-up of its own"
    ):
        rates(**changes)


def test_cross_entropy_with_smoothing():
    logits = np.random.default_rng(0).normal(size=(4, 5))
    labels = np.array([0, 4, 2, 2])
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = 0.9 * np.eye(5)[labels] + 0.1 / 5
    np.testing.assert_allclose(
        losses.cross_entropy(jnp.asarray(logits), labels), -log_p[range(4), labels], rtol=1e-5
    )
    np.testing.assert_allclose(
        losses.cross_entropy(jnp.asarray(logits), labels, smoothing=0.1),
        -(targets * log_p).sum(-1),
        rtol=1e-5,
    )
