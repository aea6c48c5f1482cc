import jax.numpy as jnp
import numpy as np

from imgcls_jax.data.views import VIEWS

IMAGES = jnp.asarray(np.random.default_rng(0).random((2, 5, 6, 3)), jnp.float32)


def test_flip():
    same, mirrored = (view(IMAGES) for _, view in VIEWS["flip"])
    np.testing.assert_array_equal(same, IMAGES)
    np.testing.assert_array_equal(mirrored, IMAGES[:, :, ::-1])


def test_shifts_move_by_a_pixel_and_reflect():
    views = [np.asarray(view(IMAGES)) for _, view in VIEWS["flip_shift"]]
    centre, shifted = np.asarray(IMAGES), views[2]
    assert len(views) == 6 and np.array_equal(views[0], centre)
    np.testing.assert_array_equal(shifted[:, 1:, 1:], centre[:, :-1, :-1])
    np.testing.assert_array_equal(shifted[:, 0, 1:], centre[:, 1, :-1])
    np.testing.assert_array_equal(views[4][:, :-1, :-1], centre[:, 1:, 1:])
    for i in range(0, 6, 2):
        np.testing.assert_array_equal(views[i + 1], views[i][:, :, ::-1])


def test_weights_add_up():
    for views in VIEWS.values():
        assert sum(weight for weight, _ in views) == 1
