"""Scores of strangeness, and the images that choose between them."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from imgcls_jax.evaluation import strangeness
from imgcls_jax.evaluation.strangeness import NUM_NEIGHBOURS, Neighbours, Outputs


def outputs(count: int = 50, seed: int = 0) -> Outputs:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 8)).astype(np.float32)
    return Outputs(features, features[:, :3])


def test_probability_and_energy_by_hand():
    logits = np.log(np.array([[8.0, 1, 1], [2, 2, 4]], np.float32))
    scored = Outputs(logits, logits)
    np.testing.assert_allclose(strangeness.score("max_probability", scored), [0.2, 0.5])
    np.testing.assert_allclose(strangeness.score("energy", scored), -np.log([10, 8]), rtol=1e-6)


def test_distances_are_scikit_learns(monkeypatch):
    monkeypatch.setattr(strangeness, "AT_ONCE", 7)
    known, new = outputs(), outputs(20, seed=1)
    neighbours = Neighbours(known.features)
    unit = known.features / np.linalg.norm(known.features, axis=-1, keepdims=True)
    search = NearestNeighbors(n_neighbors=NUM_NEIGHBOURS).fit(unit)
    new_unit = new.features / np.linalg.norm(new.features, axis=-1, keepdims=True)
    expected = search.kneighbors(new_unit)[0][:, -1]
    np.testing.assert_allclose(strangeness.score("nearest", new, neighbours), expected, atol=2e-3)
    among_themselves = strangeness.score("nearest", known, neighbours, are_neighbours=True)
    np.testing.assert_allclose(among_themselves, search.kneighbors()[0][:, -1], atol=2e-3)


def test_few_neighbours_and_features_of_zero():
    neighbours = Neighbours(np.eye(2, 3, dtype=np.float32))
    distances = neighbours.distances(np.zeros((1, 3), np.float32))
    np.testing.assert_allclose(distances, np.sqrt(2))
    distances = neighbours.distances(np.eye(2, 3, dtype=np.float32), are_neighbours=True)
    np.testing.assert_allclose(distances, np.sqrt(2))


def test_auroc_is_scikit_learns_with_equal_scores_too():
    rng = np.random.default_rng(0)
    usual = rng.integers(0, 10, 70)
    strange = rng.integers(4, 14, 30)
    expected = roc_auc_score([0] * 70 + [1] * 30, [*usual, *strange])
    assert strangeness.auroc(usual, strange) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(8, 8, 1), (30, 17, 3)])
def test_shuffled_images_have_their_tiles_elsewhere(shape):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, *shape), dtype=np.uint8)
    before = images.copy()
    shuffled = strangeness.shuffled(images, np.zeros(5), rng)
    assert (images == before).all() and (shuffled != images).any((1, 2, 3)).all()
    np.testing.assert_array_equal(np.sort(shuffled.reshape(5, -1)), np.sort(images.reshape(5, -1)))
    height, width = shape[0] // 4, shape[1] // 4
    tiles = [
        images[0, y * height : (y + 1) * height, x * width : (x + 1) * width]
        for y in range(4)
        for x in range(4)
    ]
    first = shuffled[0, :height, :width]
    assert sum(np.array_equal(first, tile) for tile in tiles) == 1
    np.testing.assert_array_equal(shuffled[:, 4 * height :], images[:, 4 * height :])


def test_mixed_images_are_of_two_classes():
    labels = np.array([0, 1, 2, 0, 1, 2])
    images = np.zeros((6, 2, 2, 1), np.uint8) + (100 * labels[:, None, None, None]).astype(np.uint8)
    mixed = strangeness.mixed(images, labels, np.random.default_rng(0))
    assert len(mixed) == 6
    assert set(np.unique(mixed)) <= {50, 100, 150}
    assert not len(strangeness.mixed(images, np.zeros(6), np.random.default_rng(0)))


def test_noise_has_the_shape_of_the_images():
    images = np.zeros((3, 8, 8, 1), np.uint8)
    noise = strangeness.noise(images, np.zeros(3), np.random.default_rng(0))
    assert noise.shape == images.shape and noise.dtype == np.uint8 and noise.std() > 50
