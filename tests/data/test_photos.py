"""The small set of real photos that three photos of installed packages make."""

import hashlib

import numpy as np
from PIL import Image

from imgcls_jax.data import photos


def test_a_folder_a_class_always_the_same(tmp_path):
    pieces = {"train": 3, "test": 2}
    folders = [photos.write(tmp_path / name, pieces) for name in ("first", "second")]
    files = [
        sorted(path.relative_to(folder) for path in folder.rglob("*.jpg")) for folder in folders
    ]
    assert files[0] == files[1] and len(files[0]) == 3 * (3 + 2)
    assert {path.parts[:2] for path in files[0]} == {
        (split, name) for split in pieces for name in ("building", "flower", "person")
    }
    digests = [
        [hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in files[0]]
        for folder in folders
    ]
    assert digests[0] == digests[1] and len(set(digests[0])) == len(files[0])
    assert sum(photos.PIECES.values()) * 3 == 300


def test_test_pieces_show_columns_that_no_training_piece_shows():
    assert 0 < photos.REACH <= min(min(middle, 1 - middle) for middle in photos.MIDDLES.values())
    columns = np.zeros((427, 640, 3), np.uint8)
    columns[:, :320] = (255, 0, 0)  # red is for training, blue for test
    columns[:, 320:] = (0, 0, 255)
    photo, random = Image.fromarray(columns), np.random.default_rng(0)
    for start, stop, channel in ((109, 320, 0), (320, 531, 2)):
        for _ in range(20):
            piece = np.asarray(photos.cut(photo, start, stop, random))
            assert photos.SIDES[0] <= len(piece) == piece.shape[1] <= photos.SIDES[1]
            assert piece[..., channel].min() > 200 and np.delete(piece, channel, axis=-1).max() == 0
