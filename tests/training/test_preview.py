import numpy as np

from configs import base
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.training import preview

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
TRAIN = Dataset(IMAGES, np.arange(20, dtype=np.int32) % 2, ("a", "b"))


def draw(transform):
    config = base.get_config()
    config.train.batch_size = 16
    config.data.transform = transform
    return preview.draw(config, TRAIN)


def test_what_normalizes_is_undone():
    shown = draw("bgr|normalize(imagenet)")
    assert shown.images.shape == (8, 7, 8, 8, 3)
    for draws, index in zip(shown.images, shown.indices, strict=True):
        for each in draws:
            np.testing.assert_allclose(each.astype(int), IMAGES[index], atol=1)
    assert "16x8x8x3" in shown.words


def test_draws_differ_and_alternate():
    shown = draw("alternating_flip")
    for draws, index in zip(shown.images, shown.indices, strict=True):
        one, other, again = draws[0], draws[1], draws[2]
        assert (one == again).all() and (one == other[:, ::-1]).all()
        assert (
            np.abs(one.astype(int) - IMAGES[index]).max() <= 1
            or np.abs(other.astype(int) - IMAGES[index]).max() <= 1
        )
    assert (draw("random_crop(2)|mixup").images[:, 0] != draw("random_crop(2)").images[:, 0]).any()
